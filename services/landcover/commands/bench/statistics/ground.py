"""Mapped ground to measure on: an image without pixels, its blocks in a cache, and the same map as a GeoTIFF."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import redis
from affine import Affine

from landcover import block
from landcover.catalog import expand_scenes
from landcover.contract import ModelFile, read_model
from landcover.grid import BlockIndex, Grid, grid_for
from landcover.keys import BlockKey
from landcover.scene import Scene, current_version, describe
from landcover.settings import ReadSettings

ByteArray = npt.NDArray[np.uint8]

CRS = "EPSG:32654"
GSD_M = 0.5
_CORNER = Affine(GSD_M, 0, 380_000, 0, -GSD_M, 4_000_000)
_PATTERNS = 48
"""Blocks that differ; the ground repeats them in a random order."""
_PATCH_PX, _SPECKLE_PX = 16, 8
_WRITTEN_AT_ONCE = 64
_MARGIN_BLOCKS = 4


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A scene of which every block is mapped."""

    scene: Scene
    model: ModelFile
    grid: Grid
    image: Path
    """What the service is told to serve; a header alone, since nothing has to be inferred."""
    class_map: Path
    """The finished map, as other tools read it: one band of class values, tiled as the blocks are."""


def make_ground(folder: Path, model_path: Path, largest: int) -> Ground:
    """The scene, large enough for a circle of `largest` blocks; `map_ground` makes the rest."""
    model = read_model(model_path)
    side = math.ceil(2 * math.sqrt(largest / math.pi)) + _MARGIN_BLOCKS
    side_px = side * model.contract.block_px
    image = folder / "ground.tif"
    with rasterio.open(image, "w", **_profile(side_px, 3, 256), photometric="RGB", sparse_ok=True):
        pass
    source, read = next(expand_scenes(str(image))), ReadSettings()
    scene = describe(source, current_version(source, read), read)
    grid = grid_for(scene, model.contract)
    return Ground(scene=scene, model=model, grid=grid, image=image, class_map=folder / "map.tif")


def map_ground(ground: Ground, cache: redis.Redis, done: Callable[[int], Any]) -> None:
    """Write every block into the cache and into the map.

    Args:
        ground: as `make_ground` made it.
        cache: where the service looks for blocks.
        done: told, again and again, how many blocks more are written.
    """
    grid, max_value = ground.grid, ground.model.contract.max_value
    rng = np.random.default_rng(0)
    drawn = [_pattern(rng, grid.block_px, max_value) for _ in range(_PATTERNS)]
    fields = [block.encode(*each, max_value) for each in drawn]
    chosen = rng.integers(0, _PATTERNS, (grid.rows, grid.cols))
    profile = _profile(grid.width_px, 1, grid.block_px)
    with rasterio.Env(GDAL_CACHEMAX=64 << 20), rasterio.open(ground.class_map, "w", **profile, nodata=0) as image:
        for row, numbers in enumerate(chosen):
            image.write(
                np.concatenate([drawn[number][0] for number in numbers], axis=1)[None],
                window=((row * grid.block_px, (row + 1) * grid.block_px), (0, grid.width_px)),
            )
            for start in range(0, grid.cols, _WRITTEN_AT_ONCE):
                with cache.pipeline(transaction=False) as pipe:
                    for col in range(start, min(start + _WRITTEN_AT_ONCE, grid.cols)):
                        pipe.hset(_key(ground, BlockIndex(row, col)), mapping=dict(fields[numbers[col]]))
                    pipe.execute()
            done(grid.cols)


def forget_sums(cache: redis.Redis) -> None:
    """Have the service sum the squares of blocks anew."""
    keys = list(cache.scan_iter(match="sums:*", count=10_000))
    if keys:
        cache.delete(*keys)


def _pattern(rng: np.random.Generator, side: int, max_value: int) -> tuple[ByteArray, ByteArray]:
    """A class map and its confidence, `(side, side)` each: patches of 8 m, a tenth of them unknown, and speckle."""
    values = rng.integers(1, max_value + 1, (side // _PATCH_PX,) * 2, dtype=np.uint8)
    values[rng.random(values.shape) < 0.1] = 0
    classes = values.repeat(_PATCH_PX, axis=0).repeat(_PATCH_PX, axis=1)
    speckle = rng.integers(100, 256, (side // _SPECKLE_PX,) * 2, dtype=np.uint8)
    confidence = speckle.repeat(_SPECKLE_PX, axis=0).repeat(_SPECKLE_PX, axis=1)
    return classes, np.where(classes > 0, confidence, 0).astype(np.uint8)


def _key(ground: Ground, index: BlockIndex) -> str:
    scene = ground.scene
    return BlockKey(scene.id, scene.version, ground.model.digest, ground.grid.decimation, index).block


def _profile(side_px: int, bands: int, tile_px: int) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "width": side_px,
        "height": side_px,
        "count": bands,
        "dtype": "uint8",
        "crs": CRS,
        "transform": _CORNER,
        "tiled": True,
        "blockxsize": tile_px,
        "blockysize": tile_px,
        "compress": "deflate",
        "zlevel": 1,
    }
