"""Class maps and confidence as image files: palette PNG and WebP, GeoTIFF with a colour table, npy."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from rasterio.io import MemoryFile
from rasterio.transform import from_bounds

from landcover.block import Layer
from landcover.classes import LandCoverClass, palette
from landcover_api.sampling import Extent

UInt8Array = npt.NDArray[np.uint8]


class ImageFormat(StrEnum):
    """What a tile can be; the value is its extension."""

    PNG = "png"
    WEBP = "webp"
    TIF = "tif"
    NPY = "npy"

    @property
    def media_type(self) -> str:
        """For `Content-Type`."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    ImageFormat.PNG: "image/png",
    ImageFormat.WEBP: "image/webp",
    ImageFormat.TIF: "image/tiff; application=geotiff",
    ImageFormat.NPY: "application/x-binary",
}

RENDER_VERSION = 1
"""Part of a rendered tile's key and ETag: raise it when the same blocks would be drawn differently."""

# Viridis at eight steps (van der Walt & Smith 2015): even to the eye, and to colour-blind eyes.
_VIRIDIS = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image to encode."""

    pixels: UInt8Array
    """`(height, width)`, 0 = nothing to show."""
    colors: UInt8Array
    """RGBA of each value, `(256, 4)`."""
    extent: Extent


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How pixels are shown: what a client chooses beside the place."""

    layer: Layer
    only: tuple[int, ...] | None
    """Class values to show; None for all."""
    tilesize: int
    format: ImageFormat

    @property
    def key(self) -> str:
        """For cache keys: two renderings with the same key have the same bytes."""
        only = "all" if self.only is None else ",".join(map(str, self.only))
        return f"r{RENDER_VERSION}:{self.layer}:{only}:{self.tilesize}:{self.format}"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that must be read: a filter needs the class map whatever is shown."""
        return ("class",) if self.layer == "class" else ("class", "confidence")


def render(picture: Picture, image_format: ImageFormat) -> bytes:
    """Encode `picture`."""
    return _ENCODERS[image_format](picture)


def colors_of(layer: Layer, classes: Iterable[LandCoverClass]) -> UInt8Array:
    """The colour table of a layer, `(256, 4)` RGBA; value 0 is transparent."""
    return palette(classes) if layer == "class" else confidence_colors()


@lru_cache(maxsize=1)
def confidence_colors() -> UInt8Array:
    """Viridis over 1..255, `(256, 4)`; 0 is transparent."""
    stops = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in _VIRIDIS], dtype=float)
    position = np.linspace(0, 255, len(stops))
    table = np.full((256, 4), 255, np.uint8)
    for band in range(3):
        table[:, band] = np.interp(np.arange(256), position, stops[:, band]).round()
    table[0] = 0
    return table


def _encode_png(picture: Picture) -> bytes:
    """An 8-bit palette, 4-bit when sixteen colours are enough: a few kB where RGBA takes tens."""
    image = Image.fromarray(picture.pixels)
    used = int(picture.colors[:, 3].nonzero()[0].max(initial=0)) + 1
    image.putpalette(picture.colors[:used, :3].tobytes(), "RGB")
    alpha = picture.colors[:used, 3].tobytes()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=alpha, bits=4 if used <= 16 else 8, compress_level=6)
    return buffer.getvalue()


def _encode_webp(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.colors[picture.pixels]).save(buffer, "WEBP", lossless=True, quality=20, method=0)
    return buffer.getvalue()


def _encode_tif(picture: Picture) -> bytes:
    """One band of values with their colours; 0 is nodata."""
    extent = picture.extent
    height, width = picture.pixels.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            dtype="uint8",
            count=1,
            width=width,
            height=height,
            crs=extent.crs,
            transform=from_bounds(extent.xmin, extent.ymin, extent.xmax, extent.ymax, width, height),
            nodata=0,
            compress="deflate",
        ) as image:
            image.write(picture.pixels, 1)
            image.write_colormap(1, {value: tuple(rgba) for value, rgba in enumerate(picture.colors.tolist())})
        return bytes(memory.read())


def _encode_npy(picture: Picture) -> bytes:
    """TiTiler's form: `(2, height, width)` uint8, the values and then the mask (255 = data)."""
    mask = np.where(picture.pixels > 0, 255, 0).astype(np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, np.stack([picture.pixels, mask]))
    return buffer.getvalue()


_ENCODERS: dict[ImageFormat, Callable[[Picture], bytes]] = {
    ImageFormat.PNG: _encode_png,
    ImageFormat.WEBP: _encode_webp,
    ImageFormat.TIF: _encode_tif,
    ImageFormat.NPY: _encode_npy,
}
