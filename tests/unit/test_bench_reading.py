"""What `landcover bench read` holds windows against: the JPEG tiles of an image, decoded by libjpeg-turbo alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from rasterio.windows import Window

from landcover.commands.bench.reading_alone import jpeg_tiles
from landcover.demo import write_scene


def test_tiles_are_the_images_pixels(tmp_path: Path) -> None:
    """Nearly: GDAL's libjpeg and Pillow's make colours of half the resolution whole in other ways."""
    scene = write_scene(tmp_path, size_px=700)
    tiles = jpeg_tiles(str(scene))
    with rasterio.open(scene) as image:
        height, width = image.block_shapes[0]
        down, across = -(-image.height // height), -(-image.width // width)
        assert len(tiles) == down * across
        pixels = image.read(window=Window(width, height, width, height))
    found = np.asarray(Image.open(io.BytesIO(tiles[across + 1])))
    assert np.abs(found.astype(int) - pixels.transpose(1, 2, 0)).mean() < 0.5


def test_an_image_of_another_kind_has_none(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    kind = {"driver": "GTiff", "width": 64, "height": 64, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **kind, transform=from_origin(0, 64, 0.5, 0.5)) as image:
        image.write(np.zeros((3, 64, 64), np.uint8))
    assert jpeg_tiles(str(path)) == []
