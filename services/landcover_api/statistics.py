"""Area of each class inside a polygon: histograms of whole blocks, fractional coverage where the edge runs.

All of it happens on the grid's own pixels. A block that the polygon covers wholly gives its histogram; only those
on the edge are decoded, and each of their pixels counts by the share of it that lies inside (exactextract).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource

from landcover import block
from landcover.classes import LandCoverClass
from landcover.geodesy import WGS84, geodesic_area_m2, outline, transformer
from landcover.grid import BlockIndex, Grid

_OUTLINE_SEGMENTS = 32


@dataclass(frozen=True, kw_only=True)
class Region:
    """A polygon in the grid's pixel coordinates."""

    ring: npt.NDArray[np.float64]
    """`(points, 2)`: column, row; closed. Empty if the polygon is nowhere near the grid."""
    area_m2: float
    """True ground area."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Which blocks a region touches."""

    whole: tuple[BlockIndex, ...]
    partial: tuple[BlockIndex, ...]


class Tally:
    """Sums over blocks, by class value; arrays are `(values,)` float64, index 0 = unknown."""

    def __init__(self, max_value: int) -> None:
        self.pixels = np.zeros(max_value + 1)
        self.area_m2 = np.zeros(max_value + 1)
        self.confidence = np.zeros(max_value + 1)

    def add(self, pixels: npt.NDArray[Any], confidence: npt.NDArray[Any], pixel_area_m2: float) -> None:
        """Add one block: (fractional) pixels and summed confidence 0..255 of each value."""
        self.pixels += pixels
        self.confidence += confidence
        self.area_m2 += pixels * pixel_area_m2


def rectangle_region(grid: Grid, crs: str, bounds: tuple[float, float, float, float]) -> Region:
    """The rectangle `(xmin, ymin, xmax, ymax)` of `crs`, such as a tile, as a region of `grid`.

    Only the part near the grid is followed: the grid's CRS may not reach the corners of a tile of zoom 0.
    """
    xmin, ymin, xmax, ymax = bounds
    middle = (xmin + xmax) / 2  # in halves, since of an outline longer than half the Earth no inside can be told
    area_m2 = sum(_area_m2(crs, half) for half in ((xmin, ymin, middle, ymax), (middle, ymin, xmax, ymax)))
    west, south, east, north = _surroundings(grid, crs)
    near = max(xmin, west), max(ymin, south), min(xmax, east), min(ymax, north)
    if near[0] >= near[2] or near[1] >= near[3]:
        return Region(ring=np.empty((0, 2)), area_m2=area_m2)
    cols, rows = ~grid.transform @ transformer(crs, grid.crs).transform(*outline(*near, segments=_OUTLINE_SEGMENTS))
    return Region(ring=np.stack([np.append(cols, cols[0]), np.append(rows, rows[0])], axis=1), area_m2=area_m2)


def coverage(grid: Grid, region: Region) -> Coverage:
    """Sort the blocks that `region` touches into whole and partial ones."""
    left, top, right, bottom = _block_box(grid, region)
    if left >= right or top >= bottom:
        return Coverage(whole=(), partial=())
    size = grid.block_px
    raster = np.zeros((bottom - top, right - left), np.uint8)
    share = _shares(region, raster, col=left * size, row=top * size, pixel=size)
    whole: list[BlockIndex] = []
    partial: list[BlockIndex] = []
    for row, col in np.argwhere(share > 0).tolist():
        index = BlockIndex(top + row, left + col)
        inner = grid.block_shape(index) == (size, size)
        (whole if inner and share[row, col] >= 1 else partial).append(index)
    return Coverage(whole=tuple(whole), partial=tuple(partial))


def blocks_around(grid: Grid, region: Region) -> int:
    """How many blocks the region's bounding box touches: what `coverage` costs."""
    left, top, right, bottom = _block_box(grid, region)
    return max(0, right - left) * max(0, bottom - top)


def _block_box(grid: Grid, region: Region) -> tuple[int, int, int, int]:
    """First and one past the last column and row of blocks around the region: left, top, right, bottom."""
    if not len(region.ring):
        return 0, 0, 0, 0
    low = np.floor(region.ring.min(axis=0) / grid.block_px).astype(int)
    high = np.ceil(region.ring.max(axis=0) / grid.block_px).astype(int)
    left, top = max(0, int(low[0])), max(0, int(low[1]))
    return left, top, min(grid.cols, int(high[0])), min(grid.rows, int(high[1]))


def add_partial(
    tally: Tally,
    grid: Grid,
    region: Region,
    index: BlockIndex,
    classes: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.uint8],
) -> None:
    """Add the part of one decoded block `(block, block)` that lies inside `region`."""
    height, width = grid.block_shape(index)
    classes, confidence = classes[:height, :width], confidence[:height, :width]
    share = _shares(region, classes, col=index.col * grid.block_px, row=index.row * grid.block_px, pixel=1)
    weights, flat = share.ravel(), classes.ravel()
    values = len(tally.pixels)
    tally.add(
        np.bincount(flat, weights=weights, minlength=values),
        np.bincount(flat, weights=weights * confidence.ravel(), minlength=values),
        grid.pixel_area_m2(index),
    )


def add_whole(tally: Tally, grid: Grid, index: BlockIndex, histogram: block.Histogram) -> None:
    """Add a block that lies inside the region altogether."""
    tally.add(histogram.pixels, histogram.confidence, grid.pixel_area_m2(index))


def summary(tally: Tally, classes: Iterable[LandCoverClass], total_area_m2: float) -> dict[str, Any]:
    """The document's figures: every class of the contract, also at zero; `share` is of the mapped area."""
    mapped = float(tally.area_m2[1:].sum())
    return {
        "total_area_m2": total_area_m2,
        "mapped_area_m2": mapped,
        "coverage": min(1.0, mapped / total_area_m2) if total_area_m2 else 0.0,
        "classes": [
            {
                "value": each.value,
                "name": each.name,
                "color": each.color,
                "pixels": float(tally.pixels[each.value]),
                "area_m2": float(tally.area_m2[each.value]),
                "share": float(tally.area_m2[each.value]) / mapped if mapped else 0.0,
                "mean_confidence": (
                    float(tally.confidence[each.value] / tally.pixels[each.value]) / 255
                    if tally.pixels[each.value]
                    else 0.0
                ),
                "adjusted_area_m2": None,
                "adjusted_ci95_m2": None,
            }
            for each in classes
        ],
    }


def _area_m2(crs: str, bounds: tuple[float, float, float, float]) -> float:
    return geodesic_area_m2(*transformer(crs, WGS84).transform(*outline(*bounds, segments=_OUTLINE_SEGMENTS)))


def _surroundings(grid: Grid, crs: str) -> tuple[float, float, float, float]:
    """A box in `crs` that holds the grid with some margin; without limits where `crs` does not reach all of it."""
    cols, rows = outline(0, 0, grid.width_px, grid.height_px, segments=_OUTLINE_SEGMENTS)
    x, y = transformer(grid.crs, crs).transform(*(grid.transform @ (cols, rows)))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return -np.inf, -np.inf, np.inf, np.inf
    margin = max(float(np.ptp(x)), float(np.ptp(y))) / 10
    return float(x.min()) - margin, float(y.min()) - margin, float(x.max()) + margin, float(y.max()) + margin


def _shares(
    region: Region, raster: npt.NDArray[np.uint8], *, col: int, row: int, pixel: int
) -> npt.NDArray[np.float64]:
    """The share of each cell of `raster` inside `region`; its corner lies at (col, row), a cell is `pixel` px.

    exactextract counts y upward, so rows are negated.
    """
    height, width = raster.shape
    source = NumPyRasterSource(
        raster, xmin=col, ymin=-(row + height * pixel), xmax=col + width * pixel, ymax=-row, name="cells"
    )
    ring = [[float(x), -float(y)] for x, y in region.ring]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    found = exact_extract(source, feature, ["cell_id", "coverage"])[0]["properties"]
    share = np.zeros(height * width)
    share[np.asarray(found["cell_id"], dtype=np.int64)] = found["coverage"]
    return share.reshape(height, width)
