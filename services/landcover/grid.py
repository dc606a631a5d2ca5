"""The fixed pixel grid on which a scene is analysed, cut into blocks.

The scene's own CRS and origin, at the integer decimation that brings its ground sample distance (GSD) into the
model's range. Tiles, boxes and polygons of any CRS and zoom are views of these same pixels, so a pixel is
inferred once and every answer agrees with every other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from affine import Affine

from landcover.contract import Contract, GsdRange
from landcover.errors import SceneTooCoarse
from landcover.geodesy import window_area_m2
from landcover.scene import Scene

GRID_VERSION = 1
"""Part of every key: raise it when the same scene and model would give other blocks."""

GSD_TOLERANCE = 0.02
"""A GSD this much above the range is still the range: it is measured at the scene's centre only."""


@dataclass(frozen=True, order=True, slots=True)
class BlockIndex:
    """One cell of a grid, counted from the scene's origin."""

    row: int
    col: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A scene's pixels at one decimation. Arrays over it are `(height, width)`, row 0 at the origin."""

    crs: str
    """As WKT."""
    transform: Affine
    """(column, row) of the grid → `crs`."""
    width_px: int
    height_px: int
    decimation: int
    """Scene pixels per grid pixel, along each axis."""
    block_px: int
    """A power of two."""
    gsd_m: float
    """Ground sample distance at the scene's centre."""

    @property
    def rows(self) -> int:
        """Rows of blocks; the last may reach past the scene."""
        return math.ceil(self.height_px / self.block_px)

    @property
    def cols(self) -> int:
        """Columns of blocks; the last may reach past the scene."""
        return math.ceil(self.width_px / self.block_px)

    @property
    def max_level(self) -> int:
        """The overview at which a block is a single pixel."""
        return self.block_px.bit_length() - 1

    def blocks(self) -> Iterator[BlockIndex]:
        """Every block, row by row."""
        return (BlockIndex(row, col) for row in range(self.rows) for col in range(self.cols))

    def __contains__(self, index: object) -> bool:
        """Whether the block lies on the grid."""
        return isinstance(index, BlockIndex) and 0 <= index.row < self.rows and 0 <= index.col < self.cols

    def block_shape(self, index: BlockIndex) -> tuple[int, int]:
        """(height, width) in pixels of the block's part inside the scene."""
        return (
            min(self.block_px, self.height_px - index.row * self.block_px),
            min(self.block_px, self.width_px - index.col * self.block_px),
        )

    def pixel_area_m2(self, index: BlockIndex) -> float:
        """Mean true ground area of the block's pixels inside the scene, m²."""
        height, width = self.block_shape(index)
        area = window_area_m2(
            self.crs,
            self.transform,
            col_px=index.col * self.block_px,
            row_px=index.row * self.block_px,
            width_px=width,
            height_px=height,
        )
        return area / (height * width)


def grid_for(scene: Scene, contract: Contract) -> Grid:
    """The grid on which `contract`'s model analyses `scene`.

    Raises:
        SceneTooCoarse: the scene's pixels are larger than the model's largest.
    """
    decimation = choose_decimation(scene.gsd_m, contract.gsd)
    if decimation is None:
        raise SceneTooCoarse(
            f"Scene '{scene.id}' has a ground sample distance of {scene.gsd_m:.3g} m, but model "
            f"'{contract.name}' was trained for {contract.gsd.min_m:g} to {contract.gsd.max_m:g} m: "
            "use finer imagery or a model for coarser."
        )
    return Grid(
        crs=scene.crs,
        transform=scene.transform @ Affine.scale(decimation),
        width_px=math.ceil(scene.width_px / decimation),
        height_px=math.ceil(scene.height_px / decimation),
        decimation=decimation,
        block_px=contract.block_px,
        gsd_m=scene.gsd_m * decimation,
    )


def choose_decimation(gsd_m: float, trained: GsdRange) -> int | None:
    """The least integer that brings `gsd_m` into the trained range; None if the scene is too coarse.

    Where the range is so narrow that one decimation falls short and the next overshoots, the nearer (by ratio)
    is taken.
    """
    if gsd_m > trained.max_m * (1 + GSD_TOLERANCE):
        return None
    least = max(1, math.ceil(trained.min_m / gsd_m * (1 - GSD_TOLERANCE)))
    if least > 1 and gsd_m * least > trained.max_m * (1 + GSD_TOLERANCE):
        overshoot = gsd_m * least / trained.max_m
        shortfall = trained.min_m / (gsd_m * (least - 1))
        return least if overshoot < shortfall else least - 1
    return least
