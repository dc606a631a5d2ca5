"""Statistics as rows, CSV and GeoParquet, against tables worked out by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import CRS

from landcover.statistics.tables import CHANGE_COLUMNS, CLASS_COLUMNS, csv_text, rows
from landcover.vectors import Polygons
from landcover_api.stats_command.geoparquet import write_geoparquet

TREE = {
    "value": 4,
    "name": "tree",
    "color": "#226126",
    "pixels": 30.5,
    "area_m2": 2.75,
    "share": 0.75,
    "mean_confidence": 0.9,
    "adjusted_area_m2": 2.5,
    "adjusted_ci95_m2": [2.25, 2.75],
}
WATER = {**TREE, "value": 5, "name": "inland water", "pixels": 0.0, "area_m2": 0.0, "share": 0.0}
UNKNOWN_ERROR = {"adjusted_area_m2": None, "adjusted_ci95_m2": None}


def document(*classes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "scene": "demo",
        "model": "pixels",
        "model_digest": "sha256:0",
        "gsd_m": 0.3,
        "complete": True,
        "total_area_m2": 4.0,
        "mapped_area_m2": 3.0,
        "coverage": 0.75,
        "classes": list(classes),
        **more,
    }


def feature(statistics: dict[str, Any], identity: Any = None, **attributes: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        **({} if identity is None else {"id": identity}),
        "geometry": shapely.geometry.mapping(shapely.box(1, 2, 3, 4)),
        "properties": {**attributes, "statistics": statistics},
    }


def collection(*features: dict[str, Any]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def test_a_row_for_each_feature_and_class() -> None:
    answer = collection(
        feature(document(TREE, {**WATER, **UNKNOWN_ERROR}), identity="a", owner="Sato"),
        feature(document(TREE), note=None),
    )
    assert csv_text(answer) == (
        "feature,scene,model,class,class_name,pixels,area_m2,share,mean_confidence,adjusted_area_m2,adjusted_low_m2,"
        "adjusted_high_m2,coverage,complete,owner,note\r\n"
        "a,demo,pixels,4,tree,30.5,2.75,0.75,0.9,2.5,2.25,2.75,0.75,true,Sato,\r\n"
        "a,demo,pixels,5,inland water,0.0,0.0,0.0,0.9,,,,0.75,true,Sato,\r\n"
        "2,demo,pixels,4,tree,30.5,2.75,0.75,0.9,2.5,2.25,2.75,0.75,true,,\r\n"
    )


def test_a_feature_alone_is_a_row_too() -> None:
    (row,) = rows(feature(document(TREE), identity=0))
    assert row["feature"] == 0
    assert tuple(row) == CLASS_COLUMNS


def test_change_is_a_row_for_each_pair_of_classes() -> None:
    legend = [{"value": 0, "name": "unknown", "color": None}, {"value": 4, "name": "tree", "color": "#226126"}]
    change = {
        "from": {"scene": "old", "model": "m1", "model_digest": "sha256:1"},
        "to": {"scene": "new", "model": "m2", "model_digest": "sha256:2"},
        "from_classes": legend,
        "to_classes": [*legend, {"value": 9, "name": "rice", "color": "#ffffff"}],
        "area_m2": [[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]],
        "discounted": False,
        "unsure_m2": None,
    }
    found = list(rows(collection(feature(document(TREE, change=change), owner="Sato"))))
    assert tuple(found[0]) == (*CHANGE_COLUMNS, "owner")
    pairs = [(row["from_class_name"], row["to_class_name"], row["area_m2"]) for row in found]
    assert pairs == [
        ("unknown", "unknown", 0.5),
        ("unknown", "tree", 1.0),
        ("unknown", "rice", 1.5),
        ("tree", "unknown", 2.0),
        ("tree", "tree", 2.5),
        ("tree", "rice", 3.0),
    ]
    assert found[5]["to_class"] == 9
    assert (found[0]["from_scene"], found[0]["to_model"]) == ("old", "m2")
    # the same without the unknown in the legends
    bare = {**change, "from_classes": legend[1:], "to_classes": change["to_classes"][1:]}
    assert list(rows(collection(feature(document(TREE, change=bare), owner="Sato")))) == found


def test_attributes_called_like_our_columns_are_kept() -> None:
    taken = {"class": "A", "attribute_class": "B", "scene": "C"}
    (row,) = rows(feature(document(TREE), **taken))
    assert (row["class"], row["scene"]) == (4, "demo")
    assert (row["attribute_class_"], row["attribute_class"], row["attribute_scene"]) == ("A", "B", "C")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+81 90", "'+81 90"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
        ("\t=1", "'\t=1"),
        ("-12.5", "-12.5"),
        ("+3", "+3"),
        (-12.5, "-12.5"),
        ("a=b", "a=b"),
        ('say "a, b"\nand c', 'say "a, b"\nand c'),
        ("", ""),
        (None, ""),
        (False, "false"),
        ([1, "日本"], '[1, "日本"]'),
        ({"a": None}, '{"a": null}'),
        ("高萩市", "高萩市"),
    ],
)
def test_cells_read_back(value: Any, cell: str) -> None:
    text = csv_text(feature(document(TREE), note=value))
    (_, row) = csv.reader(io.StringIO(text, newline=""))
    assert row[-1] == cell


def test_a_name_that_is_a_formula_is_none() -> None:
    header, *_ = csv.reader(io.StringIO(csv_text(feature(document(TREE), **{"=1+1": 1})), newline=""))
    assert header[-1] == "'=1+1"


def test_no_features_are_a_header() -> None:
    assert csv_text(collection()) == ",".join(CLASS_COLUMNS) + "\r\n"


def geoparquet(path: Path, *features: dict[str, Any], crs: str = "OGC:CRS84") -> tuple[dict[str, list[Any]], Any]:
    write_geoparquet(path, Polygons(features=list(features), crs=crs, single=False))
    table = pq.read_table(path)
    return table.to_pydict(), json.loads(table.schema.metadata[b"geo"])


def test_geoparquet_has_a_row_for_each_feature(tmp_path: Path) -> None:
    columns, geo = geoparquet(
        tmp_path / "a.parquet",
        feature(document(TREE, WATER), identity="a", owner="Sato", size=1, odd=1, tags=["x"], empty=None),
        feature(document(TREE, {**WATER, **UNKNOWN_ERROR}), identity="b", owner="=1+1", size=2.5, odd="1"),
    )
    assert columns["feature"] == ["a", "b"]
    assert columns["area_m2_tree"] == [2.75, 2.75]
    assert columns["adjusted_low_m2_tree"] == [2.25, 2.25]
    assert columns["adjusted_high_m2_inland_water"] == [2.75, None]
    assert columns["owner"] == ["Sato", "=1+1"]  # no spreadsheet, no apostrophe
    assert columns["size"] == [1.0, 2.5]
    assert columns["odd"] == ["1", "1"]
    assert columns["tags"] == ['["x"]', None]
    assert [shapely.from_wkb(each) for each in columns["geometry"]] == [shapely.box(1, 2, 3, 4)] * 2
    assert geo == {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Polygon"], "bbox": [1, 2, 3, 4]}},
    }


def test_geoparquet_keeps_the_crs(tmp_path: Path) -> None:
    _, geo = geoparquet(tmp_path / "a.parquet", feature(document(TREE)), crs="EPSG:6677")
    assert CRS.from_json_dict(geo["columns"]["geometry"]["crs"]) == CRS.from_epsg(6677)


def test_an_attribute_called_geometry_does_not_hide_it(tmp_path: Path) -> None:
    columns, _ = geoparquet(tmp_path / "a.parquet", feature(document(TREE), geometry="here", huge=2**80))
    assert columns["attribute_geometry"] == ["here"]
    assert columns["huge"] == [str(2**80)]
    assert isinstance(columns["geometry"][0], bytes)
