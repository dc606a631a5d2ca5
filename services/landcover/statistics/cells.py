"""Which blocks a region covers, whole or in part, and which share of each pixel of a block lies inside.

Blocks that lie inside altogether are named by the largest squares of 4 × 4, 16 × 16, … blocks that do, so that what a
region costs to count grows with its perimeter and not with its area.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import shapely

from landcover.grid import BlockIndex, Grid
from landcover.statistics.coverage import coverage
from landcover.statistics.region import Area, Region

FANOUT = 4
"""Squares of level n + 1 hold so many squares of level n along each axis."""

MAX_LEVEL = 3

_LEAST_PX = 1e-7
"""What overlaps by less only touches, or rounding would ask for neighbours of regions that end where blocks do."""

FloatArray: TypeAlias = npt.NDArray[np.float64]
Boxes: TypeAlias = npt.NDArray[np.object_]


class Square(NamedTuple):
    """`FANOUT ** level` blocks a side, counted in such squares from the scene's origin; level 0 is one block."""

    level: int
    row: int
    col: int

    def children(self, grid: Grid) -> Iterator[Square]:
        """The squares one level down that lie on the grid."""
        rows, cols = _squares_across(grid, self.level - 1)
        for row in range(self.row * FANOUT, min((self.row + 1) * FANOUT, rows)):
            for col in range(self.col * FANOUT, min((self.col + 1) * FANOUT, cols)):
                yield Square(self.level - 1, row, col)

    @property
    def block(self) -> BlockIndex:
        """The block that a square of level 0 is."""
        return BlockIndex(self.row, self.col)


@dataclass(frozen=True, kw_only=True)
class Cover:
    """What of the grid lies inside a region."""

    whole: tuple[Square, ...]
    """Squares of which everything that lies on the scene is inside."""
    edge: tuple[BlockIndex, ...]
    """Blocks through which the region's edge runs."""


def cover(grid: Grid, region: Region) -> Cover:
    """The blocks that `region` touches."""
    candidates = _around(grid, region)
    whole: list[Square] = []
    shape = region.shape
    shapely.prepare(shape)
    while len(candidates):
        boxes = _boxes(grid, candidates)
        inside = shapely.covers(shape, boxes)
        whole += [Square(*each) for each in candidates[inside].tolist()]
        candidates = candidates[~inside & shapely.intersects(shape, boxes)]
        if len(candidates) and candidates[0, 0] == 0:
            break
        smaller = [child for each in candidates.tolist() for child in Square(*each).children(grid)]
        candidates = np.array(smaller, np.int64).reshape(-1, 3)
    edge = tuple(sorted(BlockIndex(row, col) for _, row, col in candidates.tolist()))
    return Cover(whole=tuple(sorted(whole)), edge=edge)


def blocks_around(grid: Grid, region: Region) -> int:
    """How many blocks the region's bounding box touches: an upper bound, at no cost."""
    left, top, right, bottom = _block_box(grid, region)
    return max(0, right - left) * max(0, bottom - top)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What of a block lies inside a region."""

    window: tuple[slice, slice]
    """Rows and columns of the block; nothing beyond them is inside."""
    share: FloatArray
    """Of each pixel in the window, `(rows, columns)`, 0..1, to single precision: the number that exactextract gives."""


def part(grid: Grid, region: Region, index: BlockIndex) -> Part | None:
    """The part of a block that lies inside `region`; None if nothing does."""
    height, width = grid.block_shape(index)
    top, left = index.row * grid.block_px, index.col * grid.block_px
    clipped = _clip(region.shape, left, top, width, height)
    if clipped is None:
        return None
    west, south, east, north = clipped.bounds
    first_col, first_row = math.floor(west), math.floor(-north)
    cols, rows = math.ceil(east) - first_col, math.ceil(-south) - first_row
    if not (cols and rows):
        return None
    moved = shapely.transform(clipped, lambda points: points * (1, -1) - (first_col, first_row))
    return Part(
        window=(slice(first_row - top, first_row - top + rows), slice(first_col - left, first_col - left + cols)),
        share=coverage(moved, cols, rows).astype(np.float32).astype(np.float64),
    )


def shares(grid: Grid, region: Region, index: BlockIndex) -> FloatArray:
    """The share of each pixel of a block that lies inside `region`, `(height, width)` of its part on the scene."""
    share = np.zeros(grid.block_shape(index))
    if (inside := part(grid, region, index)) is not None:
        share[inside.window] = inside.share
    return share


def _clip(shape: Area, left: int, top: int, width: int, height: int) -> Area | None:
    """What of `shape` lies in a window; None if that is nothing."""
    window = left, -(top + height), left + width, -top
    clipped = shapely.clip_by_rect(shape, *window)
    if not clipped.is_valid:  # it clips ring by ring, and rings that touch may then lie on each other
        clipped = shapely.intersection(shape, shapely.box(*window))
    if clipped.geom_type not in ("Polygon", "MultiPolygon"):
        clipped = shapely.MultiPolygon([each for each in shapely.get_parts(clipped) if each.geom_type == "Polygon"])
    return None if clipped.is_empty else clipped


def _around(grid: Grid, region: Region) -> npt.NDArray[np.int64]:
    """The largest squares that hold the region's bounding box, `(n, 3)` level, row, column."""
    left, top, right, bottom = _block_box(grid, region)
    if left >= right or top >= bottom:
        return np.empty((0, 3), np.int64)
    level = 0
    while level < MAX_LEVEL and FANOUT ** (level + 1) <= max(right - left, bottom - top):
        level += 1
    side = FANOUT**level
    return np.array(
        [
            (level, row, col)
            for row in range(top // side, -(-bottom // side))
            for col in range(left // side, -(-right // side))
        ],
        np.int64,
    )


def _boxes(grid: Grid, squares: npt.NDArray[np.int64]) -> Boxes:
    """What of each square lies on the scene, as polygons of a region's coordinates."""
    side = grid.block_px * FANOUT ** squares[:, 0]
    top, left = squares[:, 1] * side, squares[:, 2] * side
    bottom, right = np.minimum(top + side, grid.height_px), np.minimum(left + side, grid.width_px)
    boxes: Boxes = shapely.box(left + _LEAST_PX, _LEAST_PX - bottom, right - _LEAST_PX, -top - _LEAST_PX)
    return boxes


def _block_box(grid: Grid, region: Region) -> tuple[int, int, int, int]:
    """First and one past the last column and row of blocks around the region: left, top, right, bottom."""
    if region.shape.is_empty:
        return 0, 0, 0, 0
    west, south, east, north = region.shape.bounds
    low = np.floor(np.array([west, -north]) / grid.block_px).clip(0)
    high = np.ceil(np.array([east, -south]) / grid.block_px).clip(0, (grid.cols, grid.rows))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _squares_across(grid: Grid, level: int) -> tuple[int, int]:
    """Rows and columns of squares of a level."""
    side: int = FANOUT**level
    return -(-grid.rows // side), -(-grid.cols // side)
