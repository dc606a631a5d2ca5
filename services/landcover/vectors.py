"""Polygons in files: GeoJSON, and whatever table of geometries GDAL reads (GeoPackage, Shapefile, FlatGeobuf …)."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely import MultiPolygon, Polygon
from shapely.errors import GEOSException

from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84, transformer
from landcover.geojson import Fault, listing, read_geojson

STDIN = "-"
_GEOJSON_SUFFIXES = (".geojson", ".json")
_AREAS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True, kw_only=True)
class Polygons:
    """The features of a file, each with a Polygon or MultiPolygon; coordinates are not checked."""

    features: Sequence[dict[str, Any]]
    """GeoJSON features, but with coordinates of `crs`; `id` is a table's feature id."""
    crs: str
    """As anything pyproj reads; x before y."""
    single: bool
    """The file is one GeoJSON Feature or geometry, not a collection or a layer."""


def read_polygons(source: str, *, layer: str | None = None, crs: str | None = None) -> Polygons:
    """The polygons of a file.

    Args:
        source: path of the file, or `-` for GeoJSON on standard input.
        layer: of a file with several.
        crs: of the coordinates, whatever the file says; a table that declares none needs it.

    Raises:
        InvalidRequest: the file is missing or cannot be read, its CRS is not known, or it has anything but polygons.
    """
    if crs is not None:
        check_crs(crs)
    path = Path(source).expanduser()
    if source != STDIN and not path.exists():
        raise InvalidRequest(f"There is no file {path}.")
    if source == STDIN or path.suffix.lower() in _GEOJSON_SUFFIXES:
        name = "Standard input" if source == STDIN else str(path)
        if layer is not None:
            raise InvalidRequest(f"{name} is GeoJSON, which has no layers; leave out --layer.")
        found = _read_geojson(name, sys.stdin.buffer.read() if source == STDIN else _read_bytes(path), crs)
    else:
        name, found = str(path), _read_table(path, layer, crs)
    if not found.features:
        raise InvalidRequest(f"{name} has no features; draw a polygon.")
    faults = [Fault(number, fault) for number, each in enumerate(found.features, 1) if (fault := _unfit(each))]
    if len(faults) == len(found.features):
        raise InvalidRequest(f"{name} has no polygons. {listing(faults[:1])}")
    if faults:
        raise InvalidRequest(f"{name} must hold nothing but polygons. {listing(faults)}")
    return found


def authority_code(crs: str) -> str | None:
    """A CRS as `EPSG:32654`, or None when no authority knows it so (axis order aside)."""
    known = CRS.from_user_input(crs)
    authority = known.to_authority(min_confidence=100)
    if authority is None or not known.equals(CRS.from_authority(*authority), ignore_axis_order=True):
        return None
    return ":".join(authority)


def is_wgs84(crs: str) -> bool:
    """Whether coordinates of `crs` are GeoJSON's own: longitude and latitude."""
    return bool(CRS.from_user_input(crs).equals(CRS.from_user_input(WGS84), ignore_axis_order=True))


def to_wgs84(polygons: Polygons) -> Polygons:
    """The same in longitude and latitude; heights are dropped, and what cannot be read has no geometry."""
    if is_wgs84(polygons.crs):
        return polygons
    to_degrees = transformer(polygons.crs, WGS84).transform

    def moved(geometry: Mapping[str, Any]) -> Any:
        shape = shape_of(geometry)
        if shape is None:
            return None
        return shapely.geometry.mapping(shapely.transform(shape, lambda xy: np.column_stack(to_degrees(*xy.T))))

    features = [{**each, "geometry": moved(each["geometry"])} for each in polygons.features]
    return replace(polygons, features=features, crs=WGS84)


def shape_of(geometry: Mapping[str, Any]) -> Polygon | MultiPolygon | None:
    """A GeoJSON geometry with its coordinates as they are, valid or not; None if it is not well-formed."""
    try:
        shape: Polygon | MultiPolygon = shapely.geometry.shape(geometry)
    except (GEOSException, ValueError, TypeError, KeyError, IndexError):
        return None
    return shape


def _read_geojson(name: str, content: bytes, crs: str | None) -> Polygons:
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name} is no JSON ({error}).") from error
    geometry = isinstance(document, Mapping) and "coordinates" in document
    try:
        contents = read_geojson({"type": "Feature", "geometry": document, "properties": {}} if geometry else document)
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error}") from error
    features: list[dict[str, Any]] = []
    for number, each in enumerate(contents.features, 1):
        if not isinstance(each, Mapping) or not isinstance(each.get("properties") or {}, Mapping):
            raise InvalidRequest(f"{name}: feature {number} is no GeoJSON Feature.")
        features.append({**each, "properties": dict(each.get("properties") or {})})
    return Polygons(features=features, crs=crs or contents.crs, single=document["type"] != "FeatureCollection")


def _read_table(path: Path, layer: str | None, crs: str | None) -> Polygons:
    import pyogrio.raw
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what matters of them is found when features are looked at
            meta, fids, wkb, columns = pyogrio.raw.read(
                path,
                layer=layer or _only_layer(path),
                force_2d=True,
                datetime_as_string=True,
                return_fids=True,
            )
    except DataLayerError as error:
        raise InvalidRequest(f"{path} has no layer '{layer}'; it has {', '.join(_layers(path))}.") from error
    except (DataSourceError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as a file of polygons ({error}).") from error
    if wkb is None:
        raise InvalidRequest(f"{path} has no polygons: its layer is a table without geometries.")
    if (declared := crs or meta["crs"]) is None:
        raise InvalidRequest(f"{path} declares no CRS; say which it is with --crs EPSG:….")
    names = [str(name) for name in meta["fields"]]
    features = [
        {
            "type": "Feature",
            "id": int(fid),
            "properties": {name: _plain(column[row]) for name, column in zip(names, columns, strict=True)},
            "geometry": _geometry(data),
        }
        for row, (fid, data) in enumerate(zip(fids, wkb, strict=True))
    ]
    return Polygons(features=features, crs=declared, single=False)


def _only_layer(path: Path) -> str | None:
    """The layer with geometries; None leaves the choice to GDAL, which then finds none."""
    layers = _layers(path)
    if len(layers) > 1:
        raise InvalidRequest(
            f"{path} has {len(layers)} layers with geometries ({', '.join(layers)}); say which with --layer."
        )
    return layers[0] if layers else None


def _layers(path: Path) -> list[str]:
    import pyogrio

    return [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]


def _geometry(wkb: bytes | None) -> Any:
    """GeoJSON, a multipolygon of one part as a polygon; None for nothing, and for curves, which GeoJSON lacks."""
    if wkb is None:
        return None
    try:
        geometry = shapely.from_wkb(wkb)
    except GEOSException:
        return {"type": "geometry with curves"}
    parts = shapely.get_parts(geometry)
    return shapely.geometry.mapping(parts[0] if len(parts) == 1 and geometry.geom_type == "MultiPolygon" else geometry)


def _unfit(feature: Mapping[str, Any]) -> str | None:
    geometry = feature.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if kind not in _AREAS:
        return f"it has {f'a {kind}' if kind else 'no geometry'}, but areas are Polygons and MultiPolygons."
    return None


def _plain(value: Any) -> Any:
    """A table's value as JSON has it; no number is nothing."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read ({error.strerror}).") from error


def check_crs(crs: str) -> None:
    """Refuse what is no CRS.

    Raises:
        InvalidRequest: pyproj does not know it.
    """
    try:
        CRS.from_user_input(crs)
    except CRSError as error:
        raise InvalidRequest(f"The CRS {crs[:100]!r} is not known; name one such as EPSG:6677.") from error


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")
