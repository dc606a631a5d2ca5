"""Which pixels of a grid a product covers, and which blocks it needs for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import geometry_mask

from landcover.errors import InvalidRequest
from landcover.grid import BlockIndex, Grid
from landcover.statistics.region import Region

_ROUNDING_PX = 1e-6
"""What reaches less far into a pixel does so by the rounding of projections."""


@dataclass(frozen=True, kw_only=True)
class ProductArea:
    """A window of a grid, of which a region may hide a part."""

    row_px: int
    """First row of the grid."""
    col_px: int
    height_px: int
    width_px: int
    region: Region | None = None
    """What lies outside is not part of the product; None if all of the window is."""

    @property
    def clipped(self) -> bool:
        """Whether pixels inside the window are left out."""
        return self.region is not None

    def block_rows(self, grid: Grid) -> range:
        """Rows of blocks that the window touches."""
        return _touched(self.row_px, self.height_px, grid.block_px)

    def block_cols(self, grid: Grid) -> range:
        """Columns of blocks that the window touches."""
        return _touched(self.col_px, self.width_px, grid.block_px)

    def blocks_of_row(self, grid: Grid, row: int) -> list[BlockIndex]:
        """The blocks of one row that the product needs, from left to right."""
        cols = np.array(self.block_cols(grid))
        if self.region is not None:
            side = grid.block_px
            boxes = shapely.box(cols * side, -(row + 1) * side, (cols + 1) * side, -row * side)
            shapely.prepare(self.region.shape)
            cols = cols[shapely.intersects(self.region.shape, boxes)]
        return [BlockIndex(row, col) for col in cols.tolist()]

    def blocks(self, grid: Grid) -> Iterator[BlockIndex]:
        """All blocks that the product needs, row by row."""
        for row in self.block_rows(grid):
            yield from self.blocks_of_row(grid, row)

    def inside(self, grid: Grid, index: BlockIndex) -> npt.NDArray[np.bool_] | None:
        """Which pixels of a block, `(block, block)`, belong to the product by their centres; None for all of them."""
        side = grid.block_px
        top, left = index.row * side, index.col * side
        if self.region is None:
            return None
        if shapely.covers(self.region.shape, shapely.box(left, -(top + side), left + side, -top)):
            return None
        transform = Affine(1, 0, left, 0, -1, -top)
        inside: npt.NDArray[np.bool_] = geometry_mask([self.region.shape], (side, side), transform, invert=True)
        return inside


def whole_grid(grid: Grid) -> ProductArea:
    """All of a scene."""
    return ProductArea(row_px=0, col_px=0, height_px=grid.height_px, width_px=grid.width_px)


def area_of(grid: Grid, region: Region, *, clip: bool) -> ProductArea:
    """The smallest window that holds what lies on the scene of `region`; `clip` leaves out what lies around it.

    Raises:
        InvalidRequest: nothing of it lies on the scene.
    """
    scene = shapely.box(0, -grid.height_px, grid.width_px, 0)
    shape = shapely.intersection(region.shape, scene)
    if shape.is_empty or shape.area == 0:
        raise InvalidRequest("The area lies outside the scene; GET /scenes/{scene} gives its bounds.")
    west, south, east, north = shape.bounds
    left, right = math.floor(west + _ROUNDING_PX), math.ceil(east - _ROUNDING_PX)
    top, bottom = math.floor(-north + _ROUNDING_PX), math.ceil(-south - _ROUNDING_PX)
    return ProductArea(
        row_px=top,
        col_px=left,
        height_px=bottom - top,
        width_px=right - left,
        region=region if clip else None,
    )


def _touched(start: int, length: int, side: int) -> range:
    return range(start // side, -(-(start + length) // side))
