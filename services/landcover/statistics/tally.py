"""Sums by class: of whole blocks from their histograms, of edge blocks from their maps.

A table is float64 `(3, values)`: pixels, summed confidence (0 to 255 a pixel) and true area in m² of each class value,
index 0 = unknown. Tables of disjoint ground add up.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from landcover import block
from landcover.geodesy import window_area_m2
from landcover.grid import BlockIndex, Grid

Table: TypeAlias = npt.NDArray[np.float64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
ByteArray: TypeAlias = npt.NDArray[np.uint8]


def least_confidence(min_confidence: float) -> int:
    """The least stored confidence, 0..255, that is at least `min_confidence`, 0..1."""
    return math.ceil(min_confidence * 255 - 1e-9)


def empty_table(max_value: int) -> Table:
    """Nothing counted yet."""
    return np.zeros((3, max_value + 1))


def whole_field(least: int) -> str:
    """The field of a block from which `whole_table` counts."""
    return block.JOINT_FIELD if least else block.HISTOGRAM_FIELD


def whole_table(grid: Grid, index: BlockIndex, data: bytes, least: int) -> Table:
    """The table of all of a block that lies on the scene, from `whole_field`.

    Pixels of a confidence below `least` count as unknown. Every pixel has the block's mean area.

    Raises:
        BlockDamaged: the field holds something else.
    """
    if least:
        joint = block.decode_joint_histogram(data)
        kept = joint[:, least:].astype(float)
        pixels, confidence = kept.sum(axis=1), kept @ np.arange(least, 256)
        pixels[0] += joint.sum() - pixels.sum()
    else:
        counts = block.decode_histogram(data)
        pixels, confidence = counts.pixels.astype(float), counts.confidence.astype(float)
    pixels[0] -= grid.block_px**2 - math.prod(grid.block_shape(index))  # what lies beyond the scene
    return np.stack([pixels, confidence, pixels * grid.pixel_area_m2(index)])


def edge_table(
    share: FloatArray, areas_m2: FloatArray, classes: ByteArray, confidence: ByteArray, least: int, max_value: int
) -> Table:
    """The table of part of a block.

    Args:
        share: of each pixel, `(height, width)` of the block's part on the scene, 0..1.
        areas_m2: of each pixel, beside it.
        classes: the block's class map `(block, block)`.
        confidence: beside it.
        least: pixels of a confidence below count as unknown.
        max_value: the largest class value.
    """
    height, width = share.shape
    classes, confidence = classes[:height, :width], confidence[:height, :width]
    flat = (np.where(confidence >= least, classes, 0) if least else classes).ravel().astype(np.intp)
    weights = (share, share * confidence, share * areas_m2)
    return np.stack([np.bincount(flat, each.ravel(), max_value + 1) for each in weights])


def pixel_areas_m2(grid: Grid, index: BlockIndex) -> FloatArray:
    """True ground area of each pixel of a block's part on the scene, m², `(height, width)`.

    Bilinear between the means of the block's quarters: areas change along a block where it is large on the ground and
    the CRS does not keep them (by 0.5 % over 5 km at 70° N in EPSG:3857).
    """
    half = grid.block_px // 2
    quarters = (
        np.array(
            [
                [
                    window_area_m2(
                        grid.crs,
                        grid.transform,
                        col_px=index.col * grid.block_px + col,
                        row_px=index.row * grid.block_px + row,
                        width_px=half,
                        height_px=half,
                    )
                    for col in (0, half)
                ]
                for row in (0, half)
            ]
        )
        / half**2
    )
    height, width = grid.block_shape(index)
    if not np.isfinite(quarters).all():
        return np.full((height, width), grid.pixel_area_m2(index))
    across = ((np.arange(width) + 0.5) / half - 0.5)[None]  # 0 and 1 at the quarters' centres
    down = ((np.arange(height) + 0.5) / half - 0.5)[:, None]
    (a, b), (c, d) = quarters
    areas: FloatArray = (a + (b - a) * across) * (1 - down) + (c + (d - c) * across) * down
    return areas
