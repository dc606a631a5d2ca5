"""Polygons and boxes of any CRS as regions of a grid: in its own pixels, with their true area."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS
from shapely import MultiPolygon, Polygon
from shapely.affinity import translate

from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84, geodesic_area_m2, outline, transformer
from landcover.grid import Grid

Area: TypeAlias = Polygon | MultiPolygon
Points: TypeAlias = npt.NDArray[np.float64]

EDGE_TOLERANCE_PX = 0.05
"""An edge that is straight in its own CRS may be this far from straight in the grid's before it is divided."""

LATTICE_PX = 8
"""The edges of tiles are divided at the corners of tiles about so large, hence a tile's are its children's."""

MOST_POINTS = 200_000
"""Of the edges of one polygon, once they are divided."""

_OUTLINE_SEGMENTS = 32
_BAND_DEGREES = 90.0
_MOST_LATTICE_STEPS = 1 << 15

_LOOKED_AT = (0.25, 0.5, 0.75)
"""Where along an edge it is told whether it is straight; its middle alone may be on the line by symmetry."""

_GEODESIC_STEP = {True: 0.01, False: 1000.0}
"""Edges no longer than that, in degrees or metres, are as good as geodesics (a decimetre at 80° N)."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Part of the ground, as a grid sees it."""

    shape: Area
    """x = column and y = -row of the grid, so that north is up; empty if it is nowhere near the grid."""
    measure: Callable[[], float]

    @cached_property
    def area_m2(self) -> float:
        """True ground area of all of it, also beyond the grid; only measured when it is asked for."""
        return self.measure()


def polygon_region(grid: Grid, crs: str, geometry: Area, *, most_points: int = MOST_POINTS) -> Region:
    """A valid polygon of `crs` as a region of `grid`.

    Its edges are straight in `crs` (for GeoJSON: in longitude and latitude, RFC 7946 3.1.1). Longitudes may go on
    beyond 180°; parts are moved by full turns to where the grid is. Edges are not divided into more than `most_points`,
    however many and long they are.

    Raises:
        InvalidRequest: it reaches beyond what `crs` can express.
    """
    points = shapely.get_coordinates(geometry)
    if not np.isfinite(transformer(crs, WGS84).transform(points[:, 0], points[:, 1])).all():
        raise InvalidRequest("geometry reaches beyond what its CRS can express; cut it to the scene.")
    drawn = geometry
    if is_geographic(crs):
        geometry = _turned_towards(grid, crs, geometry)
    near = shapely.box(*_surroundings(grid, crs))
    if not shapely.covers(near, geometry):
        geometry = _polygons_of(shapely.intersection(geometry, near))
    shape = _in_pixels(grid, crs, geometry, most_points)
    return Region(shape=shape, measure=lambda: polygon_area_m2(crs, drawn, most_points=most_points))


def box_region(grid: Grid, crs: str, bounds: tuple[float, float, float, float]) -> Region:
    """The rectangle `(xmin, ymin, xmax, ymax)` of `crs`, such as a tile, as a region of `grid`.

    A tile's edges are divided where its descendants' corners lie, so that areas of tiles sum to their parent's. Only
    the part near the grid is followed: the grid's CRS may not reach the corners of a tile of zoom 0.
    """
    xmin, ymin, xmax, ymax = bounds
    west, south, east, north = _surroundings(grid, crs)
    x = _lattice(xmin, xmax, west, east, _pixel_in(grid, crs))
    y = _lattice(ymin, ymax, south, north, _pixel_in(grid, crs))
    if len(x) < 2 or len(y) < 2:
        return Region(shape=Polygon(), measure=lambda: box_area_m2(crs, bounds))
    ring = np.concatenate(
        [
            np.column_stack([x[:-1], np.full(len(x) - 1, y[0])]),
            np.column_stack([np.full(len(y) - 1, x[-1]), y[:-1]]),
            np.column_stack([x[:0:-1], np.full(len(x) - 1, y[-1])]),
            np.column_stack([np.full(len(y) - 1, x[0]), y[:0:-1]]),
        ]
    )
    return Region(shape=_valid(_polygon(_to_pixels(grid, crs)(ring))), measure=lambda: box_area_m2(crs, bounds))


def box_area_m2(crs: str, bounds: tuple[float, float, float, float]) -> float:
    """Geodesic area of a rectangle of `crs`, m²; in halves, since of an outline longer than half the Earth no inside
    can be told.
    """
    xmin, ymin, xmax, ymax = bounds
    middle = (xmin + xmax) / 2
    halves = (xmin, ymin, middle, ymax), (middle, ymin, xmax, ymax)
    to_wgs84 = transformer(crs, WGS84)
    return sum(geodesic_area_m2(*to_wgs84.transform(*outline(*half, segments=_OUTLINE_SEGMENTS))) for half in halves)


def polygon_area_m2(crs: str, geometry: Area, *, most_points: int = MOST_POINTS) -> float:
    """Geodesic area of a polygon of `crs`, m²: of each shell less its holes."""
    to_wgs84 = transformer(crs, WGS84)
    geographic = is_geographic(crs)
    step = max(_GEODESIC_STEP[geographic], geometry.length / most_points)
    total = 0.0
    for part in _bands(geometry) if geographic else shapely.get_parts(geometry):
        followed = shapely.segmentize(part, step)
        for number, ring in enumerate((followed.exterior, *followed.interiors)):
            points = shapely.get_coordinates(ring)[:-1]
            lon_lat = points.T if crs == WGS84 else to_wgs84.transform(points[:, 0], points[:, 1])
            area = geodesic_area_m2(*lon_lat)
            total += area if number == 0 else -area
    return max(total, 0.0)


def _bands(geometry: Area) -> list[Polygon]:
    """At most 90° of longitude each: of an outline that goes half around the Earth no inside can be told."""
    west, south, east, north = geometry.bounds
    if east - west <= _BAND_DEGREES:
        return list(shapely.get_parts(geometry))
    edges = np.append(np.arange(west, east, _BAND_DEGREES), east)
    bands = shapely.box(edges[:-1], south, edges[1:], north)
    return [part for band in shapely.intersection(geometry, bands) for part in shapely.get_parts(_polygons_of(band))]


def _in_pixels(grid: Grid, crs: str, geometry: Area, most_points: int) -> Area:
    """`geometry` in the grid's pixels, with its edges followed."""
    to_pixels = _to_pixels(grid, crs)
    straight = _are_same(crs, grid.crs)
    most = most_points // max(1, len(shapely.get_rings(geometry)))

    def ring(line: Any) -> Points:
        points = shapely.get_coordinates(line)
        return to_pixels(points if straight else _followed(points, to_pixels, most))

    parts = [
        _polygon(ring(part.exterior), [ring(each) for each in part.interiors])
        for part in shapely.get_parts(geometry)
        if not part.is_empty
    ]
    return _valid(parts[0] if len(parts) == 1 else MultiPolygon(parts))


def _followed(points: Points, project: Callable[[Points], Points], most_points: int) -> Points:
    """A closed ring `(n, 2)` with its edges halved until they are straight also after `project`, into pixels."""
    while (count := len(points)) < most_points:
        starts, ends = points[:-1], points[1:]
        between = [starts * (1 - t) + ends * t for t in _LOOKED_AT]
        there = np.split(project(np.concatenate([points, *between])), [count + i * (count - 1) for i in range(3)])
        bent = np.zeros(count - 1, bool)
        for t, seen in zip(_LOOKED_AT, there[1:], strict=True):
            with np.errstate(invalid="ignore"):
                bent |= np.hypot(*(seen - there[0][:-1] * (1 - t) - there[0][1:] * t).T) > EDGE_TOLERANCE_PX
        if not bent.any():
            break
        points = np.insert(points, np.flatnonzero(bent) + 1, (starts + ends)[bent] / 2, axis=0)
    return points


def _to_pixels(grid: Grid, crs: str) -> Callable[[Points], Points]:
    project = transformer(crs, grid.crs)
    inverse = ~grid.transform

    def to_pixels(points: Points) -> Points:
        cols, rows = inverse @ project.transform(points[:, 0], points[:, 1])
        return np.column_stack([cols, -np.asarray(rows)])

    return to_pixels


@lru_cache(maxsize=64)
def is_geographic(crs: str) -> bool:
    """Whether coordinates of `crs` are degrees."""
    return bool(CRS.from_user_input(crs).is_geographic)


@lru_cache(maxsize=64)
def _are_same(crs: str, other: str) -> bool:
    return bool(CRS.from_user_input(crs) == CRS.from_user_input(other))


def _turned_towards(grid: Grid, crs: str, geometry: Area) -> Area:
    """Parts of a geographic CRS moved by full turns to the grid's side of the Earth."""
    west, _, east, _ = _surroundings(grid, crs)
    lon = (west + east) / 2
    parts = []
    for part in shapely.get_parts(geometry):
        turns = round((lon - (part.bounds[0] + part.bounds[2]) / 2) / 360)
        parts.append(translate(part, 360 * turns))
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _lattice(low: float, high: float, least: float, most: float, pixel: float) -> Points:
    """`low` to `high` divided into a power of two of steps of at most `LATTICE_PX` pixels, cut to `least`..`most`."""
    start, end = max(low, least), min(high, most)
    if start >= end:
        return np.empty(0)
    step = (high - low) / 2 ** max(0, math.ceil(math.log2((high - low) / (LATTICE_PX * pixel))))
    while end - start > _MOST_LATTICE_STEPS * step:
        step *= 2
    first, last = math.floor((start - low) / step) + 1, math.ceil((end - low) / step)
    return np.concatenate([[start], low + step * np.arange(first, last), [end]])


def _pixel_in(grid: Grid, crs: str) -> float:
    """Side of the grid's centre pixel in units of `crs`."""
    col, row = grid.width_px / 2, grid.height_px / 2
    corners = [grid.transform @ each for each in ((col, row), (col + 1, row), (col, row + 1))]
    x, y = transformer(grid.crs, crs).transform(*np.transpose(corners))
    side = math.sqrt(abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])))
    return side if math.isfinite(side) and side > 0 else math.inf


@lru_cache(maxsize=256)
def _surroundings(grid: Grid, crs: str) -> tuple[float, float, float, float]:
    """A box in `crs` that holds the grid with some margin; nearly without limits where `crs` does not reach it all."""
    cols, rows = outline(0, 0, grid.width_px, grid.height_px, segments=_OUTLINE_SEGMENTS)
    x, y = transformer(grid.crs, crs).transform(*(grid.transform @ (cols, rows)))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return -1e12, -1e12, 1e12, 1e12
    margin = max(float(np.ptp(x)), float(np.ptp(y))) / 10
    return float(x.min()) - margin, float(y.min()) - margin, float(x.max()) + margin, float(y.max()) + margin


def _polygon(shell: Points, holes: list[Points] | None = None) -> Polygon:
    """A polygon without the points that the grid's CRS does not have: it holds none of the scene there."""
    rings = [ring[np.isfinite(ring).all(axis=1)] for ring in (shell, *(holes or ()))]
    return Polygon(rings[0], [ring for ring in rings[1:] if len(ring) > 3]) if len(rings[0]) > 3 else Polygon()


def _valid(shape: Area) -> Area:
    """Moving a valid polygon may make it touch itself; parts cut at the antimeridian become neighbours."""
    return shape if shape.is_valid else _polygons_of(shapely.make_valid(shape))


def _polygons_of(geometry: Any) -> Area:
    parts = [each for each in shapely.get_parts(shapely.get_parts(geometry)) if each.geom_type == "Polygon"]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
