"""A class map as polygons that neither overlap nor leave gaps: one chunk of it at a time.

The outlines of pixels are simplified together (`shapely.coverage_simplify`: Visvalingam and Whyatt, "Line
generalisation by repeated elimination of points", Cartographic Journal 30, 1993), so that neighbours keep one line
between them. Along the edges of a chunk nothing is simplified, and both sides have the same points there, so that
chunks meet as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import shapes

from landcover.classes import UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Polygons:
    """The mapped polygons of a chunk; all arrays are `(polygons,)`."""

    classes: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.object_]
    """In pixels, x = column and y = row, from the chunk's corner."""
    mean_confidence: npt.NDArray[np.float64]
    """Of the pixels before simplification, 0..1; NaN if there is no confidence."""


@dataclass(frozen=True, kw_only=True)
class _Outlines:
    """Rings along the edges of pixels, as every polygon's points in a row."""

    values: npt.NDArray[np.uint8]
    """Class of each polygon."""
    points: npt.NDArray[np.int64]
    """(column, row) of each point, `(points, 2)`; rings are closed."""
    ring: npt.NDArray[np.int64]
    """Number of the ring of each point."""
    polygon: npt.NDArray[np.int64]
    """Number of the polygon of each ring; the first ring of a polygon is its shell."""


def trace(surrounded: npt.NDArray[np.uint8], confidence: npt.NDArray[np.uint8] | None, tolerance_px: float) -> Polygons:
    """The polygons of a chunk of a class map.

    What is unknown is simplified with the rest, and left out then: its outline is no staircase either.

    Args:
        surrounded: class values `(height + 2, width + 2)`: the chunk and one pixel around it, 0 beyond the map.
        confidence: `(height, width)`, 0..255.
        tolerance_px: corners that cut off less than its square go.
    """
    pixels = np.ascontiguousarray(surrounded[1:-1, 1:-1])
    traced = _trace(pixels)
    means = np.full(len(traced.values), np.nan)
    steps = _unit_steps(traced)
    if confidence is not None:
        means = _means(traced, steps, confidence) / 255
    outlines = _keep(traced, steps, _nodes(surrounded))
    rings = shapely.linearrings(outlines.points.astype(float), indices=outlines.ring)
    polygons = shapely.polygons(rings, indices=outlines.polygon)
    if tolerance_px > 0:
        polygons = shapely.coverage_simplify(polygons, tolerance_px, simplify_boundary=False)
    mapped = outlines.values != UNKNOWN
    return Polygons(classes=outlines.values[mapped], shapes=polygons[mapped], mean_confidence=means[mapped])


def _trace(pixels: npt.NDArray[np.uint8]) -> _Outlines:
    """Regions of equal pixels, joined by their sides; points only where an outline turns."""
    values, rings, polygon = [], [], []
    for number, (geometry, value) in enumerate(shapes(pixels, connectivity=4)):
        values.append(value)
        rings += geometry["coordinates"]
        polygon += [number] * len(geometry["coordinates"])
    return _Outlines(
        values=np.array(values, np.uint8),
        points=np.array([point for ring in rings for point in ring], np.int64).reshape(-1, 2),
        ring=np.repeat(np.arange(len(rings)), [len(ring) for ring in rings]),
        polygon=np.array(polygon, np.int64),
    )


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """Outlines cut into steps of one pixel's side; a ring's last point is a step that goes nowhere."""

    starts: npt.NDArray[np.int64]
    """(column, row), `(steps, 2)`."""
    ways: npt.NDArray[np.int64]
    """-1, 0 or 1 along each axis."""
    ring: npt.NDArray[np.int64]
    turns: npt.NDArray[np.bool_]
    """Whether a step begins at a point of the outline."""


def _unit_steps(outlines: _Outlines) -> _Steps:
    points, ring = outlines.points, outlines.ring
    along = np.zeros_like(points)
    along[:-1] = np.diff(points, axis=0)
    along[:-1][ring[1:] != ring[:-1]] = 0
    lengths = np.maximum(np.abs(along).sum(axis=1), 1)
    ways = np.repeat(np.sign(along), lengths, axis=0)
    firsts = np.cumsum(lengths) - lengths
    number = np.arange(lengths.sum()) - np.repeat(firsts, lengths)
    return _Steps(
        starts=np.repeat(points, lengths, axis=0) + number[:, np.newaxis] * ways,
        ways=ways,
        ring=np.repeat(ring, lengths),
        turns=number == 0,
    )


def _means(outlines: _Outlines, steps: _Steps, confidence: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean of the pixels in each polygon, by Green's theorem: sums from the left edge, with the sign of the way there.

    Holes go round the other way than their shells, and which of them goes down cancels out.
    """
    height, width = confidence.shape
    before = np.zeros((height, width + 1), np.int64)
    np.cumsum(confidence, axis=1, out=before[:, 1:])
    upright = steps.ways[:, 1] != 0
    cols, rows, way = steps.starts[upright, 0], steps.starts[upright, 1], steps.ways[upright, 1]
    polygon, count = outlines.polygon[steps.ring[upright]], len(outlines.values)
    rows = rows + np.minimum(way, 0)
    sums = np.bincount(polygon, weights=way * before[rows, cols], minlength=count)
    pixels = np.bincount(polygon, weights=way * cols, minlength=count)
    means: npt.NDArray[np.float64] = sums / pixels
    return means


def _nodes(surrounded: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Corners of pixels, `(height + 1, width + 1)`, where at least three lines between polygons meet.

    The chunk's own edge is such a line, so what lies beyond it makes nodes as the same corner has them from there.
    """
    beside = surrounded[:, 1:] != surrounded[:, :-1]
    below = surrounded[1:] != surrounded[:-1]
    beside[:, [0, -1]] = True
    below[[0, -1]] = True
    lines = beside[1:].astype(np.uint8) + beside[:-1] + below[:, 1:] + below[:, :-1]
    nodes: npt.NDArray[np.bool_] = lines >= 3
    return nodes


def _keep(outlines: _Outlines, steps: _Steps, nodes: npt.NDArray[np.bool_]) -> _Outlines:
    """The outlines with a point at every node they pass."""
    kept = steps.turns | nodes[steps.starts[:, 1], steps.starts[:, 0]]
    return _Outlines(values=outlines.values, points=steps.starts[kept], ring=steps.ring[kept], polygon=outlines.polygon)
