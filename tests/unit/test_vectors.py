"""Files of polygons: what is read from each kind, and the sentence for what cannot be."""

from __future__ import annotations

import io
import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import shapely
from pyproj import CRS, Transformer

from landcover.errors import InvalidRequest
from landcover.vectors import authority_code, is_wgs84, read_polygons, to_wgs84

SQUARE = shapely.box(400_000, 3_900_000, 400_100, 3_900_100)
HOLED = SQUARE.difference(shapely.box(400_040, 3_900_040, 400_060, 3_900_060))
PAIR = shapely.MultiPolygon([SQUARE, shapely.box(400_200, 3_900_000, 400_300, 3_900_100)])


def write(path: Path, shapes: Sequence[Any], *, crs: str | None = "EPSG:32654", layer: str | None = None) -> Path:
    names = np.array([f"parcel {i}" for i in range(len(shapes))], dtype=object)
    counts = np.array([1.0 if i % 2 == 0 else np.nan for i in range(len(shapes))])
    pyogrio.raw.write(
        path,
        np.array([None if each is None else shapely.to_wkb(each) for each in shapes], dtype=object),
        [names, counts],
        np.array(["name", "count"], dtype=object),
        geometry_type="Unknown" if path.suffix == ".gpkg" else "Polygon",
        crs=crs,
        layer=layer,
        append=path.exists(),
    )
    return path


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "fgb"])
def test_tables_keep_coordinates_attributes_and_crs(tmp_path: Path, suffix: str) -> None:
    found = read_polygons(str(write(tmp_path / f"parcels.{suffix}", [SQUARE, HOLED])))
    assert authority_code(found.crs) == "EPSG:32654"
    assert not found.single
    by_name = {each["properties"]["name"]: each for each in found.features}
    assert set(by_name) == {"parcel 0", "parcel 1"}
    for name, shape in (("parcel 0", SQUARE), ("parcel 1", HOLED)):
        assert shapely.geometry.shape(by_name[name]["geometry"]).equals(shape)
    assert by_name["parcel 0"]["properties"]["count"] == 1.0
    assert by_name["parcel 1"]["properties"]["count"] is None  # NaN is no JSON
    assert all(isinstance(each["id"], int) for each in found.features)


def test_a_geopackage_of_several_layers_wants_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "two.gpkg", [SQUARE], layer="fields")
    write(path, [PAIR], layer="woods")
    with pytest.raises(InvalidRequest, match=r"2 layers with geometries \(fields, woods\); say which with --layer"):
        read_polygons(str(path))
    (found,) = read_polygons(str(path), layer="woods").features
    assert found["geometry"]["type"] == "MultiPolygon"
    with pytest.raises(InvalidRequest, match="has no layer 'roads'; it has fields, woods"):
        read_polygons(str(path), layer="roads")


@pytest.mark.filterwarnings("ignore:.crs. was not provided")
def test_a_table_without_crs_needs_it_said(tmp_path: Path) -> None:
    path = str(write(tmp_path / "bare.gpkg", [SQUARE], crs=None))
    with pytest.raises(InvalidRequest, match="declares no CRS; say which it is with --crs"):
        read_polygons(path)
    assert read_polygons(path, crs="EPSG:32654").crs == "EPSG:32654"
    with pytest.raises(InvalidRequest, match="'EPSG:1' is not known"):
        read_polygons(path, crs="EPSG:1")


def geojson(path: Path, document: object) -> str:
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return str(path)


GEOMETRY = shapely.geometry.mapping(shapely.box(139, 35, 140, 36))
FEATURE = {"type": "Feature", "id": "a", "properties": {"name": "a"}, "geometry": GEOMETRY}


@pytest.mark.parametrize(
    ("document", "single"),
    [(GEOMETRY, True), (FEATURE, True), ({"type": "FeatureCollection", "features": [FEATURE]}, False)],
    ids=["geometry", "feature", "collection"],
)
def test_geojson_of_every_kind(tmp_path: Path, document: dict[str, Any], single: bool) -> None:
    found = read_polygons(geojson(tmp_path / "a.geojson", document))
    assert is_wgs84(found.crs)
    assert found.single is single
    assert json.loads(json.dumps(found.features[0]["geometry"])) == json.loads(json.dumps(GEOMETRY))
    assert found.features[0].get("id") == document.get("id", "a" if "features" in document else None)


def test_geojson_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(json.dumps(FEATURE).encode())))
    assert read_polygons("-").features[0]["properties"] == {"name": "a"}


def test_the_crs_of_old_geojson_is_heeded_and_may_be_overruled(tmp_path: Path) -> None:
    old = {"type": "FeatureCollection", "features": [FEATURE]}
    old["crs"] = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::6677"}}
    path = geojson(tmp_path / "old.geojson", old)
    assert authority_code(read_polygons(path).crs) == "EPSG:6677"
    assert read_polygons(path, crs="EPSG:32654").crs == "EPSG:32654"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("hello", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 1]]]}', "NaN is no number of JSON"),
        ("[]", "no GeoJSON Feature or FeatureCollection"),
        ({"type": "FeatureCollection"}, "has a list of features"),
        ({"type": "FeatureCollection", "features": []}, "has no features"),
        ({"type": "FeatureCollection", "features": [1]}, "feature 1 is no GeoJSON Feature"),
        ({"type": "Point", "coordinates": [1, 2]}, "has no polygons. Feature 1: it has a Point"),
        ({**FEATURE, "geometry": None}, "has no polygons. Feature 1: it has no geometry"),
        (
            {"type": "FeatureCollection", "features": [FEATURE, {**FEATURE, "geometry": {"type": "LineString"}}]},
            "nothing but polygons. Feature 2: it has a LineString",
        ),
    ],
    ids=range(10),
)
def test_geojson_that_is_refused(tmp_path: Path, content: object, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        read_polygons(geojson(tmp_path / "a.json", content))


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb", "a.xyz", "a"])
def test_rubbish_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"rubbish" * 100)
    with pytest.raises(InvalidRequest, match="cannot be read as a file of polygons"):
        read_polygons(str(tmp_path / name))


def test_what_is_not_there_or_has_no_geometry(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="There is no file"):
        read_polygons(str(tmp_path / "nowhere.gpkg"))
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_polygons(str(tmp_path))
    (tmp_path / "table.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="no polygons"):
        read_polygons(str(tmp_path / "table.csv"))
    with pytest.raises(InvalidRequest, match="Feature 1: it has a Point"):
        read_polygons(str(write(tmp_path / "points.gpkg", [shapely.Point(1, 2)])))
    with pytest.raises(InvalidRequest, match="Feature 2: it has no geometry"):
        read_polygons(str(write(tmp_path / "gap.gpkg", [SQUARE, None])))
    with pytest.raises(InvalidRequest, match="leave out --layer"):
        read_polygons(geojson(tmp_path / "a.geojson", FEATURE), layer="a")


def test_codes_and_longitude_latitude() -> None:
    assert authority_code("EPSG:6677") == "EPSG:6677"
    assert authority_code(CRS.from_epsg(32654).to_wkt("WKT1_ESRI")) in ("EPSG:32654", None)
    assert authority_code("+proj=tmerc +lon_0=139.5 +ellps=bessel") is None
    assert is_wgs84("OGC:CRS84")
    assert is_wgs84("EPSG:4326")
    assert not is_wgs84("EPSG:6668")


def test_a_crs_without_a_code_is_reprojected_here(tmp_path: Path) -> None:
    local = "+proj=tmerc +lon_0=139.5 +lat_0=36 +datum=WGS84"
    moved = to_wgs84(read_polygons(str(write(tmp_path / "a.gpkg", [shapely.box(0, 0, 10, 10)], crs=local))))
    points = shapely.get_coordinates(shapely.geometry.shape(moved.features[0]["geometry"]))
    lon, lat = Transformer.from_crs(local, "OGC:CRS84", always_xy=True).transform([0, 10, 0, 10], [0, 0, 10, 10])
    assert {(round(x, 9), round(y, 9)) for x, y in points} == {
        (round(x, 9), round(y, 9)) for x, y in zip(lon, lat, strict=True)
    }
