"""Arrays as small pictures for reports: photograph, class map, errors, confidence. No figures and no page here."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from landcover.classes import UNKNOWN, LandCoverClass, palette
from landcover_export.evaluation.evaluate import CONFIDENT
from landcover_export.evaluation.mapping import ByteArray

WRONG, SURELY_WRONG, UNLABELLED = "#f39c12", "#c2185b", "#9fb3c8"
"""Colours of an error map; right pixels show the photograph, pale and grey."""

CONFIDENCE_RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""From 0 to 1: Viridis (Smith and van der Walt, 2015), even to the eye and safe for the colour-blind."""

_LEVELS = 32
_JPEG_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An encoded picture and what it shows."""

    shows: str
    """In words, for those who cannot see it."""
    data: bytes
    media_type: Literal["image/jpeg", "image/png"]
    width_px: int
    height_px: int

    @property
    def uri(self) -> str:
        """A `data:` URI: the page needs no other file."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"

    @property
    def suffix(self) -> str:
        """Of a file that holds it."""
        return ".jpg" if self.media_type == "image/jpeg" else ".png"


def photograph(image: ByteArray, side_px: int, shows: str) -> Picture:
    """`image` `(height, width, 3)`, at most `side_px` long."""
    return _jpeg(_reduced(Image.fromarray(image), side_px, Image.Resampling.BOX), shows)


def class_map(values: ByteArray, classes: Sequence[LandCoverClass], side_px: int, shows: str) -> Picture:
    """Class values `(height, width)` in their colours; 0 is transparent."""
    picture = Image.fromarray(values)
    picture.putpalette(palette(classes)[:, :3].tobytes())
    return _png(_reduced(picture, side_px, Image.Resampling.NEAREST), shows, transparent=UNKNOWN)


def confidence_map(confidence: ByteArray, side_px: int, shows: str) -> Picture:
    """Confidence 0..255 `(height, width)`, dark where the model doubts."""
    picture = Image.fromarray((confidence.astype(np.uint16) * _LEVELS // 256).astype(np.uint8))
    picture.putpalette(_ramp().tobytes())
    return _png(_reduced(picture, side_px, Image.Resampling.NEAREST), shows)


def error_map(
    image: ByteArray, label: ByteArray, classes: ByteArray, confidence: ByteArray, side_px: int, shows: str
) -> Picture:
    """Where `classes` differ from `label`, over the pale photograph; all `(height, width)`, `image` with 3 bands."""
    grey = 140 + image.mean(axis=2, keepdims=True) * 0.45
    pixels = np.broadcast_to(np.clip(grey, 0, 255), image.shape).astype(np.uint8)
    wrong = (label != UNKNOWN) & (label != classes)
    pixels[wrong] = _rgb(WRONG)
    pixels[wrong & (confidence >= CONFIDENT)] = _rgb(SURELY_WRONG)
    pixels[label == UNKNOWN] = _rgb(UNLABELLED)
    return _jpeg(_reduced(Image.fromarray(pixels), side_px, Image.Resampling.BOX), shows)


def _reduced(picture: Image.Image, side_px: int, resampling: Image.Resampling) -> Image.Image:
    """At most `side_px` on the longer side; never enlarged."""
    factor = side_px / max(picture.size)
    if factor >= 1:
        return picture
    return picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))), resampling)


def _jpeg(picture: Image.Image, shows: str) -> Picture:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return Picture(
        shows=shows,
        data=buffer.getvalue(),
        media_type="image/jpeg",
        width_px=picture.width,
        height_px=picture.height,
    )


def _png(picture: Image.Image, shows: str, transparent: int | None = None) -> Picture:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, transparency=transparent)
    return Picture(
        shows=shows, data=buffer.getvalue(), media_type="image/png", width_px=picture.width, height_px=picture.height
    )


@cache
def _ramp() -> ByteArray:
    """`(levels, 3)`."""
    stops = np.array([_rgb(each) for each in CONFIDENCE_RAMP], dtype=np.float64)
    at = np.linspace(0, len(stops) - 1, _LEVELS)
    return np.stack([np.interp(at, np.arange(len(stops)), stops[:, band]) for band in range(3)], axis=1).astype(
        np.uint8
    )


def _rgb(code: str) -> tuple[int, int, int]:
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)
