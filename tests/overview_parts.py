"""Maps, their blocks and overviews, and products of them, for tests of every zoom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from landcover import block, overview
from landcover.grid import BlockIndex, Grid

MAX_VALUE = 5
BLOCK_PX = 16
MAX_LEVEL = 4


def grid_of_size(height: int, width: int, block_px: int = BLOCK_PX) -> Grid:
    return Grid(
        crs="EPSG:32654", transform=Affine(0.5, 0, 415_000, 0, -0.5, 4_000_000), width_px=width, height_px=height,
        decimation=1, block_px=block_px, gsd_m=0.5,
    )  # fmt: skip


def blobs(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A map with patches of some pixels, with unknown ones, ties and minorities; and a confidence beside it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, MAX_VALUE + 1, (height // 24 + 1, width // 24 + 1))
    classes = np.kron(coarse, np.ones((24, 24), int))[:height, :width].astype(np.uint8)
    speckle = rng.random(classes.shape) < 0.4
    classes[speckle] = rng.integers(0, MAX_VALUE + 1, speckle.sum())
    confidence = rng.integers(0, 256, classes.shape, dtype=np.uint8)
    confidence[classes == 0] = 0
    return classes, confidence


def padded(layer: np.ndarray, side: int) -> np.ndarray:
    out = np.zeros((side, side), np.uint8)
    out[: layer.shape[0], : layer.shape[1]] = layer
    return out


def blocks_of(grid: Grid, classes: np.ndarray, confidence: np.ndarray) -> dict[BlockIndex, dict[str, bytes]]:
    """Every block of a map, as a worker stores it."""
    side = grid.block_px
    found = {}
    for index in grid.blocks():
        window = np.s_[index.row * side : (index.row + 1) * side, index.col * side : (index.col + 1) * side]
        found[index] = block.encode(padded(classes[window], side), padded(confidence[window], side), MAX_VALUE)
    return found


def overviews_of(
    grid: Grid, blocks: dict[BlockIndex, dict[str, bytes]], scale: int
) -> dict[BlockIndex, dict[str, bytes]]:
    """Every overview at a scale, each from those below it."""
    below = blocks if scale == 1 else overviews_of(grid, blocks, scale - 1)
    names = overview.parts_needed(grid.max_level)
    return {
        index: overview.combine(
            {child: [below[child][name] for name in names] for child in overview.children(grid, scale, index)},
            index, scale, grid.block_px, MAX_VALUE,
        )
        for index in overview.coarser(grid, scale).blocks()
    }  # fmt: skip


def write_pyramid(
    path: Path, grid: Grid, layers: list[tuple[str, np.ndarray]], *, row: int = 0, col: int = 0, most: int = MAX_VALUE
) -> Path:
    """A TIFF of a window of a grid with every overview down to a pixel, each as the service defines it."""
    height, width = layers[0][1].shape
    side = 1 << max(height - 1, width - 1, 1).bit_length()
    pyramids = [
        block.majority_pyramid(padded(data, side), most) if kind == "class" else block.mean_pyramid(padded(data, side))
        for kind, data in layers
    ]
    factors = [1 << level for level in range(1, side.bit_length()) if min(height, width) >= 1 << (level - 1)]
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=len(layers), width=width, height=height, crs=grid.crs,
        transform=grid.transform @ Affine.translation(col, row), tiled=True, blockxsize=64, blockysize=64,
        compress="deflate",
    ) as image:  # fmt: skip
        image.write(np.stack([data for _, data in layers]))
    with rasterio.open(path, "r+") as image:
        image.build_overviews(factors, rasterio.enums.Resampling.nearest)
    for level in range(1, len(factors) + 1):
        with rasterio.open(path, "r+", OVERVIEW_LEVEL=level - 1) as image:
            image.write(np.stack([each[level][: image.height, : image.width] for each in pyramids]))
    return path
