"""Which share of each pixel a polygon covers, exactly: the signed area between its edges and the pixels' right sides.

Each edge is cut where it passes from pixel to pixel; a piece covers what lies right of it in its pixel and all of the
pixels further right, with the sign of its direction, so that sums along rows are the shares (as font rasterisers do,
such as font-rs). It costs what the edges' length in pixels does, and rounding at a pixel's corner moves an area by
1e-13, not a whole pixel from one side to the other. exactextract says the same (the tests compare), at twice the cost
and more where there are many blocks or small polygons.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import shapely

from landcover.statistics.region import Area

FloatArray: TypeAlias = npt.NDArray[np.float64]

_PIECES_AT_ONCE = 1 << 18
"""Cut at a time, whatever the polygon: a tenth of a kilobyte each."""


def coverage(shape: Area, width: int, height: int) -> FloatArray:
    """The share of each pixel that lies inside `shape`, `(height, width)`, 0..1.

    Args:
        shape: valid, inside 0 ≤ x ≤ `width` and 0 ≤ y ≤ `height`; pixel (row, column) is the unit square from
            x = column and y = row.
        width: in pixels.
        height: in pixels.
    """
    across = width + 1
    sums = np.zeros(height * across + 1)
    for start, end in _edges(shape):
        starts, ends = _cut(*_cut(start, end, axis=1), axis=0)
        middle = (starts + ends) / 2
        col = np.clip(np.floor(middle[0]).astype(np.int64), 0, width)
        row = np.clip(np.floor(middle[1]).astype(np.int64), 0, height - 1)
        down, right = ends[1] - starts[1], middle[0] - col
        cell = row * across + col
        beyond = down * right
        sums += np.bincount(np.concatenate([cell, cell + 1]), np.concatenate([down - beyond, beyond]), len(sums))
    shares = np.cumsum(sums[:-1].reshape(height, across), axis=1)[:, :width]
    return np.clip(shares, 0, 1, out=shares)


def _edges(shape: Area) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Starts and ends, `(2, edges)` each, of edges that are not level, some at a time; those that go down enter."""
    rings = shapely.get_rings(shapely.get_parts(shapely.orient_polygons(shape, exterior_cw=True)))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    edges = (ring[:-1] == ring[1:]) & (points[:-1, 1] != points[1:, 1])
    start, end = points[:-1][edges].T, points[1:][edges].T
    pieces = np.cumsum(np.abs(end - start).sum(axis=0) + 3)
    turns = np.flatnonzero(np.diff(pieces // _PIECES_AT_ONCE)) + 1
    yield from zip(np.split(start, turns, axis=1), np.split(end, turns, axis=1), strict=True)


def _cut(start: FloatArray, end: FloatArray, *, axis: int) -> tuple[FloatArray, FloatArray]:
    """Every piece cut where its coordinate of `axis` is a whole number, in order."""
    a, b = start[axis], end[axis]
    least = np.floor(np.minimum(a, b)) + 1
    cuts = np.maximum(np.ceil(np.maximum(a, b)) - least, 0).astype(np.int64)
    lasts = np.cumsum(cuts + 1) - 1
    firsts = lasts - cuts
    of = np.repeat(np.arange(len(a)), cuts + 1)
    number = np.arange(len(of)) - firsts[of]
    cut = np.where(b > a, least - 1, least + cuts)[of] + np.where(b > a, 1, -1)[of] * number
    slope = np.divide(end - start, b - a, out=np.zeros_like(start), where=a != b)
    starts = start[:, of] + (cut - a[of]) * slope[:, of]
    starts[axis] = cut
    starts[:, firsts] = start
    ends = np.empty_like(starts)
    ends[:, :-1] = starts[:, 1:]
    ends[:, lasts] = end
    return starts, ends
