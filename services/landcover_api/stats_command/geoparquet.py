"""The answers as GeoParquet 1.1: a row for each feature, with columns for each class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from landcover.geoparquet import GEOMETRY, geo_metadata
from landcover.statistics.tables import adjusted_interval_m2, attribute_names, change_pairs
from landcover.vectors import Polygons, shape_of

_OF_FEATURE = ("scene", "model", "model_digest", "complete", "coverage", "total_area_m2", "mapped_area_m2")


def write_geoparquet(path: Path, polygons: Polygons) -> None:
    """Write features that have `properties.statistics`, in their own CRS.

    Columns: `feature` (id or number from 1), what the document says of all of it, then for each class `area_m2_NAME`,
    `mean_confidence_NAME`, `adjusted_area_m2_NAME`, `adjusted_low_m2_NAME` and `adjusted_high_m2_NAME`; for a change
    `change_m2_FROM_to_TO`; then the feature's own attributes and `geometry` (WKB). An attribute whose values have
    no common type becomes text.
    """
    features = polygons.features
    figures = [_figures(feature, number) for number, feature in enumerate(features, 1)]
    columns = {
        name: [row.get(name) for row in figures] for name in dict.fromkeys(key for row in figures for key in row)
    }
    for name, column in attribute_names(features, taken=(*columns, GEOMETRY)).items():
        columns[column] = [feature["properties"].get(name) for feature in features]
    shapes = [shapely.force_2d(shape_of(feature["geometry"])) for feature in features]
    arrays = {name: _array(values) for name, values in columns.items()}
    arrays[GEOMETRY] = pa.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], pa.binary())
    kinds = {shape.geom_type for shape in shapes if shape is not None}
    metadata = geo_metadata(polygons.crs, kinds, shapely.total_bounds(shapes).tolist())
    table = pa.table(arrays).replace_schema_metadata(metadata)
    pq.write_table(table, path, compression="zstd")


def _figures(feature: Mapping[str, Any], number: int) -> dict[str, Any]:
    document = feature["properties"]["statistics"]
    identity = feature.get("id")
    row: dict[str, Any] = {"feature": number if identity is None else identity}
    row |= {name: document[name] for name in _OF_FEATURE}
    for entry in document["classes"]:
        name = entry["name"].replace(" ", "_")
        row[f"area_m2_{name}"] = entry["area_m2"]
        row[f"mean_confidence_{name}"] = entry["mean_confidence"]
        row[f"adjusted_area_m2_{name}"] = entry["adjusted_area_m2"]
        row[f"adjusted_low_m2_{name}"], row[f"adjusted_high_m2_{name}"] = adjusted_interval_m2(entry)
    if "change" in document:
        for (_, start), (_, end), area_m2 in change_pairs(document["change"]):
            row[f"change_m2_{start}_to_{end}".replace(" ", "_")] = area_m2
    return row


def _array(values: Sequence[Any]) -> pa.Array:
    """One column; figures that nobody knows are float64 all the same, and what has no common type is text."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds or kinds <= {int, float}:
        small = all(value is None or abs(value) < 2**53 for value in values)
        if kinds == {int} and small:
            return pa.array(values, pa.int64())
        if small:
            return pa.array(values, pa.float64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    return pa.array(
        [
            value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for value in values
        ],
        pa.string(),
    )
