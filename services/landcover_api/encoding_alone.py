"""What it costs to encode tiles of a class map, ours and others' encoders in turn, in a process of its own.

    python -m landcover_api.encoding_alone MAP.tif [--seconds 3] [--rounds 3]

Prints JSON: microseconds and bytes a tile by round, of each size, format and encoder. MAP.tif has one band of classes
and its colours, as `landcover bench` makes it. The others are lossless, too: Pillow and GDAL as they are when told
nothing but what the pixels are.
"""

from __future__ import annotations

import argparse
import io
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from landcover_api.rendering import ImageFormat, Picture, UInt8Array, render
from landcover_api.sampling import Extent

_SIDES_PX = (256, 512)
_TILES = 12
"""Of each size, over the map's diagonal: a tile of one class alone is no tile."""

Encode = Callable[[UInt8Array, UInt8Array], bytes]
"""Pixels `(height, width)` and colours `(256, 4)` RGBA → a file."""


def measure(class_map: Path, *, seconds: float, rounds: int, only_ours: bool = False) -> list[dict[str, Any]]:
    """A row for each size and format."""
    with rasterio.open(class_map) as image:
        classes: UInt8Array = image.read(1)
        table = image.colormap(1)
    colors = np.array([table.get(value, (0, 0, 0, 0)) for value in range(256)], np.uint8)
    rows = []
    for side in _SIDES_PX:
        tiles = _tiles(classes, side)
        for image_format, others in _OTHERS.items():
            encoders = {"ours": _ours(image_format)} | ({} if only_ours else others)
            share_s = seconds / len(_SIDES_PX) / len(_OTHERS) / len(encoders)
            found: dict[str, dict[str, list[float]]] = {name: {"us": [], "bytes": []} for name in encoders}
            for _ in range(rounds):
                for name, encode in encoders.items():
                    us, size = _cost(encode, tiles, colors, share_s)
                    found[name]["us"].append(us)
                    found[name]["bytes"].append(size)
            ours = found.pop("ours")
            rows.append({"side_px": side, "format": image_format.value, "ours": ours, "others": found})
    return rows


def _tiles(classes: UInt8Array, side: int) -> list[UInt8Array]:
    span = min(classes.shape) - side
    starts = np.linspace(0, span, _TILES).astype(int)
    return [np.ascontiguousarray(classes[at : at + side, at : at + side]) for at in starts]


def _cost(encode: Encode, tiles: Sequence[UInt8Array], colors: UInt8Array, seconds: float) -> tuple[float, float]:
    """Microseconds and bytes, the mean of the tiles."""
    count = 0
    begin = time.perf_counter()
    while True:
        size = sum(len(encode(tile, colors)) for tile in tiles)
        count += len(tiles)
        if (elapsed := time.perf_counter() - begin) >= seconds:
            return elapsed / count * 1e6, size / len(tiles)


def _ours(image_format: ImageFormat) -> Encode:
    def encode(pixels: UInt8Array, colors: UInt8Array) -> bytes:
        height, width = pixels.shape
        extent = Extent(crs="EPSG:3857", xmin=0, ymin=0, xmax=1, ymax=1, width_px=width, height_px=height)
        return render(Picture(pixels=pixels, colors=colors, extent=extent), image_format)

    return encode


def _pillow_png(pixels: UInt8Array, colors: UInt8Array) -> bytes:
    image = Image.fromarray(pixels)
    image.putpalette(colors[:, :3].tobytes(), "RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=colors[:, 3].tobytes())
    return buffer.getvalue()


def _gdal_png(pixels: UInt8Array, colors: UInt8Array) -> bytes:
    table = {value: tuple(rgba) for value, rgba in enumerate(colors.tolist())}
    return _gdal("PNG", pixels[None], table)


def _pillow_webp(pixels: UInt8Array, colors: UInt8Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(colors[pixels]).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def _gdal_webp(pixels: UInt8Array, colors: UInt8Array) -> bytes:
    return _gdal("WEBP", np.ascontiguousarray(np.moveaxis(colors[pixels], -1, 0)), None, LOSSLESS="YES")


def _gdal(driver: str, bands: UInt8Array, table: dict[int, tuple[int, ...]] | None, **options: str) -> bytes:
    count, height, width = bands.shape
    with MemoryFile() as memory:
        with memory.open(driver=driver, dtype="uint8", count=count, height=height, width=width, **options) as image:
            if table:
                image.write_colormap(1, table)
            image.write(bands)
        return bytes(memory.read())


_OTHERS: dict[ImageFormat, dict[str, Encode]] = {
    ImageFormat.PNG: {"Pillow's palette PNG": _pillow_png, "GDAL's palette PNG": _gdal_png},
    ImageFormat.WEBP: {"Pillow's lossless WebP": _pillow_webp, "GDAL's lossless WebP": _gdal_webp},
}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Costs of encoding tiles of a class map.")
    parser.add_argument("map", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-ours", action="store_true", help="for a profile: without the others")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a tile knows by its address where it lies
    rows = measure(arguments.map, seconds=arguments.seconds, rounds=arguments.rounds, only_ours=arguments.only_ours)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
