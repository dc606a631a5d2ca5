"""GeoJSON as it comes: features and CRS, none of them checked, and how faults of features are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyproj import CRS
from pyproj.exceptions import CRSError

from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84

_SHOWN_FAULTS = 20


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The features of a file, none of them checked."""

    crs: str
    features: Sequence[Any]
    wkb: Sequence[bytes | None] | None = None
    """Geometries of the features where they are in a table."""


@dataclass(frozen=True)
class Fault:
    """Why a feature was not taken."""

    number: int
    """Counted from 1."""
    reason: str

    def __str__(self) -> str:
        return f"Feature {self.number}: {self.reason}"


def read_geojson(document: object) -> Contents:
    """The features of a GeoJSON Feature or FeatureCollection; an old-style `crs` is heeded.

    Raises:
        InvalidRequest: it is neither, or its CRS is unknown.
    """
    kind = document.get("type") if isinstance(document, Mapping) else None
    if not isinstance(document, Mapping) or kind not in ("Feature", "FeatureCollection"):
        raise InvalidRequest('This is no GeoJSON Feature or FeatureCollection; it needs "type": "FeatureCollection".')
    features = [document] if kind == "Feature" else document.get("features")
    if not isinstance(features, list):
        raise InvalidRequest("A FeatureCollection has a list of features.")
    return Contents(crs=_declared_crs(document), features=features)


def listing(faults: Sequence[Fault]) -> str:
    """The faults in one text, the first of many."""
    more = len(faults) - _SHOWN_FAULTS
    return " ".join(map(str, faults[:_SHOWN_FAULTS])) + (f" And {more} more like these." if more > 0 else "")


def _declared_crs(document: Mapping[str, Any]) -> str:
    declared = document.get("crs")
    if declared is None:
        return WGS84
    try:
        return CRS.from_user_input(declared["properties"]["name"]).to_wkt()
    except (CRSError, KeyError, TypeError) as error:
        raise InvalidRequest(f"The crs {str(declared)[:100]} is not known; leave it out for WGS 84.") from error
