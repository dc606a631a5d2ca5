"""What is measured on: a scene, a model, and places in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from landcover.block_set import BlockSet
from landcover.catalog import expand_scenes
from landcover.contract import ModelFile, read_model
from landcover.errors import InvalidConfiguration
from landcover.geodesy import WGS84, transformer
from landcover.grid import BlockIndex, Grid, grid_for
from landcover.scene import Scene, current_version, describe
from landcover.settings import ReadSettings

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
        return BlockSet(
            source=self.scene.source,
            version=self.scene.version,
            digest=self.model.digest,
            decimation=self.grid.decimation,
        )

    def whole_blocks(self) -> Iterator[BlockIndex]:
        """Blocks that do not reach past the scene.

        Raises:
            InvalidConfiguration: there are fewer than four.
        """
        rows, cols = self.grid.height_px // self.grid.block_px, self.grid.width_px // self.grid.block_px
        if rows < 2 or cols < 2:
            raise InvalidConfiguration("The scene is smaller than two blocks a side; name a larger one with --scene.")
        return (BlockIndex(row, col) for row in range(rows) for col in range(cols))

    def tiles(self, count: int) -> list[str]:
        """Addresses, from `/scenes` on, of at most so many tiles that each lie inside a block of their own."""
        return [self._tile(index) for index in itertools.islice(self.whole_blocks(), count)]

    def _tile(self, index: BlockIndex) -> str:
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
        LandcoverError: they cannot be used, or not together.
    """
    read = ReadSettings()
    source = next(iter(expand_scenes(location)), None)
    if source is None:
        raise InvalidConfiguration(f"There is no image at {location}; name one with --scene.")
    scene, model = describe(source, current_version(source, read), read), read_model(model_path)
    return Subject(location=location, scene=scene, model=model, grid=grid_for(scene, model.contract))
