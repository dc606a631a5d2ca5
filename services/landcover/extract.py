"""Extracts of a scene for people to look at: about the resolution that is asked for, from as little as will do.

Not for networks: windows (`landcover.kinds.Windows`) are exact, extracts may come from overviews or lower zooms made by
others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine

from landcover.kinds import Windows
from landcover.scene import Scene

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in the scene's CRS."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Extract:
    """A part of a scene; it may be larger than what was asked for."""

    pixels: npt.NDArray[np.uint8]
    """`(height, width, 3)`."""
    valid: npt.NDArray[np.bool_]
    """`(height, width)`, True where there is data."""
    transform: Affine
    """(column, row) of these pixels → the scene's CRS."""


def empty(transform: Affine) -> Extract:
    """One pixel without data."""
    return Extract(pixels=np.zeros((1, 1, 3), np.uint8), valid=np.zeros((1, 1), np.bool_), transform=transform)


def extract_by_windows(windows: Windows, scene: Scene, box: Box, pixel: float) -> Extract:
    """The part of `scene` inside `box` in pixels of at most `pixel` (units of the CRS), if its own are as small.

    By powers of two, which overviews have.

    Raises:
        SceneUnreadable, SceneTooSlow, SceneChanged, SceneUnsupported: as `Windows.read`.
    """
    left, bottom, right, top = box
    corners = [~scene.transform @ corner for corner in ((left, top), (right, top), (left, bottom), (right, bottom))]
    own_pixel = math.sqrt(abs(scene.transform.determinant))
    coarsest = min(scene.width_px, scene.height_px)  # the whole scene is padded to multiples of k
    k = 2 ** math.floor(math.log2(min(max(pixel / own_pixel * (1 + 1e-9), 1), coarsest)))
    cols = _range([col for col, _ in corners], k, scene.width_px)
    rows = _range([row for _, row in corners], k, scene.height_px)
    transform = scene.transform @ Affine.translation(cols[0] * k, rows[0] * k) @ Affine.scale(k)
    if rows[0] >= rows[1] or cols[0] >= cols[1]:
        return empty(transform)
    pixels, valid = windows.read(scene, k, rows, cols)
    return Extract(pixels=pixels, valid=valid, transform=transform)


def _range(positions: list[float], k: int, size: int) -> tuple[int, int]:
    """First and past the last, in pixels of k × k, with one to spare on either side."""
    return max(0, math.floor(min(positions) / k) - 1), min(-(-size // k), math.ceil(max(positions) / k) + 1)
