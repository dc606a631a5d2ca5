"""What is measured on: a scene, a model, and places in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from landcover.block_set import BlockSet
from landcover.catalog import expand_scenes
from landcover.contract import ModelFile, read_model
from landcover.errors import InvalidConfiguration
from landcover.geodesy import WGS84, transformer
from landcover.grid import BlockIndex, Grid, grid_for
from landcover.scene import Scene, current_version, describe
from landcover.settings import ReadSettings

_MOST_BLOCKS = 4096
_EQUATOR_M = 40_075_016.7
_TILES_A_BLOCK = 3
"""Along a side, at least: a tile in the middle of a block then shows no other."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A scene as one model maps it."""

    location: str
    scene: Scene
    model: ModelFile
    grid: Grid

    @property
    def blocks(self) -> BlockSet:
        """Its blocks in the cache and in tasks."""
        return BlockSet.of(self.scene, self.model, self.grid)

    def whole_blocks(self) -> Iterator[BlockIndex]:
        """Blocks that do not reach past the scene, row by row; at least four."""
        rows, cols = self.grid.height_px // self.grid.block_px, self.grid.width_px // self.grid.block_px
        return (BlockIndex(row, col) for row in range(rows) for col in range(cols))

    def tiles(self, count: int) -> list[str]:
        """Addresses, from `/scenes` on, of at most so many tiles that each lie inside a block of their own."""
        return [self.tile(index) for index in itertools.islice(self.whole_blocks(), count)]

    def tile(self, index: BlockIndex) -> str:
        """The address of the tile around a block's middle."""
        zoom, x, y = self.place(index)
        return f"/scenes/{self.scene.source.id}/landcover/tiles/WebMercatorQuad/{zoom}/{x}/{y}.png"

    def place(self, index: BlockIndex) -> tuple[int, int, int]:
        """Zoom, column and row of the WebMercatorQuad tile around a block's middle."""
        side = self.grid.block_px
        x, y = self.grid.transform @ ((index.col + 0.5) * side, (index.row + 0.5) * side)
        lon, lat = transformer(self.grid.crs, WGS84).transform(x, y)
        around_m = _EQUATOR_M * math.cos(math.radians(lat))
        zoom = math.ceil(math.log2(around_m * _TILES_A_BLOCK / (side * self.grid.gsd_m)))
        return (
            zoom,
            int((lon + 180) / 360 * 2**zoom),
            int((1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**zoom),
        )


def subject_of(location: str, model_path: Path) -> Subject:
    """Read the headers of the first scene at `location` and of a model.

    Raises:
        LandcoverError: they cannot be used, or not together, or the scene is no GeoTIFF or a very small one.
    """
    read = ReadSettings()
    source = next(iter(expand_scenes(location)), None)
    if source is None:
        raise InvalidConfiguration(f"There is no image at {location}; name one with --scene.")
    if source.xyz or source.mosaic:
        raise InvalidConfiguration("Only a GeoTIFF can be measured, since GDAL alone must read it, too.")
    scene, model = describe(source, current_version(source, read), read), read_model(model_path)
    grid = grid_for(scene, model.contract)
    if min(grid.height_px, grid.width_px) < 2 * grid.block_px:
        raise InvalidConfiguration("The scene is smaller than two blocks a side; name a larger one with --scene.")
    return Subject(location=location, scene=scene, model=model, grid=grid)


def enlarged(subject: Subject, folder: Path, blocks: int) -> Subject:
    """A scene of at least so many whole blocks, or `_MOST_BLOCKS`: itself, or its picture again and again.

    A GPU makes all blocks of the demonstration before its rate can be told.
    """
    copies = math.ceil(math.sqrt(min(blocks, _MOST_BLOCKS) / len(list(subject.whole_blocks()))))
    path = folder / f"enlarged-{copies}.tif"
    if copies <= 1:
        return subject
    if not path.exists():
        with rasterio.open(subject.location) as image:
            pixels, profile = image.read(subject.scene.bands), image.profile
        _, height, width = pixels.shape
        profile = {
            **{name: profile[name] for name in ("crs", "transform", "dtype")},
            **{"driver": "GTiff", "count": 3, "height": copies * height, "width": copies * width},
            **{"tiled": True, "blockxsize": 256, "blockysize": 256},
            **{"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 85},
        }
        with rasterio.open(path, "w", **profile) as image:
            row = np.tile(pixels, (1, 1, copies))
            for copy in range(copies):
                image.write(row, window=Window(0, copy * height, copies * width, height))
    return subject_of(str(path), subject.model.path)
