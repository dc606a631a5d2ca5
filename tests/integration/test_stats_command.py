"""`landcover stats` as a person uses it, against counts worked out from the image alone."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyogrio.raw
import pytest
import rasterio
import shapely

from landcover import local
from landcover.cli import main
from landcover.geodesy import transformer
from landcover_api.stats_command import asking
from onnx_models import expected_classes
from rasters import UTM54
from running import Service, descendants, is_alive

WGS84 = "OGC:CRS84"
BOXES = {"first": (100, 150, 700, 500), "second": (1000, 1, 1023, 2000)}
"""Name → column and row of two corners, px."""


@pytest.fixture(scope="module")
def truth(demo_scene: Path) -> dict[str, np.ndarray]:
    """Pixels of each class value in each box, by the image and the `pixels` model."""
    with rasterio.open(demo_scene) as image:
        classes = expected_classes(np.moveaxis(image.read(), 0, -1))
    return {
        name: np.bincount(classes[top:bottom, left:right].ravel(), minlength=9)
        for name, (left, top, right, bottom) in BOXES.items()
    }


def boxes(scene: Path) -> dict[str, shapely.Polygon]:
    with rasterio.open(scene) as image:
        transform = image.transform
    corners = {name: (transform @ box[:2], transform @ box[2:]) for name, box in BOXES.items()}
    return {name: shapely.box(x0, y1, x1, y0) for name, ((x0, y0), (x1, y1)) in corners.items()}


@pytest.fixture
def parcels(demo_scene: Path, tmp_path: Path) -> Path:
    return write(tmp_path / "parcels.gpkg", boxes(demo_scene))


def write(path: Path, shapes: dict[str, Any], **how: Any) -> Path:
    pyogrio.raw.write(
        path,
        np.array([shapely.to_wkb(each) for each in shapes.values()], dtype=object),
        [np.array(list(shapes), dtype=object), np.arange(len(shapes))],
        np.array(["name", "class"], dtype=object),
        geometry_type="Polygon",
        **{"crs": UTM54, "layer": "parcels", **how},
    )
    return path


def stats(service: Service, *arguments: object) -> int:
    return main(["stats", service.scene, "--url", service.url, "--model", "pixels", *map(str, arguments)])


def counted(document: dict[str, Any]) -> list[float]:
    return [0.0, *(each["pixels"] for each in document["classes"])]


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson"])
def test_pixels_are_those_of_the_image(
    service: Service, demo_scene: Path, truth: dict[str, np.ndarray], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"parcels.{suffix}"
    if suffix == "geojson":  # in WGS 84, where a straight edge of the scene bends by less than a thousandth of a pixel
        to_degrees = transformer(UTM54, WGS84).transform
        write(
            path,
            {
                name: shapely.transform(shape, lambda xy: np.column_stack(to_degrees(*xy.T)))
                for name, shape in boxes(demo_scene).items()
            },
            crs=WGS84,
            COORDINATE_PRECISION=12,
        )
    else:
        write(path, boxes(demo_scene))
    assert stats(service, "--geometry", path, "--out", tmp_path / "out.json") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert [each["properties"]["name"] for each in found] == list(BOXES)
    for each in found:
        pixels = counted(each["statistics"])
        assert pixels == pytest.approx(truth[each["properties"]["name"]], abs=5 if suffix == "geojson" else 1e-6)
        assert each["statistics"]["complete"]


def test_every_format_says_the_same(
    service: Service, parcels: Path, demo_scene: Path, truth: dict[str, np.ndarray], tmp_path: Path
) -> None:
    for suffix in ("json", "geojson", "csv", "parquet"):
        assert stats(service, "--geometry", parcels, "--out", tmp_path / f"out.{suffix}") == 0
    documents = [each["statistics"] for each in json.loads((tmp_path / "out.json").read_text())]

    collection = json.loads((tmp_path / "out.geojson").read_text())
    assert [each["properties"]["statistics"] for each in collection["features"]] == documents
    with rasterio.open(demo_scene) as image:
        bounds = image.bounds
    west, south, east, north = shapely.from_geojson(json.dumps(collection)).bounds
    x, y = transformer(WGS84, UTM54).transform([west, east], [south, north])
    assert bounds.left < min(x) < max(x) < bounds.right
    assert bounds.bottom < min(y) < max(y) < bounds.top

    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["pixels"]) for row in rows] == pytest.approx([*truth["first"][1:], *truth["second"][1:]])
    assert [row["attribute_class"] for row in rows] == ["0"] * 8 + ["1"] * 8  # its own column `class` is in the way

    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["name"] == list(BOXES)
    for entry in documents[0]["classes"]:
        name = entry["name"].replace(" ", "_")
        assert table[f"area_m2_{name}"] == [
            next(each["area_m2"] for each in document["classes"] if each["name"] == entry["name"])
            for document in documents
        ]
    shapes = shapely.from_wkb(table["geometry"])
    assert all(found.equals(shape) for found, shape in zip(shapes, boxes(demo_scene).values(), strict=True))


def test_a_pipe_gets_nothing_but_the_answer(
    service: Service, demo_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And of one Feature it is the document; for each class what the API answers."""
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(boxes(demo_scene)["first"])}
    (tmp_path / "one.geojson").write_text(json.dumps(feature), encoding="utf-8")
    one = ("--geometry", tmp_path / "one.geojson", "--crs", UTM54)
    assert stats(service, *one, "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    with service.client as client:
        answer = client.post(
            f"/scenes/{service.scene}/landcover/statistics", params={"model": "pixels", "crs": UTM54}, json=feature
        ).json()
    assert document == answer["properties"]["statistics"]
    assert stats(service, *one, "--format", "csv") == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 8


def test_a_table_to_read(service: Service, parcels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stats(service, "--geometry", parcels) == 0
    said = capsys.readouterr().out
    assert "first · demo by pixels" in said
    assert "sum of 2 features" in said
    assert "(100.0%) are mapped." in said


def test_a_cold_scene_is_followed_as_a_job(
    service: Service,
    parcels: Path,
    truth: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "_WAIT_S", 0.0)
    assert stats(service, "--geometry", parcels, "--out", tmp_path / "out.json") == 0
    for each in json.loads((tmp_path / "out.json").read_text()):
        assert counted(each["statistics"]) == pytest.approx(truth[each["properties"]["name"]])
    with service.client as client:
        newest = client.get("/jobs").json()["jobs"][0]
    assert (newest["type"], newest["status"]) == ("statistics", "successful")


def test_ctrl_c_dismisses_the_job(service: Service, parcels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "_WAIT_S", 0.0)
    monkeypatch.setattr(asking, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
    assert stats(service, "--geometry", parcels) == 130
    with service.client as client:
        assert client.get("/jobs").json()["jobs"][0]["status"] == "dismissed"


def test_many_features_of_which_most_lie_outside(service: Service, demo_scene: Path, tmp_path: Path) -> None:
    with rasterio.open(demo_scene) as image:
        left, top = image.bounds.left, image.bounds.top
    shapes = {str(i): shapely.box(left + 8 * i, top - 8, left + 8 * i + 8, top) for i in range(-250, 250)}
    path = write(tmp_path / "row.gpkg", shapes)
    assert stats(service, "--geometry", path, "--out", tmp_path / "out.parquet") == 0
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["name"] == list(shapes)
    inside = [0 <= int(name) < 128 for name in shapes]  # the scene is 1024 m wide
    assert table["coverage"] == pytest.approx([1.0 if each else 0.0 for each in inside], abs=1e-3)
    assert all(bool(covered) is each for covered, each in zip(table["coverage"], inside, strict=True))


def test_change_between_two_models(service: Service, parcels: Path, tmp_path: Path) -> None:
    assert stats(service, "--geometry", parcels, "--out", tmp_path / "now.json") == 0
    arguments = ("--geometry", parcels, "--against", "landcover-demo", "--out", tmp_path / "change.csv")
    assert stats(service, *arguments) == 0
    with (tmp_path / "change.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["from_model"], row["to_model"]) for row in rows} == {("landcover-demo", "pixels")}
    now = json.loads((tmp_path / "now.json").read_text())
    for feature in now:
        for entry in feature["statistics"]["classes"]:
            became = [
                float(row["area_m2"])
                for row in rows
                if (row["name"], row["to_class"]) == (feature["properties"]["name"], str(entry["value"]))
            ]
            assert len(became) == 9
            assert sum(became) == pytest.approx(entry["area_m2"], rel=1e-6, abs=1e-6)


REFUSALS = {
    "unknown scene": (["nowhere"], "There is no scene 'nowhere' at http"),
    "unknown model": (["demo", "--model", "nowhere"], "There is no model 'nowhere'"),
    "no service": (["demo", "--url", "http://127.0.0.1:9"], "No service answers at http://127.0.0.1:9"),
    "no file": (["demo", "--geometry", "nowhere.gpkg"], "There is no file nowhere.gpkg."),
    "no polygons": (["demo", "--geometry", "point.json"], "point.json has no polygons. Feature 1: it has a Point"),
    "unknown layer": (["demo", "--layer", "roads"], "has no layer 'roads'; it has parcels."),
    "no CRS": (["demo", "--geometry", "bare.gpkg"], "declares no CRS"),
    "outside": (["demo", "--crs", "EPSG:32601"], "lies outside scene 'demo'"),
    "suffix": (["demo", "--out", "areas.xls"], "areas.xls must end in .json"),
    "no folder": (["demo", "--out", "nowhere/areas.csv"], "There is no folder nowhere."),
    "parquet to a pipe": (["demo", "--format", "parquet"], "name a file with --out"),
    "discount of nothing": (["demo", "--discount"], "with --against"),
    "no image": (["nowhere.tif", "--url", ""], "--url is for the scenes of a service"),
}


@pytest.mark.filterwarnings("ignore:.crs. was not provided")
@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_one_sentence(
    shared_service: Service,
    parcels: Path,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(parcels.parent)
    Path("point.json").write_text('{"type": "Point", "coordinates": [139, 36]}', encoding="utf-8")
    write(Path("bare.gpkg"), {"a": shapely.box(0, 0, 1, 1)}, crs=None)
    arguments, sentence = REFUSALS[case]
    status = main(["stats", "--geometry", "parcels.gpkg", "--url", shared_service.url, *arguments])
    said = capsys.readouterr()
    assert status == 1
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_parquet_without_pyarrow(
    shared_service: Service, parcels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert stats(shared_service, "--geometry", parcels, "--out", parcels.parent / "out.parquet") == 1
    assert "pip install 'landcover-tiles[parquet]'" in capsys.readouterr().err


# --- an image of one's own ---------------------------------------------------------------------------------------


def private(scene: Path, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        local.landcover_command("stats", str(scene), *map(str, arguments)),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # what a shell starts in the background, such as these tests, ignores Ctrl-C, and so do its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - one call
    )


def wait_for_the_end_of(processes: set[int]) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.1)


def test_an_image_gets_a_service_of_its_own(
    demo_scene: Path, pixel_model: Path, parcels: Path, truth: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """With `--against` a second one, the same under another name: nothing has changed."""
    shutil.copy(demo_scene, tmp_path / "before.tif")
    arguments = (
        "--model",
        pixel_model,
        "--geometry",
        parcels,
        "--against",
        tmp_path / "before.tif",
        "--format",
        "json",
    )
    process = private(demo_scene, tmp_path, *arguments)
    children: set[int] = set()
    while process.poll() is None:
        children |= descendants(process.pid)
        time.sleep(0.2)
    output, said = process.communicate()
    assert process.returncode == 0, said
    assert len(children) >= 4  # broker, cache, worker, API
    wait_for_the_end_of(children)
    for each in json.loads(output):
        assert counted(each["statistics"]) == pytest.approx(truth[each["properties"]["name"]])
        change = each["statistics"]["change"]
        assert (change["from"]["scene"], change["to"]["scene"]) == ("before", "demo")
        assert change["changed_m2"] == pytest.approx(0, abs=1e-6)
    assert "starting a private service for demo" in said
    assert (tmp_path / ".landcover" / "cache" / "dump.rdb").exists()  # the next run is quick


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_a_private_service_ends_with_the_command(
    demo_scene: Path, parcels: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    process = private(demo_scene, tmp_path, "--geometry", parcels)
    deadline = time.monotonic() + 60
    while len(children := descendants(process.pid)) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(kind)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    wait_for_the_end_of(children)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.tif"], "There is no file or folder nowhere.tif"),
        (["odd.tif"], "odd.tif"),
        (["parcels.gpkg"], "parcels.gpkg"),
        (["SCENE", "--model", "nowhere.onnx"], "There is no model file nowhere.onnx"),
        (["SCENE", "--against", "SCENE"], "Both images are called 'demo'"),
        (["SCENE", "--url", "http://127.0.0.1:9"], "--url is for the scenes of a service"),
    ],
)
def test_an_image_that_cannot_be_mapped_starts_nothing(
    demo_scene: Path,
    parcels: Path,
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(parcels.parent)
    Path("odd.tif").write_bytes(b"rubbish")
    named = (str(demo_scene) if each == "SCENE" else each for each in arguments)
    assert main(["stats", "--geometry", "parcels.gpkg", *named]) == 1
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1, said.err
    assert not said.out
    assert not Path(".landcover").exists()
