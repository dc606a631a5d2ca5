"""Which pixel of the grid each pixel of an image shows: the geometry of tiles and boxes, in any CRS.

Coordinates are transformed exactly at every eighth pixel and interpolated between; the error is below a
hundredth of a pixel at the zooms where single pixels can be seen. Each image pixel then shows the nearest grid
pixel, or the majority of those it covers, so an image depends on nothing but its own outline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcover.geodesy import transformer
from landcover.grid import BlockIndex, Grid
from landcover.overview import top_level

_NODE_EVERY_PX = 8
_FAR = 1e15
"""Stands for coordinates that a CRS does not have; infinities would spread through the interpolation."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The outline of an image and its size. North is up: row 0 lies at `ymax`."""

    crs: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    width_px: int
    height_px: int


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Where an image's pixels lie on a grid. All arrays are `(height, width)` of the image."""

    level: int
    """The overview whose pixels are nearest in size to the image's."""
    row: npt.NDArray[np.int32]
    """Row of the grid at `level`; arbitrary where `inside` is False."""
    col: npt.NDArray[np.int32]
    inside: npt.NDArray[np.bool_]
    """Whether the pixel's centre lies on the scene."""

    def squares(self, side: int) -> tuple[BlockIndex, ...]:
        """Of the squares of `side` pixels of the level, from the grid's origin on, those shown, row by row."""
        if not self.inside.any():
            return ()
        row, col = self.row[self.inside] // side, self.col[self.inside] // side
        top, left, cols = int(row.min()), int(col.min()), int(col.max() - col.min()) + 1
        number = (row - top).astype(np.int64) * cols + (col - left)
        seen = np.flatnonzero(np.bincount(number)) if number.max() < 4 * number.size else np.unique(number)
        return tuple(BlockIndex(top + int(i) // cols, left + int(i) % cols) for i in seen)

    def assemble(self, parts: Sequence[tuple[BlockIndex, npt.NDArray[np.uint8]]]) -> npt.NDArray[np.uint8]:
        """The image `(height, width)` from square arrays at `level`, which may differ in size; 0 where there is none.

        The index of each says how many of its size lie above and left of it.
        """
        image = np.zeros(self.inside.shape, np.uint8)
        if not parts:
            return image
        top, left = min(at.row * len(part) for at, part in parts), min(at.col * len(part) for at, part in parts)
        bottom = max((at.row + 1) * len(part) for at, part in parts)
        right = max((at.col + 1) * len(part) for at, part in parts)
        mosaic = np.zeros((bottom - top, right - left), np.uint8)
        for at, part in parts:
            side = len(part)
            down, across = at.row * side - top, at.col * side - left
            mosaic[down : down + side, across : across + side] = part
        row, col = self.row - top, self.col - left
        known = self.inside & (row >= 0) & (col >= 0) & (row < mosaic.shape[0]) & (col < mosaic.shape[1])
        image[known] = mosaic[row[known], col[known]]
        return image


def sample(grid: Grid, extent: Extent) -> Sampling:
    """Find the grid pixel that each pixel of `extent` shows."""
    cols, rows = _grid_coordinates(grid, extent)
    level = _level(grid, cols, rows, extent)
    row = _spread(_spread(rows, extent.height_px).T, extent.width_px).T
    col = _spread(_spread(cols, extent.height_px).T, extent.width_px).T
    inside = (row >= 0) & (row < grid.height_px) & (col >= 0) & (col < grid.width_px)
    scale = 1.0 / (1 << level)
    row = np.where(inside, row, 0.0)
    col = np.where(inside, col, 0.0)
    return Sampling(
        level=level,
        row=(row * scale).astype(np.int32),
        col=(col * scale).astype(np.int32),
        inside=inside,
    )


def _grid_coordinates(grid: Grid, extent: Extent) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Grid (columns, rows) at the nodes `(nodes down, nodes across)` of the image."""
    x = np.linspace(extent.xmin, extent.xmax, _nodes(extent.width_px))
    y = np.linspace(extent.ymax, extent.ymin, _nodes(extent.height_px))
    xs, ys = np.meshgrid(x, y)
    xs, ys = transformer(extent.crs, grid.crs).transform(xs, ys)
    known = np.isfinite(xs) & np.isfinite(ys)
    cols, rows = ~grid.transform @ (np.where(known, xs, 0.0), np.where(known, ys, 0.0))
    return np.where(known, np.clip(cols, -_FAR, _FAR), _FAR), np.where(known, np.clip(rows, -_FAR, _FAR), _FAR)


def _level(grid: Grid, cols: npt.NDArray[np.float64], rows: npt.NDArray[np.float64], extent: Extent) -> int:
    """The overview whose pixel is nearest in size (by ratio) to the image's, by the median over the image."""
    px = extent.width_px / (cols.shape[1] - 1) * extent.height_px / (cols.shape[0] - 1)
    across_c, across_r = np.diff(cols, axis=1)[:-1], np.diff(rows, axis=1)[:-1]
    down_c, down_r = np.diff(cols, axis=0)[:, :-1], np.diff(rows, axis=0)[:, :-1]
    area = np.abs(across_c * down_r - across_r * down_c) / px
    area = area[(area > 0) & (area < _FAR)]
    if not area.size:
        return 0
    return min(max(math.floor(math.log2(math.sqrt(float(np.median(area)))) + 0.5), 0), top_level(grid))


def _nodes(size_px: int) -> int:
    return max(2, math.ceil(size_px / _NODE_EVERY_PX) + 1)


def _spread(nodes: npt.NDArray[np.float64], size_px: int) -> npt.NDArray[np.float64]:
    """Values at each pixel's centre, `(pixels, …)`, linear between evenly spread nodes `(nodes, …)`.

    Not as a product with a matrix of weights: BLAS' threads go on spinning for some time after each, at the cost of
    whoever has work to do (measured: a third of a cold tile's latency on two cores).
    """
    position = (np.arange(size_px) + 0.5) * (len(nodes) - 1) / size_px
    before = position.astype(np.intp)
    weight = (position - before)[:, None]
    return nodes[before] * (1 - weight) + nodes[before + 1] * weight
