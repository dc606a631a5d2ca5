"""From one map to another: the area of each pair of classes, pixel by pixel on one grid.

Pixels of the other map are found at the centres of this one's, so that two models of one scene are compared exactly,
and two scenes as well as their pixels allow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from landcover.geodesy import apply, transformer
from landcover.grid import BlockIndex, Grid

FloatArray: TypeAlias = npt.NDArray[np.float64]
ByteArray: TypeAlias = npt.NDArray[np.uint8]

_NODE_EVERY_PX = 16
_NOWHERE = -1.0


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Where the pixels of a block lie on another grid, all `(height, width)` of the block's part on the scene."""

    row: npt.NDArray[np.int64]
    """Arbitrary where `inside` is False."""
    col: npt.NDArray[np.int64]
    inside: npt.NDArray[np.bool_]
    blocks: tuple[BlockIndex, ...]
    """Of the other grid, every one that some pixel lies on."""


def positions(grid: Grid, index: BlockIndex, other: Grid) -> Positions:
    """The pixel of `other` at the centre of each pixel of a block of `grid`.

    Coordinates are transformed at every sixteenth pixel and interpolated between, unless the CRS is the same.
    """
    height, width = grid.block_shape(index)
    top, left = index.row * grid.block_px, index.col * grid.block_px
    every = 1 if grid.crs == other.crs else _NODE_EVERY_PX
    down, across = _nodes(height, every), _nodes(width, every)
    cols, rows = np.meshgrid(left + across, top + down)
    x, y = apply(grid.transform, cols, rows)
    if every > 1:
        x, y = transformer(grid.crs, other.crs).transform(x, y)
    known = np.isfinite(x) & np.isfinite(y)
    col, row = apply(~other.transform, np.where(known, x, 0.0), np.where(known, y, 0.0))
    col, row = np.where(known, col, _NOWHERE), np.where(known, row, _NOWHERE)
    if every > 1:
        col, row = (_between(each, height, width, down, across) for each in (col, row))
    inside = (row >= 0) & (row < other.height_px) & (col >= 0) & (col < other.width_px)
    row, col = np.where(inside, row, 0).astype(np.int64), np.where(inside, col, 0).astype(np.int64)
    side = other.block_px
    touched = np.unique((row[inside] // side) * other.cols + col[inside] // side)
    blocks = tuple(BlockIndex(int(each) // other.cols, int(each) % other.cols) for each in touched)
    return Positions(row=row, col=col, inside=inside, blocks=blocks)


def gathered(places: Positions, parts: Iterable[tuple[BlockIndex, ByteArray]], block_px: int) -> ByteArray:
    """The other map's values at `places`, `(height, width)`; 0 outside it.

    Args:
        places: where.
        parts: maps `(block, block)` of every block of `places`; one at a time is looked at, and they may be thousands.
        block_px: side of the other grid's blocks.
    """
    values = np.zeros(places.inside.shape, np.uint8)
    block_row, block_col = places.row // block_px, places.col // block_px
    for index, part in parts:
        here = places.inside & (block_row == index.row) & (block_col == index.col)
        values[here] = part[places.row[here] - index.row * block_px, places.col[here] - index.col * block_px]
    return values


def matrix(before: ByteArray, after: ByteArray, area_m2: FloatArray, *, before_max: int, after_max: int) -> FloatArray:
    """Area of each pair of class values, m², `(before_max + 1, after_max + 1)`; index 0 = unknown.

    Args:
        before: class map `(height, width)`.
        after: the later one.
        area_m2: of each pixel, what of it counts.
        before_max: the largest value of `before`.
        after_max: the largest value of `after`.
    """
    pairs = before.astype(np.int64) * (after_max + 1) + after
    counts = np.bincount(pairs.ravel(), area_m2.ravel(), (before_max + 1) * (after_max + 1))
    return np.asarray(counts.reshape(before_max + 1, after_max + 1), np.float64)


def _nodes(size_px: int, every: int) -> FloatArray:
    """Pixel centres, or points that reach from the first to the last of them."""
    if every == 1:
        return np.arange(size_px, dtype=np.float64) + 0.5
    return np.linspace(0.5, size_px - 0.5, max(2, -(-size_px // every) + 1))


def _between(nodes: FloatArray, height: int, width: int, down: FloatArray, across: FloatArray) -> FloatArray:
    """Bilinear between `nodes` at (`down`, `across`), for every pixel centre."""
    rows, cols = np.arange(height) + 0.5, np.arange(width) + 0.5
    wide = np.stack([np.interp(cols, across, line) for line in nodes])
    spread: FloatArray = np.empty((height, width))
    for number, column in enumerate(wide.T):
        spread[:, number] = np.interp(rows, down, column)
    return spread
