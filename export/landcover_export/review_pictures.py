"""Pictures of ranked windows, for people to look at: image, class map and confidence side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from landcover.atomic import atomic_path
from landcover.classes import LandCoverClass, palette
from landcover.review import ByteArray

PANEL_PX = 384
"""Side of the longer edge of each panel: small windows are enlarged, pixel by pixel."""
_GAP_PX = 6


def panels(image: ByteArray, classes: ByteArray, confidence: ByteArray, legend: Iterable[LandCoverClass]) -> list[Any]:
    """Three pictures of one window: the image `(height, width, 3)`, the map in its colours, confidence from black."""
    return [
        Image.fromarray(np.ascontiguousarray(image)),
        Image.fromarray(palette(legend)[classes][..., :3]),
        Image.fromarray(np.ascontiguousarray(confidence)).convert("RGB"),
    ]


def write_picture(path: Path, pictures: Sequence[Any]) -> None:
    """Write `pictures` side by side as one PNG."""
    shown = [_fitted(each.convert("RGB")) for each in pictures]
    width = sum(each.width for each in shown) + _GAP_PX * (len(shown) - 1)
    sheet = Image.new("RGB", (width, max(each.height for each in shown)), "white")
    left = 0
    for each in shown:
        sheet.paste(each, (left, 0))
        left += each.width + _GAP_PX
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def picture_name(properties: dict[str, Any]) -> str:
    """The file name of a ranked window; names sort by rank."""
    return f"{properties['rank']:04}-row{properties['row_px']}-col{properties['col_px']}.png"


def _fitted(picture: Any) -> Any:
    scale = PANEL_PX / max(picture.size)
    size = tuple(max(1, round(edge * scale)) for edge in picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
