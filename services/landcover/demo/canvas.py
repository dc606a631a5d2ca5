"""The canvas that a scene is painted on: per pixel its class, paint, height and relief.

The canvas has straight axes; `render` turns and bends it into the image. Rows are `v`, columns are `u`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from landcover.demo.noise import fractal_noise

BARELAND, RANGELAND, DEVELOPED, ROAD, TREE, WATER, AGRICULTURE, BUILDING = range(1, 9)

Rgb = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Rect:
    """A rectangle of canvas pixels, half-open: rows `v0:v1`, columns `u0:u1`."""

    v0: int
    v1: int
    u0: int
    u1: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.v1 - self.v0

    @property
    def width(self) -> int:
        """Columns."""
        return self.u1 - self.u0

    @property
    def area(self) -> int:
        """Pixels."""
        return max(self.height, 0) * max(self.width, 0)

    def inset(self, margin: int) -> Rect:
        """The rectangle less `margin` pixels on each side."""
        return Rect(v0=self.v0 + margin, v1=self.v1 - margin, u0=self.u0 + margin, u1=self.u1 - margin)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in a `(v, u)` array; parts beyond the upper or left edge are cut off."""
        return slice(max(self.v0, 0), max(self.v1, 0)), slice(max(self.u0, 0), max(self.u1, 0))


@dataclass
class Paints:
    """Surface colours and their texture, looked up by the paint number of a pixel."""

    rgb: list[Rgb] = field(default_factory=list)
    """0..255."""
    grain: list[float] = field(default_factory=list)
    """Strength of pixel-to-pixel texture, as a share of the colour."""
    mottle: list[float] = field(default_factory=list)
    """Strength of patches some metres across, as a share of the colour."""

    def add(self, rgb: Rgb, *, grain: float = 0.03, mottle: float = 0.05) -> int:
        """Register a paint; its number."""
        self.rgb.append(rgb)
        self.grain.append(grain)
        self.mottle.append(mottle)
        return len(self.rgb) - 1


@dataclass(frozen=True)
class Crown:
    """A tree crown's stamp, all `(side, side)`."""

    mask: npt.NDArray[np.bool_]
    height_dm: npt.NDArray[np.uint8]
    relief: npt.NDArray[np.int8]


class Canvas:
    """Arrays `(height, width)` of the scene before it is turned into an image."""

    def __init__(self, height_px: int, width_px: int) -> None:
        shape = (height_px, width_px)
        self.paints = Paints()
        self.cover = np.zeros(shape, dtype=np.uint8)
        """Class value, 1..8."""
        self.paint = np.zeros(shape, dtype=np.uint16)
        """Number of the paint."""
        self.height_dm = np.zeros(shape, dtype=np.uint8)
        """Height above ground in decimetres: what casts a shadow."""
        self.relief = np.zeros(shape, dtype=np.int8)
        """Brightness added by slope, rows or markings, in percent."""
        self.no_building = np.zeros(shape, dtype=np.bool_)
        """Where nothing may be built: water and its banks."""

    @property
    def extent(self) -> Rect:
        """The whole canvas."""
        return Rect(v0=0, v1=self.cover.shape[0], u0=0, u1=self.cover.shape[1])

    def fill(self, rect: Rect, cover: int, paint: int, *, height_dm: int = 0, relief: int = 0) -> None:
        """Paint a rectangle."""
        at = rect.slices
        self.cover[at] = cover
        self.paint[at] = paint
        self.height_dm[at] = height_dm
        self.relief[at] = relief

    def fill_mask(self, rect: Rect, mask: npt.NDArray[np.bool_], cover: int, paint: int) -> None:
        """Paint the flat pixels of `mask`, which has the shape of `rect` inside the canvas."""
        at = rect.slices
        self.cover[at][mask] = cover
        self.paint[at][mask] = paint
        self.height_dm[at][mask] = 0
        self.relief[at][mask] = 0

    def holds(self, rect: Rect) -> bool:
        """Whether `rect` lies wholly on the canvas and where building is allowed."""
        inside = rect.v0 >= 0 and rect.u0 >= 0 and rect.v1 <= self.cover.shape[0] and rect.u1 <= self.cover.shape[1]
        return inside and not self.no_building[rect.slices].any()

    def plant(self, crown: Crown, v: int, u: int, paint: int, *, only_on: frozenset[int]) -> None:
        """Stamp a tree crown whose centre is at row `v`, column `u`, unless the ground there is another."""
        if not (0 <= v < self.cover.shape[0] and 0 <= u < self.cover.shape[1]):
            return
        if int(self.cover[v, u]) not in only_on:
            return
        side = crown.mask.shape[0]
        top, left = v - side // 2, u - side // 2
        if top < 0 or left < 0 or top + side > self.cover.shape[0] or left + side > self.cover.shape[1]:
            return
        at = slice(top, top + side), slice(left, left + side)
        # A crown shows where it is higher than what stands there.
        seen = crown.mask & (crown.height_dm > self.height_dm[at])
        np.copyto(self.cover[at], np.uint8(TREE), where=seen)
        np.copyto(self.paint[at], np.uint16(paint), where=seen)
        np.copyto(self.height_dm[at], crown.height_dm, where=seen)
        np.copyto(self.relief[at], crown.relief, where=seen)


def make_crowns(rng: np.random.Generator, sun_uv: tuple[float, float]) -> list[Crown]:
    """Crowns of 3 to 11 m across, several of each size, lit from `sun_uv` (row, column direction to the sun)."""
    crowns = []
    for radius in range(3, 12):
        for _ in range(5):
            side = 2 * radius + 3
            axis = np.arange(side) - side // 2
            v, u = axis[:, None].astype(np.float32), axis[None, :].astype(np.float32)
            lumps = fractal_noise(rng, side, side, max(2.0, radius / 1.5), 2)
            distance = np.hypot(v, u) / radius + 0.22 * lumps
            dome = np.sqrt(np.clip(1 - distance**2, 0, 1))
            light = (v * sun_uv[0] + u * sun_uv[1]) / radius
            relief = 22 * light + 20 * lumps + 14 * (dome - 0.6)
            crowns.append(
                Crown(
                    mask=distance < 1,
                    height_dm=np.clip((8 + 9 * radius) * (0.45 + 0.55 * dome), 0, 120).astype(np.uint8),
                    relief=np.clip(relief, -55, 45).astype(np.int8),
                )
            )
    return crowns


def split(
    rng: np.random.Generator, rect: Rect, side_px: float, gap_px: int
) -> tuple[list[Rect], list[tuple[Rect, bool]]]:
    """Halve `rect` until its parts are about `side_px` across, leaving a gap between the halves.

    Returns the parts, and the gaps with whether each runs along `u`.
    """
    parts: list[Rect] = []
    gaps: list[tuple[Rect, bool]] = []
    todo = [rect]
    while todo:
        each = todo.pop()
        cut_rows = each.height > each.width * rng.uniform(0.8, 1.25)
        length = each.height if cut_rows else each.width
        if length < side_px * 1.7 or length < 2 * gap_px + 16 or each.area < 1.8 * side_px * side_px:
            parts.append(each)
            continue
        at = round(length * rng.uniform(0.36, 0.64))
        low, high = at - gap_px // 2, at - gap_px // 2 + gap_px
        if cut_rows:
            gaps.append((Rect(v0=each.v0 + low, v1=each.v0 + high, u0=each.u0, u1=each.u1), True))
            todo.append(Rect(v0=each.v0, v1=each.v0 + low, u0=each.u0, u1=each.u1))
            todo.append(Rect(v0=each.v0 + high, v1=each.v1, u0=each.u0, u1=each.u1))
        else:
            gaps.append((Rect(v0=each.v0, v1=each.v1, u0=each.u0 + low, u1=each.u0 + high), False))
            todo.append(Rect(v0=each.v0, v1=each.v1, u0=each.u0, u1=each.u0 + low))
            todo.append(Rect(v0=each.v0, v1=each.v1, u0=each.u0 + high, u1=each.u1))
    return parts, gaps


def metres(length_m: float) -> int:
    """Canvas pixels of a length; a pixel is half a metre."""
    return math.ceil(length_m / 0.5)
