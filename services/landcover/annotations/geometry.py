"""Which polygons are fit to be annotations: well-formed, valid, on Earth, inside their scene."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.errors import GEOSException

from landcover.annotations.vocabulary import shown
from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84, transformer
from landcover.scene import Scene

MAX_VERTICES = 10_000
"""Of one annotation: what a person draws has some dozens, what a program traced has more than a page can show."""

EDGE_TOLERANCE_PX = 1.0
"""How far a vertex may lie beyond the scene's edge: who snaps to it must not fail by rounding."""

Area: TypeAlias = Polygon | MultiPolygon


def read_geometry(document: object) -> Area:
    """A GeoJSON geometry with its coordinates as they are, in whatever CRS; heights are dropped.

    Raises:
        InvalidRequest: it is no Polygon or MultiPolygon, or its coordinates are not well-formed.
    """
    if document is None:
        raise InvalidRequest("has no geometry; draw a polygon.")
    if not isinstance(document, Mapping):
        raise InvalidRequest("geometry must be a GeoJSON object with type and coordinates.")
    kind, coordinates = document.get("type"), document.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise InvalidRequest(f"geometry is a {shown(kind)}; an annotation is a Polygon or a MultiPolygon.")
    if "crs" in document:
        raise InvalidRequest("geometry has a crs; GeoJSON is longitude and latitude in WGS 84 (RFC 7946).")
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, list | tuple) or not parts:
        raise InvalidRequest("geometry has no coordinates; draw a polygon.")
    _refuse_many_vertices(_count_positions(parts))
    rings = [_rings(part, f"polygon {number}, " if len(parts) > 1 else "") for number, part in enumerate(parts, 1)]
    polygons = [Polygon(shell, holes) for shell, *holes in rings]
    return polygons[0] if kind == "Polygon" else MultiPolygon(polygons)


def read_wkb(data: bytes | None) -> Area:
    """A geometry as tables keep it.

    Raises:
        InvalidRequest: as `read_geometry`.
    """
    if data is None:
        return read_geometry(None)
    try:
        found = shapely.from_wkb(data)
    except GEOSException as error:
        raise InvalidRequest(
            f"geometry cannot be read ({str(error).strip().rstrip('.')}); rings must be closed and edges straight."
        ) from None
    return read_geometry(shapely.geometry.mapping(found))


def to_wgs84(geometry: Area, crs: str) -> Area:
    """`geometry` of `crs` in longitude and latitude; what has none becomes infinite, and `check_geometry` says so."""
    return reproject(geometry, crs, WGS84)


def reproject(geometry: Area, source: str, target: str) -> Area:
    """`geometry` with every vertex taken from one CRS to another."""
    if source == target:
        return geometry

    def project(points: Any) -> Any:
        return np.column_stack(transformer(source, target).transform(points[:, 0], points[:, 1]))

    moved: Area = shapely.transform(geometry, project)
    return moved


def check_geometry(geometry: Area) -> None:
    """Accept a valid area in longitude and latitude.

    Raises:
        InvalidRequest: it says what is wrong, and where.
    """
    points = shapely.get_coordinates(geometry)
    _refuse_many_vertices(len(points))
    if not np.isfinite(points).all():
        raise InvalidRequest("geometry has a position that is no finite number; draw it anew inside the scene.")
    outside = (np.abs(points[:, 0]) > 180) | (np.abs(points[:, 1]) > 90)
    if outside.any():
        lon, lat = points[int(outside.argmax())]
        hint = "coordinates are degrees, longitude first, in WGS 84"
        if (np.abs(points[:, 1]) <= 180).all() and (np.abs(points[:, 0]) <= 90).all():
            hint = "longitude and latitude seem to be swapped: longitude comes first"
        elif (np.abs(points[:, 0]) <= 360).all() and (np.abs(points[:, 1]) <= 90).all():
            hint = "cut what crosses the antimeridian into a MultiPolygon (RFC 7946, 3.1.9)"
        raise InvalidRequest(f"geometry has the position {lon:.9g}, {lat:.9g}, which is not on Earth; {hint}.")
    if shapely.area(shapely.convex_hull(geometry)) == 0:
        raise InvalidRequest("geometry has no area: all its positions lie on one line or point.")
    if not geometry.is_valid:
        raise InvalidRequest(f"geometry is not valid: {why_invalid(geometry)}; repair it where it says.")
    if not geometry.area > 0:
        raise InvalidRequest("geometry has no area.")


def check_inside(geometry: Area, scene: Scene) -> None:
    """Accept an area whose every vertex lies on the scene, or within a pixel of it.

    Raises:
        InvalidRequest: one does not; the sentence names the one farthest outside.
    """
    points = shapely.get_coordinates(geometry)
    beyond = _beyond_px(points, scene)
    if beyond.max() <= EDGE_TOLERANCE_PX:
        return
    worst = int(beyond.argmax())
    lon, lat = points[worst]
    bounds = ", ".join(f"{edge:.5f}" for edge in scene.bounds_wgs84)
    far = f"{beyond[worst]:.0f} px" if math.isfinite(beyond[worst]) else "far"
    hint = "clip it to the image"
    if (np.abs(points[:, 0]) <= 90).all() and _beyond_px(points[:, ::-1], scene).max() <= EDGE_TOLERANCE_PX:
        hint = "longitude and latitude seem to be swapped: longitude comes first"
    raise InvalidRequest(
        f"geometry leaves scene '{scene.id}': {lon:.6f}, {lat:.6f} (longitude, latitude) lies {far} outside its image, "
        f"whose bounds are {bounds}; {hint}."
    )


def envelope(geometry: Area) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees; west > east where a MultiPolygon continues across the antimeridian."""
    west, south, east, north = shapely.bounds(geometry)
    parts = shapely.bounds(shapely.get_parts(geometry))
    if west == -180 and east == 180 and (halves := _two_halves(parts)) is not None:
        west, east = halves
    return float(west), float(south), float(east), float(north)


def _two_halves(parts: Any) -> tuple[float, float] | None:
    """Western and eastern limit of parts of which some end at 180° and the others begin at -180°."""
    eastern_hemisphere = parts[:, 0] > 0
    if eastern_hemisphere.all() or not (parts[~eastern_hemisphere, 2] < 0).all() or not eastern_hemisphere.any():
        return None
    return float(parts[eastern_hemisphere, 0].min()), float(parts[~eastern_hemisphere, 2].max())


def _beyond_px(points: Any, scene: Scene) -> Any:
    """How far each of `points` `(n, 2)` longitude, latitude lies outside the image, in its pixels `(n,)`."""
    x, y = transformer(WGS84, scene.crs).transform(points[:, 0], points[:, 1])
    cols, rows = ~scene.transform @ (np.asarray(x), np.asarray(y))
    with np.errstate(invalid="ignore"):
        beyond = np.maximum.reduce([-cols, cols - scene.width_px, -rows, rows - scene.height_px])
    return np.where(np.isnan(beyond), np.inf, beyond)


def _rings(rings: object, where: str) -> list[list[tuple[float, float]]]:
    if not isinstance(rings, list | tuple) or not rings:
        raise InvalidRequest(f"{where}geometry has no rings; coordinates of a Polygon are a list of rings.")
    return [_ring(ring, f"{where}ring {number}") for number, ring in enumerate(rings, 1)]


def _ring(ring: object, where: str) -> list[tuple[float, float]]:
    if not isinstance(ring, list | tuple):
        raise InvalidRequest(f"{where} of geometry is no list of positions.")
    points = [_position(each, where) for each in ring]
    if len(points) < 4:
        raise InvalidRequest(f"{where} of geometry has {len(points)} positions; a closed ring has four or more.")
    if points[0] != points[-1]:
        raise InvalidRequest(
            f"{where} of geometry is not closed: it begins at {points[0][0]:.9g}, {points[0][1]:.9g} and ends at "
            f"{points[-1][0]:.9g}, {points[-1][1]:.9g}; repeat its first position at its end."
        )
    return points


def _position(position: object, where: str) -> tuple[float, float]:
    numbers = position if isinstance(position, list | tuple) else ()
    if len(numbers) not in (2, 3) or not all(type(each) in (int, float) for each in numbers):
        raise InvalidRequest(
            f"{where} of geometry has the position {shown(position)}; a position is two numbers, x and y."
        )
    try:
        x, y = float(numbers[0]), float(numbers[1])
    except OverflowError:
        x = y = math.inf
    if not (math.isfinite(x) and math.isfinite(y)):
        raise InvalidRequest(f"{where} of geometry has a position that is no finite number.")
    return x, y


def _count_positions(parts: Any) -> int:
    rings = (ring for part in parts if isinstance(part, list | tuple) for ring in part)
    return sum(len(ring) for ring in rings if isinstance(ring, list | tuple))


def _refuse_many_vertices(count: int) -> None:
    if count > MAX_VERTICES:
        raise InvalidRequest(
            f"geometry has {count} vertices, at most {MAX_VERTICES} are taken; simplify it or cut it into several."
        )


def why_invalid(geometry: Area) -> str:
    """GEOS's reason with the place in words: `Self-intersection[1 2]` → `self-intersection at 1, 2`."""
    reason = shapely.is_valid_reason(geometry)
    what, _, place = reason.partition("[")
    place = ", ".join(place.rstrip("]").split())
    return f"{what.strip().lower()} at {place} (longitude, latitude)" if place else what.lower()
