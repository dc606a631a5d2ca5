"""The polygons that are measured: of a given area in blocks, and of many vertices; in the CRS of the grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import shapely
from shapely import Polygon

from landcover.geodesy import apply
from landcover.grid import Grid

Points: TypeAlias = npt.NDArray[np.float64]

CIRCLE = "circle"

_OFF = 0.317
"""Of a block or pixel: edges lie nowhere in particular."""
_VERTICES = 200_000
"""As many as a request may have, less the one that closes the ring."""
_WAVY_BLOCKS = 6
_ZIGZAGS = 5_000
_PARCEL_PX = 60, 40
_VILLAGE_BLOCKS = 16
_PARCELS = 1_000


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One thing to ask for."""

    name: str
    polygons: tuple[Polygon, ...]
    """In the grid's CRS."""
    blocks: float
    """Their area, in blocks."""

    @property
    def collection(self) -> dict[str, Any]:
        """As a GeoJSON FeatureCollection, in the grid's CRS."""
        return {"type": "FeatureCollection", "features": [_feature(each) for each in self.polygons]}


def areas(grid: Grid, largest: int) -> Iterator[Shape]:
    """Circles and squares of 10, 100, … up to `largest` blocks, around the middle of the grid."""
    blocks = 10
    while blocks <= largest:
        side = grid.block_px * math.sqrt(blocks)
        radius = side / math.sqrt(math.pi)
        turns = np.linspace(0, 2 * math.pi, 361)[:-1]
        yield _shape(grid, CIRCLE, blocks, radius * np.column_stack([np.cos(turns), np.sin(turns)]))
        yield _shape(grid, "square", blocks, side * np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]))
        blocks *= 10


def many_vertices(grid: Grid) -> Shape:
    """A wavy circle of as many vertices as a request may send."""
    turns = np.linspace(0, 2 * math.pi, _VERTICES)[:-1]
    reach = min(0.45 * grid.width_px, _WAVY_BLOCKS * grid.block_px) + 20 * np.sin(turns * 2000)
    ring = reach[:, None] * np.column_stack([np.cos(turns), np.sin(turns)])
    return _shape(grid, f"wavy circle, {_VERTICES:,} vertices", Polygon(ring).area / grid.block_px**2, ring)


def zigzag(grid: Grid) -> Shape:
    """A saw of 10 000 edges across the grid, each a block long."""
    x = np.linspace(-0.45, 0.45, 2 * _ZIGZAGS + 1) * grid.width_px
    high = float(grid.block_px)
    y = np.where(np.arange(len(x)) % 2, high / 2, -high / 2 + 1)
    base = np.array([(x[-1], -high / 2), (x[0], -high / 2)])
    ring = np.vstack([np.column_stack([x, y]), base])
    return _shape(grid, f"saw, {2 * _ZIGZAGS:,} edges", Polygon(ring).area / grid.block_px**2, ring)


def parcels(grid: Grid) -> Shape:
    """A thousand parcels that lie on the same few blocks."""
    rng = np.random.default_rng(1)
    width, height = _PARCEL_PX
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    reach = min(_VILLAGE_BLOCKS, grid.cols - 1) * grid.block_px / 2 - width
    found = []
    for x, y in rng.uniform(-reach, reach, (_PARCELS, 2)):
        turn = rng.uniform(0, math.pi)
        turned = corners @ np.array([(math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))])
        found.append(_polygon(grid, turned + np.array([x, y])))
    return Shape(
        name=f"{_PARCELS:,} parcels",
        polygons=tuple(found),
        blocks=_PARCELS * width * height / grid.block_px**2,
    )


def _shape(grid: Grid, name: str, blocks: float, ring: Points) -> Shape:
    return Shape(name=name, polygons=(_polygon(grid, ring),), blocks=blocks)


def _polygon(grid: Grid, ring: Points) -> Polygon:
    """A ring of pixels around the middle of the grid, as a polygon of its CRS."""
    columns, rows = grid.width_px / 2 + _OFF + ring[:, 0], grid.height_px / 2 + _OFF - ring[:, 1]
    return Polygon(np.column_stack(apply(grid.transform, columns, rows)))


def _feature(polygon: Polygon) -> dict[str, Any]:
    return {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(polygon)}
