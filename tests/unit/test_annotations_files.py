"""Annotations in GeoJSON and GeoPackage: read by GDAL's own tools, drawn as QGIS would, imported by the command."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import shapely
from shapely import MultiPolygon, Polygon, box

from landcover.annotations import Annotation, AnnotationStore, read_features
from landcover.annotations.files import write_geojson, write_geopackage
from landcover.annotations.geometry import reproject
from landcover.classes import OPENEARTHMAP, LandCoverClass
from landcover.cli import main
from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84
from rasters import UTM54, noise, scene_of, write_tif

SOLAR = LandCoverClass(value=9, name='sol\'r "panel"', color="#1122ee")
PLACE = box(415_010, 3_999_900, 415_040, 3_999_930)
"""Inside the scene, in its CRS."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_tif(tmp_path / "scene.tif", noise(512, 512))


def annotation(place: Any = PLACE, kind: LandCoverClass = OPENEARTHMAP[3], **changes: Any) -> Annotation:
    return Annotation(
        scene="scene",
        class_value=kind.value,
        class_name=kind.name,
        class_color=kind.color,
        geometry=reproject(place, UTM54, WGS84),
        **changes,
    )


# --- what we write, read by others and by us ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
@pytest.mark.parametrize("crs", [WGS84, UTM54])
def test_files_give_back_what_was_written(tmp_path: Path, suffix: str, crs: str) -> None:
    hole = PLACE.difference(PLACE.centroid.buffer(5))
    given = [
        annotation(author="Ōno", note="a\nb", scene_version="abc"),
        annotation(hole, SOLAR),
        annotation(MultiPolygon([PLACE, box(415_100, 3_999_900, 415_110, 3_999_910)])),
    ]
    path = tmp_path / f"all{suffix}"
    if suffix == ".gpkg":
        write_geopackage(path, given, classes=[*OPENEARTHMAP, SOLAR], crs=crs)
    else:
        write_geojson(path, given)
    back = read_features(path)
    assert [each.id for each in back] == [each.id for each in given]
    assert all(one.same_content(other) for one, other in zip(back, given, strict=True))
    assert [each.created for each in back] == [each.created for each in given]
    with pytest.raises(InvalidRequest, match=r"Feature 2: class 9 is not known"):
        read_features(path, new_classes=False)
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written beside it


def test_gdal_reads_the_geopackage(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    write_geopackage(path, [annotation(author="Ada")], classes=OPENEARTHMAP, crs=UTM54)
    meta, _, geometry, columns = pyogrio.raw.read(path, layer="annotations")
    row = dict(zip(meta["fields"], (column[0] for column in columns), strict=True))
    assert meta["crs"] == "EPSG:32654"
    assert (row["class"], row["class_name"], row["class_color"]) == (4, "road", "#ffffff")
    assert (row["scene"], row["author"], row["note"]) == ("scene", "Ada", None)
    assert shapely.from_wkb(geometry[0]).symmetric_difference(PLACE).area < 1e-3
    assert [str(name) for name, _ in pyogrio.list_layers(path)] == ["annotations", "layer_styles"]


def test_the_style_colours_by_class_and_offers_a_list_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    write_geopackage(path, [], classes=[*OPENEARTHMAP, SOLAR], crs=UTM54, scene="o'hare")
    with closing(sqlite3.connect(path)) as file:
        ((table, column, qml, default),) = file.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
        )
        (geometry_column,) = file.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (table, column, default) == ("annotations", geometry_column, 1)
    style = Xml.fromstring(qml)
    renderer = style.find("renderer-v2")
    assert renderer is not None
    assert renderer.get("attr") == "class"
    shown = {}
    for category in renderer.iter("category"):
        symbol = next(each for each in renderer.iter("symbol") if each.get("name") == category.get("symbol"))
        color = next(each.get("value") for each in symbol.iter("Option") if each.get("name") == "color")
        shown[category.get("value"), category.get("label")] = str(color).rsplit(",", 1)[0]
    assert shown["4", "road"] == "255,255,255"
    assert shown["9", SOLAR.name] == "17,34,238"
    assert len(shown) == 9
    field = next(each for each in style.iter("field") if each.get("name") == "class")
    choices = {each.get("name"): each.get("value") for each in field.iter("Option") if each.get("value")}
    assert choices == {each.name: str(each.value) for each in (*OPENEARTHMAP, SOLAR)}
    defaults = {each.get("field"): str(each.get("expression")) for each in style.iter("default")}
    assert defaults["scene"] == "'o''hare'"
    assert defaults["id"] == "uuid()"  # {…}, in braces
    rules = {each.get("field"): each.get("constraints") for each in style.iter("constraint")}
    assert rules == {"id": "2", "scene": "1", "class": "1"}  # unique, not null
    assert "WHEN \"class\" = 9 THEN 'sol''r \"panel\"'" in defaults["class_name"]


# --- what others write -------------------------------------------------------------------------------------------


def write_table(path: Path, geometries: Sequence[bytes | None], *, crs: str | None = UTM54, **columns: Any) -> Path:
    pyogrio.raw.write(
        path,
        np.array(geometries, dtype=object),
        [np.array(values, dtype=object if isinstance(values[0], str) else None) for values in columns.values()],
        np.array(list(columns), dtype=object),
        layer=path.stem,
        driver="GPKG",
        geometry_type="Unknown",
        crs=crs,
    )
    return path


def test_a_layer_of_somebody_elses(tmp_path: Path) -> None:
    """Another name, names of fields in capitals, heights, and only what is needed."""
    place = shapely.to_wkb(shapely.force_3d(PLACE, 7.0), output_dimension=3)
    path = write_table(tmp_path / "parcels.gpkg", [place], Class=["building"], AUTHOR=["Ada"], area=[12.5])
    (found,) = read_features(path, scene="scene")
    assert (found.class_value, found.author, found.scene) == (8, "Ada", "scene")
    assert found.same_content(annotation(kind=OPENEARTHMAP[7], author="Ada"))
    assert not found.geometry.has_z


def test_each_bad_feature_is_named_with_its_reason(tmp_path: Path) -> None:
    bow_tie = Polygon([(415_010, 3_999_900), (415_020, 3_999_910), (415_020, 3_999_900), (415_010, 3_999_910)])
    curve = (
        bytes.fromhex("01" + "0a000000" + "01000000" + "01" + "08000000" + "03000000")
        + np.array([415_010, 3_999_900, 415_020, 3_999_910, 415_010, 3_999_900], dtype="<f8").tobytes()
    )  # CURVEPOLYGON(CIRCULARSTRING(…))
    good = shapely.to_wkb(PLACE)
    geometries = [good, None, shapely.to_wkb(bow_tie), shapely.to_wkb(PLACE.centroid), curve, good, good]
    kinds = [4.0, 4.0, 4.0, 4.0, 4.0, np.nan, 77.0]
    with pytest.raises(InvalidRequest) as caught:
        read_features(write_table(tmp_path / "mixed.gpkg", geometries, **{"class": kinds}), scene="scene")
    said = str(caught.value)
    assert "Feature 1:" not in said
    assert "Feature 2: has no geometry" in said
    assert "Feature 3: geometry is not valid: self-intersection at 140.055" in said
    assert "Feature 4: geometry is a 'Point'" in said
    assert "Feature 5:" not in said  # GDAL follows a circle by straight edges
    assert "Feature 6: class is missing" in said
    assert "Feature 7: class 77.0 is not known" in said


def test_a_long_list_of_faults_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [{}] * 30}), encoding="utf-8")
    with pytest.raises(InvalidRequest, match="And 10 more like these"):
        read_features(path)


def test_geometries_must_lie_in_their_scenes_when_those_are_known(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "a.geojson"
    write_geojson(path, [annotation(), annotation(box(415_200, 3_999_900, 415_300, 3_999_950))])
    assert len(read_features(path)) == 2
    with pytest.raises(InvalidRequest, match="Feature 2: geometry leaves scene"):
        read_features(path, scene_of=lambda _: scene_of(image))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.gpkg", None, "There is no file"),
        ("a.shp", b"", "neither GeoJSON"),
        ("a.gpkg", b"", "cannot be read as a GeoPackage"),
        ("a.gpkg", b"SQLite format 3\x00" + b"\x00" * 500, "cannot be read as a GeoPackage"),
        ("a.gpkg", b"rubbish" * 100, "cannot be read as a GeoPackage"),
        ("a.json", b"", "is no JSON"),
        ("a.json", b"\xff\xfe\x00", "is no JSON"),
        ("a.json", b"[" * 100_000, "is no JSON"),
        ("a.geojson", b'{"type": "Topology"}', "no GeoJSON Feature"),
        ("a.geojson", b'{"type": "FeatureCollection", "features": {}}', "has a list of features"),
        (
            "a.geojson",
            b'{"type":"FeatureCollection","features":[],"crs":{"properties":{"name":"EPSG:0"}}}',
            "not known",
        ),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        read_features(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_layers_and_crs_that_are_not_clear(tmp_path: Path) -> None:
    good = [shapely.to_wkb(PLACE)]
    with pytest.raises(InvalidRequest, match="declares no CRS"):
        read_features(write_table(tmp_path / "none.gpkg", good, crs=None, **{"class": [4]}), scene="scene")
    path = write_table(tmp_path / "two.gpkg", good, **{"class": [4]})
    pyogrio.raw.write(path, np.array(good, dtype=object), [], [], layer="b", geometry_type="Unknown", crs=UTM54)
    with pytest.raises(InvalidRequest, match=r"2 layers with geometries \(two, b\)"):
        read_features(path, scene="scene")
    assert len(read_features(path, scene="scene", layer="two")) == 1
    with pytest.raises(InvalidRequest, match="three"):
        read_features(path, scene="scene", layer="three")


# --- the command -------------------------------------------------------------------------------------------------


class Command:
    """`landcover annotations` in this process, with a database and a scene."""

    def __init__(self, capsys: pytest.CaptureFixture[str], image: Path, folder: Path) -> None:
        self._capsys = capsys
        self._image = image
        self.url = f"sqlite:///{folder}/landcover.sqlite"

    def __call__(self, action: str, *arguments: object, status: int = 0) -> str:
        scenes = ["--scenes", str(self._image)] if action in ("import", "export") else []
        command = ["annotations", action, *map(str, arguments), "--database", self.url, *scenes]
        assert main(command) == status
        said = self._capsys.readouterr()
        return said.out + said.err


@pytest.fixture
def landcover(capsys: pytest.CaptureFixture[str], image: Path, tmp_path: Path) -> Command:
    return Command(capsys, image, tmp_path)


def draw(path: Path, place: Polygon, **fields: Any) -> None:
    """Add a polygon to the layer as QGIS does: the fields of the form, and what follows from the class."""
    kind = next(each for each in (*OPENEARTHMAP, SOLAR) if each.value == fields["class"])
    values = {
        "id": f"{{{uuid.uuid4()}}}",
        "scene": "scene",
        "class_name": kind.name,
        "class_color": kind.color,
    } | fields
    pyogrio.raw.write(
        path,
        np.array([shapely.to_wkb(MultiPolygon([place]))], dtype=object),
        [np.array([value], dtype=np.int32 if isinstance(value, int) else object) for value in values.values()],
        np.array(list(values), dtype=object),
        layer="annotations",
        geometry_type="MultiPolygon",
        crs=UTM54,
        append=True,
    )


def test_from_the_template_through_qgis_into_the_database_and_back(landcover: Command, tmp_path: Path) -> None:
    path = tmp_path / "draw.gpkg"
    assert "0 annotations" in landcover("export", path, "--scene", "scene", "--template")
    assert pyogrio.read_info(path, layer="annotations")["crs"] == "EPSG:32654"
    draw(path, PLACE, **{"class": 4, "author": "Ada"})
    draw(path, box(415_100, 3_999_900, 415_110, 3_999_910), **{"class": 6})
    assert "2 added, 0 replaced, 0 unchanged" in landcover("import", path)
    assert "0 added, 0 replaced, 2 unchanged" in landcover("import", path)
    assert "building" not in landcover("list")

    edited = tmp_path / "edit.gpkg"
    assert "2 annotations" in landcover("export", edited, "--scene", "scene")
    assert "0 added, 0 replaced, 2 unchanged" in landcover("import", edited)
    with closing(sqlite3.connect(edited)) as file, file:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):  # GDAL's, for its index of places
            file.create_function(name, 1, lambda _: 0)
        file.execute("UPDATE annotations SET note = 'seen' WHERE author = 'Ada'")
    draw(edited, box(415_150, 3_999_900, 415_160, 3_999_910), **{"class": 8})
    assert "1 added, 1 replaced, 1 unchanged" in landcover("import", edited)
    with AnnotationStore(landcover.url) as store:
        first, second, third = store.for_scene("scene")
        assert (first.note, first.revision, second.revision) == ("seen", 2, 1)
        assert third.class_name == "building"
        assert first.geometry.area == pytest.approx(reproject(PLACE, UTM54, WGS84).area, rel=1e-9)

    everything = tmp_path / "all.geojson"
    assert "3 annotations" in landcover("export", everything)
    assert "0 added, 0 replaced, 3 unchanged" in landcover("import", everything)


def test_nothing_is_stored_unless_all_is_fit(landcover: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    outside = annotation(box(416_000, 3_999_900, 416_010, 3_999_950))
    write_geojson(path, [annotation(), outside, annotation(kind=SOLAR)])
    said = landcover("import", path, status=1)
    assert "Feature 1:" not in said
    assert "Feature 2: geometry leaves scene 'scene'" in said
    assert "Feature 3: class 9 is not known" in said
    assert "2 of 3 features" in said
    assert "nothing was stored" in said
    assert "0 annotations in" in landcover("list")
    assert "1 added, 0 replaced, 0 unchanged, 2 skipped" in landcover("import", path, "--skip-invalid")
    assert "1 added, 0 replaced, 1 unchanged, 1 skipped" in landcover("import", path, "--skip-invalid", "--new-classes")
    assert SOLAR.name in landcover("list")


def test_a_feature_copied_in_qgis_brings_its_id_along(landcover: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    one = annotation()
    write_geojson(path, [one, one])
    assert "Feature 2: has the id of feature 1; empty its id" in landcover("import", path, status=1)


def test_what_the_command_refuses(landcover: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gpkg"
    assert "name it with --scene" in landcover("export", path, "--template", status=1)
    landcover("export", path, "--scene", "scene", "--template")
    assert "exists, perhaps with drawings" in landcover("export", path, status=1)
    assert "0 annotations" in landcover("export", path, "--overwrite")
    assert "must end in" in landcover("export", tmp_path / "a.shp", status=1)
    assert "There is no folder" in landcover("export", tmp_path / "x" / "a.gpkg", status=1)
    assert "There is no file" in landcover("import", tmp_path / "none.gpkg", status=1)
    monkeypatch.setattr(landcover, "url", "mysql://host/db")
    assert "'mysql' is not supported" in landcover("list", status=1)


def test_import_needs_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_geojson(tmp_path / "a.geojson", [])
    assert main(["annotations", "import", str(tmp_path / "a.geojson")]) == 1
    assert "say where those are with --scenes or LANDCOVER_SCENES" in capsys.readouterr().err


def test_migrate_says_what_it_did(landcover: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "revision none → 0002" in landcover("migrate")
    assert "is up to date (revision 0002)" in landcover("migrate")
