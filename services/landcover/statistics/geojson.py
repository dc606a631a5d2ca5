"""The polygons that a body asks about: read, checked, and mended where only one thing can be meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from landcover.annotations.geometry import why_invalid
from landcover.annotations.vocabulary import shown
from landcover.errors import InvalidRequest, RequestTooLarge
from landcover.statistics.region import Area, Points

_TOUCHING = 1e-9
"""Share of an area by which two readings of a ring may differ and still be one."""

_MOST_NEAR = 64
"""Edges whose boxes meet an edge's, on average; what is more tangled would take minutes and gigabytes to mend."""

_EDGES_AT_ONCE = 4

_AREAS = ("Polygon", "MultiPolygon")
_KINDS = "a Feature, a FeatureCollection, a Polygon or a MultiPolygon"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One feature that statistics are asked of."""

    feature: Mapping[str, Any]
    """As it was sent, to be answered with `properties.statistics`; a bare geometry has become a feature."""
    geometry: Area
    """Valid; in the CRS of the request."""
    notes: tuple[str, ...]
    """What was mended, a sentence each."""


def read_asked(document: object, *, max_features: int, max_vertices: int) -> list[Asked]:
    """The features of a GeoJSON document, each with a valid area.

    Raises:
        InvalidRequest: one is no area, or not valid and not to be mended without guessing.
        RequestTooLarge: more features or vertices than one request may send.
    """
    features = _features(document)
    if not features:
        raise InvalidRequest("The FeatureCollection has no features.")
    if len(features) > max_features:
        raise RequestTooLarge(f"{len(features)} features are more than {max_features}; send them in parts.")
    vertices = sum(_vertices(each) for each in features)
    if vertices > max_vertices:
        raise RequestTooLarge(
            f"{vertices} vertices are more than {max_vertices}; simplify the polygons or send them in parts."
        )
    found = []
    for number, feature in enumerate(features, 1):
        try:
            found.append(_asked(feature))
        except InvalidRequest as error:
            raise InvalidRequest(
                f"Feature {number}: {error}" if len(features) > 1 else f"The feature: {error}"
            ) from None
    return found


def named_crs(document: object) -> str | None:
    """The CRS that a document of before RFC 7946 names, if it is not longitude and latitude."""
    member = document.get("crs") if isinstance(document, Mapping) else None
    properties = member.get("properties") if isinstance(member, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    if not isinstance(name, str) or name.upper().endswith((":CRS84", ":4326")):
        return None
    return name


def mended(geometry: Area) -> tuple[Area, str | None]:
    """`geometry` as a valid one of the same area, and what was done to it.

    A ring that touches itself encloses one area however it is read; one that crosses itself does not.

    Raises:
        InvalidRequest: it could mean more than one thing.
    """
    if geometry.is_valid:
        return geometry, None
    reason = why_invalid(geometry).replace(" (longitude, latitude)", "")
    ambiguous = InvalidRequest(
        f"geometry is not valid: {reason}; repair it there, since more than one area can be meant."
    )
    if _is_tangled(geometry):
        raise ambiguous
    valid = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    parts = [each for each in shapely.get_parts(shapely.get_parts(valid)) if each.geom_type == "Polygon"]
    area = sum(part.area for part in parts)
    if not area or abs(area - _drawn_area(geometry)) > _TOUCHING * area:
        raise ambiguous
    return (parts[0] if len(parts) == 1 else MultiPolygon(parts)), f"The geometry was mended: {reason}."


def _is_tangled(geometry: Area) -> bool:
    """Whether some edges cross, or so many lie across each other that it is not worth finding out.

    A hundred vertices at random have a thousand crossings, and mending takes more than the square of these.
    """
    points, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(geometry)), return_index=True)
    one_ring = ring[:-1] == ring[1:]
    edges = shapely.linestrings(np.stack([points[:-1][one_ring], points[1:][one_ring]], axis=1))
    tree = shapely.STRtree(edges)
    left = _MOST_NEAR * len(edges)
    for first in range(0, len(edges), _EDGES_AT_ONCE):
        some = edges[first : first + _EDGES_AT_ONCE]
        number, other = tree.query(some)
        left -= len(other)
        if left < 0 or shapely.crosses(some[number], edges[other]).any():
            return True
    return False


def _drawn_area(geometry: Area) -> float:
    """By the shoelace formula, in which what is enclosed the wrong way round is negative."""
    return sum(
        abs(_signed_area(part.exterior)) - sum(abs(_signed_area(hole)) for hole in part.interiors)
        for part in shapely.get_parts(geometry)
    )


def _signed_area(ring: Any) -> float:
    points = shapely.get_coordinates(ring) - shapely.get_coordinates(ring)[0]
    x, y = points.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _features(document: object) -> list[Any]:
    if not isinstance(document, Mapping):
        raise InvalidRequest(f"The body must be a GeoJSON object: {_KINDS}.")
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise InvalidRequest("The FeatureCollection's features must be a list.")
        return features
    if kind == "Feature":
        return [document]
    if isinstance(kind, str) and (kind in _AREAS or "coordinates" in document or "geometries" in document):
        return [{"type": "Feature", "properties": {}, "geometry": document}]
    raise InvalidRequest(f"The body must be {_KINDS}; its type is {shown(kind)}.")


def _asked(feature: object) -> Asked:
    if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
        raise InvalidRequest("it is no GeoJSON Feature.")
    properties = feature.get("properties")
    if not (properties is None or isinstance(properties, Mapping)):
        raise InvalidRequest("properties must be an object or null.")
    geometry = feature.get("geometry")
    if not isinstance(geometry, Mapping):
        raise InvalidRequest("it has no geometry; statistics are of a Polygon or a MultiPolygon.")
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in _AREAS:
        raise InvalidRequest(f"geometry is a {shown(kind)}; statistics are of a Polygon or a MultiPolygon.")
    if not isinstance(coordinates, list) or not coordinates:
        raise InvalidRequest("geometry has no coordinates; draw a polygon.")
    notes: list[str] = []
    polygons = [_polygon(part, notes) for part in ([coordinates] if kind == "Polygon" else coordinates)]
    drawn = polygons[0] if kind == "Polygon" else MultiPolygon(polygons)
    if not shapely.convex_hull(drawn).area > 0:
        raise InvalidRequest("geometry has no area: all its positions lie on one line or point.")
    area, note = mended(drawn)
    return Asked(feature=feature, geometry=area, notes=(*notes, note) if note else tuple(notes))


def _polygon(rings: object, notes: list[str]) -> Polygon:
    if not isinstance(rings, list) or not rings:
        raise InvalidRequest("geometry has no rings; coordinates of a Polygon are a list of rings.")
    shell, *holes = [_ring(ring, number, notes) for number, ring in enumerate(rings, 1)]
    return Polygon(shell, holes)


def _ring(ring: object, number: int, notes: list[str]) -> Points:
    where = f"ring {number} of geometry"
    if not isinstance(ring, list):
        raise InvalidRequest(f"{where} is no list of positions.")
    if any(not isinstance(each, list) or not 2 <= len(each) <= 4 for each in ring):
        raise InvalidRequest(f"{where} has a position that is not two numbers, x and y.")
    if any(type(each[0]) not in (int, float) or type(each[1]) not in (int, float) for each in ring):
        raise InvalidRequest(f"{where} has a position that is not two numbers, x and y.")
    try:
        points = np.array([each[:2] for each in ring], np.float64).reshape(-1, 2)
    except OverflowError:
        points = np.full((1, 2), np.inf)
    if not np.isfinite(points).all():
        raise InvalidRequest(f"{where} has a position that is no finite number.")
    if len(points) >= 3 and (points[0] != points[-1]).any():
        points = np.vstack([points, points[:1]])
        notes.append(f"Ring {number} was not closed; its first position was repeated at its end.")
    if len(points) < 4:
        raise InvalidRequest(f"{where} has {len(points)} positions; a closed ring has four or more.")
    return points


def _vertices(feature: object) -> int:
    geometry = feature.get("geometry") if isinstance(feature, Mapping) else None
    coordinates = geometry.get("coordinates") if isinstance(geometry, Mapping) else None
    if not isinstance(coordinates, list):
        return 0
    parts = [coordinates] if geometry and geometry.get("type") == "Polygon" else coordinates
    rings = (ring for part in parts if isinstance(part, list) for ring in part)
    return sum(len(ring) for ring in rings if isinstance(ring, list))
