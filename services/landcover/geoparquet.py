"""The metadata that makes a Parquet file GeoParquet 1.1. https://geoparquet.org/releases/v1.1.0/"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pyproj import CRS

from landcover.vectors import is_wgs84

GEOMETRY = "geometry"
"""Name of the column with the geometries, as WKB."""

BBOX = "bbox"
"""Name of the column with their bounds, a struct of `xmin`, `ymin`, `xmax` and `ymax`."""


def geo_metadata(
    crs: str, geometry_types: Iterable[str], bounds: Sequence[float], *, covered: bool = False
) -> dict[str, str]:
    """Key and value for the file's schema.

    Args:
        crs: of the coordinates.
        geometry_types: which there are, such as `Polygon`.
        bounds: xmin, ymin, xmax, ymax of all of them.
        covered: whether there is a column `BBOX`, by which readers skip what they need not read.
    """
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(geometry_types),
        "bbox": list(bounds),
    }
    if not is_wgs84(crs):  # which is what GeoParquet supposes
        column["crs"] = CRS.from_user_input(crs).to_json_dict()
    if covered:
        column["covering"] = {"bbox": {side: [BBOX, side] for side in ("xmin", "ymin", "xmax", "ymax")}}
    return {"geo": json.dumps({"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}})}
