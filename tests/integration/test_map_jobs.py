"""`POST /jobs` and `landcover map`: products of scenes and parts of them, asked for over HTTP and from the shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom
from rasterio.windows import Window, from_bounds

from landcover.cli import main
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import noise, write_tif
from running import Service, start_service

SHAPE = 700, 1000
"""Rows and columns of the scene: the last blocks of 256 px reach past it."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tif(tmp_path_factory.mktemp("scene") / "field.tif", noise(*SHAPE), compress="deflate")


@pytest.fixture(scope="module")
def service(scene: Path, pixel_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    started = start_service(
        folder,
        scenes=[scene],
        models=[pixel_model],
        LANDCOVER_PRODUCTS=str(folder / "products"),
        LANDCOVER_API_MAP_MAX_BLOCKS="13",
    )
    yield started
    started.processes.stop()


@pytest.fixture(scope="module")
def classes(scene: Path) -> np.ndarray:
    """The whole map, `(height, width)`."""
    with rasterio.open(scene) as image:
        return expected_classes(np.moveaxis(image.read(), 0, -1))


def submit(service: Service, **asked: Any) -> dict[str, Any]:
    with service.client as client:
        response = client.post("/jobs", json={"scene": "field", **asked})
        assert response.status_code in (200, 201), response.text
        assert response.headers["location"].endswith(response.json()["id"])
        return dict(response.json())


def events(service: Service, job: str) -> list[dict[str, Any]]:
    """Every event of a job until it has ended."""
    found = []
    with service.client as client, client.stream("GET", f"/jobs/{job}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
    return found


def done(service: Service, **asked: Any) -> dict[str, Any]:
    """The result of a job."""
    job = submit(service, **asked)["id"]
    last = events(service, job)[-1]
    assert last["status"] == "successful", last
    with service.client as client:
        result: dict[str, Any] = client.get(f"/jobs/{job}/results").json()
    return result


def fetched(service: Service, result: dict[str, Any], role: str, folder: Path) -> Path:
    (file,) = [each for each in result["files"] if each["role"] == role]
    with service.client as client:
        response = client.get(file["href"])
    assert response.status_code == 200
    assert len(response.content) == file["size_bytes"]
    path = folder / file["name"]
    path.write_bytes(response.content)
    return path


def test_a_scene_becomes_a_product(service: Service, classes: np.ndarray, scene: Path, tmp_path: Path) -> None:
    job = submit(service, type="map")
    assert (job["scene"], job["model"]) == ("field", "pixels")
    assert job["status"] in ("accepted", "running")
    assert job["blocks"]["total"] == 12
    told = events(service, job["id"])
    assert [each["progress"] for each in told] == sorted(each["progress"] for each in told)
    assert told[-1]["status"] == "successful"
    assert told[-1]["blocks"] == {"total": 12, "done": 12, "failed": 0}
    with service.client as client:
        result = client.get(f"/jobs/{job['id']}/results").json()
        listed = client.get("/jobs").json()["jobs"]
    assert job["id"] in [each["id"] for each in listed]
    with rasterio.open(fetched(service, result, "classes", tmp_path)) as found, rasterio.open(scene) as image:
        assert np.array_equal(found.read(1), classes)
        assert (found.crs, found.transform) == (image.crs, image.transform)
    with rasterio.open(fetched(service, result, "confidence", tmp_path)) as found, rasterio.open(scene) as image:
        assert np.array_equal(found.read(1), image.read(2))
    assert submit(service, type="map")["id"] == job["id"]


def test_an_equal_job_is_the_same_until_its_product_has_gone(service: Service, tmp_path: Path) -> None:
    asked = {"bbox": [415_000, 3_999_800, 415_100, 4_000_000], "crs": "EPSG:32654"}
    result = done(service, **asked)
    with service.client as client:
        again = client.post("/jobs", json={"inputs": {"scene": "field", **asked}, "process": "map"})
    assert again.status_code == 200
    assert again.json()["id"] == result["id"]
    (Path(service.env["LANDCOVER_PRODUCTS"]) / result["id"] / "field.tif").unlink()
    with service.client as client:
        assert client.get(f"/jobs/{result['id']}/results/field.tif").status_code == 404
        anew = client.post("/jobs", json={"scene": "field", **asked})
    assert anew.status_code == 201
    assert events(service, anew.json()["id"])[-1]["status"] == "successful"


def test_a_box_is_a_window_of_the_grid(service: Service, classes: np.ndarray, scene: Path, tmp_path: Path) -> None:
    box = 415_010.2, 3_999_750.1, 415_200.3, 3_999_990.4
    result = done(service, bbox=box, crs="EPSG:32654")
    with rasterio.open(scene) as image:
        window = from_bounds(*box, image.transform)
    rows = int(np.floor(window.row_off)), int(np.ceil(window.row_off + window.height))
    cols = int(np.floor(window.col_off)), int(np.ceil(window.col_off + window.width))
    with rasterio.open(fetched(service, result, "classes", tmp_path)) as found:
        assert np.array_equal(found.read(1), classes[slice(*rows), slice(*cols)])
        assert found.transform @ (0, 0) == (415_000 + cols[0] / 2, 4_000_000 - rows[0] / 2)


def test_polygons_are_cut_out(service: Service, classes: np.ndarray, scene: Path, tmp_path: Path) -> None:
    ring = [[415_050.1, 3_999_700.2], [415_400.3, 3_999_751.1], [415_299.2, 3_999_950.4], [415_050.1, 3_999_700.2]]
    triangle = {"type": "Polygon", "coordinates": [ring]}
    degrees = transform_geom("EPSG:32654", "EPSG:4326", triangle)
    result = done(service, geometry={"type": "Feature", "properties": {}, "geometry": degrees})
    assert not result["registered"]
    with rasterio.open(scene) as image, rasterio.open(fetched(service, result, "classes", tmp_path)) as found:
        outside = geometry_mask([triangle], SHAPE, image.transform)
        corner = ~image.transform @ (found.transform @ (0, 0))
        window = Window(round(corner[0]), round(corner[1]), found.width, found.height)
        expected = np.where(outside, 0, classes)[window.toslices()]
        assert np.count_nonzero(found.read(1) != expected) <= 2  # a straight line in degrees is none in UTM
    assert expected.any()


def test_statistics_are_jobs_too(service: Service) -> None:
    box = [415_010, 3_999_700, 415_200, 3_999_900]
    job = submit(service, type="statistics", bbox=box, crs="EPSG:32654")
    assert (job["type"], job["scene"], job["model"]) == ("statistics", "field", "pixels")
    assert events(service, job["id"])[-1]["status"] == "successful"
    with service.client as client:
        found = client.get(f"/jobs/{job['id']}/results").json()["properties"]["statistics"]
    assert found["total_area_m2"] == pytest.approx(190 * 200, rel=1e-3)
    assert found["coverage"] == pytest.approx(1)


def test_a_file_can_be_read_in_parts(service: Service) -> None:
    result = done(service)
    (name,) = [each["name"] for each in result["files"] if each["role"] == "classes"]
    with service.client as client:
        part = client.get(f"/jobs/{result['id']}/results/{name}", headers={"Range": "bytes=0-3"})
    assert part.status_code == 206
    assert part.content in (b"II*\0", b"II+\0")


@pytest.mark.parametrize(
    ("asked", "code", "sentence"),
    [
        ({"scene": "nowhere"}, 404, "There is no scene 'nowhere'"),
        ({"model": "none"}, 404, "There is no model 'none'"),
        ({"bbox": [0, 0, 1, 1]}, 422, "outside the scene"),
        ({"bbox": [0, 1, 1, 0]}, 422, "its ymin must be less than its ymax"),
        ({"bbox": [0, 0, 1]}, 422, "bbox"),
        ({"bbox": [0, 0, 1, 1], "geometry": {}}, 422, "not both"),
        ({"geometry": {"type": "Point", "coordinates": [0, 0]}}, 422, "Polygon"),
        ({"crs": "EPSG:0", "bbox": [0, 0, 1, 1]}, 422, "no CRS"),
        ({"type": "statistics"}, 422, "give geometry"),
        ({"type": "statistics", "pmtiles": True, "bbox": [0, 0, 1, 1]}, 422, "pmtiles cannot be asked"),
        ({"type": "map", "against": "x"}, 422, "against cannot be asked"),
        ({"type": "train"}, 422, "type"),
        ({"colour": 1}, 422, "colour"),
        ({"inputs": 7}, 422, "inputs must be an object"),
    ],
)
def test_what_cannot_be_is_refused(service: Service, asked: dict[str, Any], code: int, sentence: str) -> None:
    with service.client as client:
        response = client.post("/jobs", json={"scene": "field", **asked})
    assert (response.status_code, sentence in response.json()["detail"]) == (code, True), response.text


def test_what_is_no_json_or_too_large_is_refused(service: Service) -> None:
    with service.client as client:
        assert "no JSON" in client.post("/jobs", content=b"{").json()["detail"]
        assert client.post("/jobs", content=b"1").status_code == 422
        assert client.post("/jobs", content=b" " * (9 << 20)).status_code == 413
        assert client.get("/jobs/0123456789ab/events").status_code == 404
        assert client.delete("/jobs/0123456789ab").status_code == 404


def test_limits_and_places(scene: Path, pixel_model: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    service = start_service(
        tmp_path / "state",
        scenes=[scene],
        models=[pixel_model],
        LANDCOVER_PRODUCTS=str(blocked),
        LANDCOVER_API_MAP_MAX_BLOCKS="11",
    )
    try:
        with service.client as client:
            refused = client.post("/jobs", json={"scene": "field"})
            assert refused.status_code == 413
            assert "needs 12 blocks; at most 11" in refused.json()["detail"]
            refused = client.post("/jobs", json={"scene": "field", "bbox": [415_000, 3_999_990, 415_010, 4_000_000],
                                                 "crs": "EPSG:32654"})  # fmt: skip
            assert refused.status_code == 507
            assert "cannot be written into" in refused.json()["detail"]
    finally:
        service.processes.stop()


def run(*arguments: str, folder: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "landcover", "map", *arguments],
        cwd=folder,
        env=os.environ | env,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_command_maps_an_image_and_goes_on_where_it_was_killed(
    scene: Path, classes: np.ndarray, tmp_path: Path
) -> None:
    slow = write_pixel_model(tmp_path / "slow.onnx", pixel_contract("slow"), busy_loops=50)
    out, journal = tmp_path / "out.tif", tmp_path / "out.tif.part-wal"
    arguments = [str(scene), "--out", str(out), "--model", str(slow)]
    killed = run(*arguments, folder=tmp_path)
    until = time.monotonic() + 60
    while not journal.exists() or journal.stat().st_size < 200_000:  # some blocks are kept
        assert time.monotonic() < until
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    assert not out.exists()
    stopped = run(*arguments, folder=tmp_path)
    assert stopped.stderr
    assert "starting workers" in stopped.stderr.readline()
    time.sleep(1)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode in (0, 130)
    if stopped.returncode == 130:
        assert "goes on where it was" in said
        last = run(*arguments, folder=tmp_path)
        _, said = last.communicate(timeout=120)
        assert last.returncode == 0, said
    with rasterio.open(out) as found:
        assert np.array_equal(found.read(1), classes)
    assert not list(tmp_path.glob("out.tif.part*"))


def test_the_command_fetches_what_a_service_maps(service: Service, classes: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "mine.tif"
    done = run("field", "--url", service.url, "--out", str(out), "--confidence", "file", folder=tmp_path)
    _, said = done.communicate(timeout=120)
    assert done.returncode == 0, said
    with rasterio.open(out) as found:
        assert np.array_equal(found.read(1), classes)
    assert (tmp_path / "mine.confidence.tif").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x.tif", "--out", "y.png"], "must end in .tif"),
        (["missing.tif", "--out", "y.tif"], "There is no file or folder missing.tif"),
        (["field", "--out", "y.tif", "--url", "http://127.0.0.1:9"], "No service answers"),
        (["SCENE", "--out", "/proc/none/y.tif"], "cannot be written into"),
        (["SCENE", "--out", "y.tif", "--url", "http://x"], "is an image, mapped here"),
        (["SCENE", "--out", "y.tif", "--bbox", "0,0,1,1"], "outside the scene"),
        (["SCENE", "--out", "y.tif", "--model", "none.onnx"], "There is no model file none.onnx"),
        (["SCENE", "--out", "y.tif", "--crs", "EPSG:3857"], "--crs is of"),
        (["SCENE", "--out", "SCENE"], "is there already"),
    ],
)
def test_the_command_says_what_is_wrong(
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["map", *(str(scene) if each == "SCENE" else each for each in arguments)]) == 1
    assert sentence in capsys.readouterr().err
