"""Overviews of blocks: the same map, eight times coarser at each scale, in the form of blocks.

An overview of scale s is a block of the grid that is `coarser` by 8^s: its level l is the base grid's level 3s + l. So
a picture at any zoom reads a few small fields, whatever the scene's size. A pixel shows the majority of all the
full-resolution pixels that it covers, as within a block, and is made without them: from the overviews that blocks
carry, and above a block's single pixel from histograms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from affine import Affine

from landcover import block
from landcover.block import HISTOGRAM_FIELD, Histogram, Layer
from landcover.errors import BlockDamaged
from landcover.grid import BlockIndex, Grid

SCALE_LEVELS = 3
FANOUT = 1 << SCALE_LEVELS
"""Blocks or overviews along each side of an overview."""

LEAST_SIDE_PX = 8
"""Beyond a block's own levels, none is drawn at which the scene's shorter side has fewer pixels."""

LAYERS: tuple[Layer, ...] = ("class", "confidence")


def coarser(grid: Grid, scale: int) -> Grid:
    """The grid whose blocks are `grid`'s overviews of `scale`; scale 0 is the grid itself."""
    factor = FANOUT**scale
    return replace(
        grid,
        transform=grid.transform @ Affine.scale(factor),
        width_px=math.ceil(grid.width_px / factor),
        height_px=math.ceil(grid.height_px / factor),
        decimation=grid.decimation * factor,
        gsd_m=grid.gsd_m * factor,
    )


def top_scale(grid: Grid) -> int:
    """The least scale at which one overview, or at 0 one block, holds the whole grid."""
    scale, side = 0, max(grid.rows, grid.cols)
    while side > FANOUT**scale:
        scale += 1
    return scale


def top_level(grid: Grid) -> int:
    """The coarsest level that is drawn: a block's own last, or further while the scene still has some pixels."""
    shorter = min(grid.width_px, grid.height_px)
    return max(grid.max_level, (shorter // LEAST_SIDE_PX).bit_length() - 1)


def scale_of(grid: Grid, level: int) -> int:
    """The scale of the overviews from which a picture at `level` is drawn; 0 for blocks."""
    return min(level // SCALE_LEVELS, top_scale(grid))


def children(grid: Grid, scale: int, index: BlockIndex) -> list[BlockIndex]:
    """What an overview of `scale` is made of: indices at the scale below, those on the grid, row by row."""
    below = coarser(grid, scale - 1)
    top, left = index.row * FANOUT, index.col * FANOUT
    return [
        BlockIndex(row, col)
        for row in range(top, min(top + FANOUT, below.rows))
        for col in range(left, min(left + FANOUT, below.cols))
    ]


def parts_needed(max_level: int) -> tuple[str, ...]:
    """The fields of blocks and overviews from which the overview above them is made."""
    levels = range(SCALE_LEVELS, max_level + 1)
    return (HISTOGRAM_FIELD, *(block.field(layer, level) for layer in LAYERS for level in levels))


def combine(
    parts: Mapping[BlockIndex, Sequence[bytes]], index: BlockIndex, scale: int, block_px: int, max_value: int
) -> dict[str, bytes]:
    """The fields of an overview, as a block's but without the joint histogram.

    Args:
        parts: of each child on the grid the fields `parts_needed`, by its index at the scale below.
        index: of the overview.
        scale: of the overview, from 1.
        block_px: side of a block, and so of an overview; at least 8.
        max_value: the largest class value.

    Raises:
        BlockDamaged: a part holds something else.
    """
    max_level = block_px.bit_length() - 1
    names = parts_needed(max_level)
    area = (block_px * FANOUT ** (scale - 1)) ** 2
    pixels = np.zeros((FANOUT, FANOUT, max_value + 1), np.uint64)
    pixels[..., 0] = area  # what lies beyond the grid is unknown
    confidence = np.zeros_like(pixels)
    layers = {
        name: np.zeros((FANOUT * (block_px >> level),) * 2, np.uint8)
        for name, level in zip(names[1:], 2 * list(range(SCALE_LEVELS, max_level + 1)), strict=True)
    }
    for child, fields in parts.items():
        row, col = child.row - index.row * FANOUT, child.col - index.col * FANOUT
        counts = block.decode_histogram(fields[0])
        if counts.pixels.size != max_value + 1:
            raise BlockDamaged("A cached histogram has other classes than the model; it is made again.")
        pixels[row, col], confidence[row, col] = counts.pixels, counts.confidence
        for mosaic, data in zip(layers.values(), fields[1:], strict=True):
            side = mosaic.shape[0] // FANOUT
            mosaic[row * side : (row + 1) * side, col * side : (col + 1) * side] = block.decode(data, side)
    total = Histogram(pixels=pixels.sum(axis=(0, 1)), confidence=confidence.sum(axis=(0, 1)))
    made = {HISTOGRAM_FIELD: block.encode_histogram(total)}
    for level in range(max_level + 1 - SCALE_LEVELS):
        for layer in LAYERS:
            made[block.field(layer, level)] = block.encode_layer(layers[block.field(layer, level + SCALE_LEVELS)])
    sums = confidence.sum(axis=-1)
    for level in range(max_level + 1 - SCALE_LEVELS, max_level + 1):
        pixels, sums, area = _halve(pixels), _halve(sums), area * 4
        made[block.field("class", level)] = block.encode_layer(majority(pixels))
        made[block.field("confidence", level)] = block.encode_layer(mean(sums, area))
    return made


def majority(pixels: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """The most frequent class, `(height, width)`, of counts `(height, width, values)`; ties as within a block."""
    values = np.roll(np.arange(pixels.shape[-1], dtype=np.uint8), -1)  # 1, 2, …, 0: argmax takes the first of equals
    most: npt.NDArray[np.uint8] = values[pixels[..., values].argmax(axis=-1)]
    return most


def mean(sums: npt.NDArray[np.uint64], area: int) -> npt.NDArray[np.uint8]:
    """The mean confidence, `(height, width)`, of sums over `area` pixels each."""
    return ((sums + np.uint64(area // 2)) // np.uint64(area)).astype(np.uint8)


def _halve(sums: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Sums of 2 × 2 neighbours along the first two axes."""
    sums = sums[0::2] + sums[1::2]
    return sums[:, 0::2] + sums[:, 1::2]
