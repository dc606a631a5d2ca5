"""What a plan says, against figures worked out by hand and by pyproj."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from affine import Affine

from landcover.cli import main
from landcover.contract import ModelFile, read_model
from landcover.errors import InvalidRequest, SceneTooCoarse
from landcover.geodesy import ground_sample_distance_m
from landcover.planning.estimate import (
    BLOCK_BYTES_PER_PX,
    CLASS_BYTES_PER_PX,
    JOB_BLOCKS_PER_S,
    SERVERS_BLOCKS_PER_S,
    WRITER_MPX_PER_S,
    Rates,
    estimate,
)
from landcover.planning.imagery import imagery_of_area
from landcover.planning.workload import gsd_of_zoom, workload_of_area
from onnx_models import pixel_contract, write_pixel_model
from rasters import noise, write_tif

BLOCK_PX, HALO_PX = 256, 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """Blocks of 256 px, windows of 320, trained for 0.2 to 2 m."""
    return read_model(write_pixel_model(tmp_path_factory.mktemp("model") / "m.onnx", pixel_contract("m")))


@pytest.mark.parametrize("latitude", [0, 24.4, 36, 45.5, -60, 84])
def test_the_size_of_a_tiles_pixels_is_the_geodesics(latitude: float) -> None:
    zoom = 18
    pixel = 2 * math.pi * 6_378_137 / 256 / 2**zoom
    north = 6_378_137 * math.atanh(math.sin(math.radians(latitude)))
    # The same latitude on the ellipsoid lies elsewhere on a sphere's Mercator, but EPSG:3857 takes it as it is.
    transform = Affine(pixel, 0, 0, 0, -pixel, north + 128 * pixel)
    assert gsd_of_zoom(zoom, latitude) == pytest.approx(
        ground_sample_distance_m("EPSG:3857", transform, 256, 256), rel=1e-5
    )


def test_an_area_by_hand(model: ModelFile) -> None:
    """1 km² at 1 m: a million pixels, 15.26 blocks of 256 px; each is seen as 320 px, read at half a byte a pixel."""
    imagery = imagery_of_area(tile_px=None, bytes_per_px=0.5, requests_per_s=None)
    load = workload_of_area(1.0, 1.0, model, imagery)
    assert (load.blocks, load.pixels, load.decimation, load.window_px) == (16, 1_000_000, 1, 320)
    plan = estimate(load, Rates(mpx_per_s=2.0, basis="", price_per_hour=3600.0), [1, 4])
    assert plan.network_pixels == 16 * 320 * 320
    assert plan.read_bytes == 819_200
    assert plan.least_read_bytes == 524_288
    assert (plan.requests, plan.least_requests) == (None, None)
    assert plan.block_bytes == pytest.approx(16 * 65_536 * BLOCK_BYTES_PER_PX)
    assert plan.class_bytes == pytest.approx(1e6 * CLASS_BYTES_PER_PX)
    assert plan.worker_hours * 3600 == pytest.approx(0.524288)
    assert [each.mapping_hours * 3600 for each in plan.fleets] == pytest.approx([0.524288, 16 / JOB_BLOCKS_PER_S])
    assert plan.writing_hours * 3600 == pytest.approx(1 / WRITER_MPX_PER_S)
    assert [each.hours - each.mapping_hours for each in plan.fleets] == pytest.approx([plan.writing_hours] * 2)
    assert [each.bound_by for each in plan.fleets] == ["workers", "job"]
    assert [each.cost for each in plan.fleets] == pytest.approx([0.524288, 4 * 0.16])


def test_jobs_side_by_side_share_books_and_writing(model: ModelFile) -> None:
    load = workload_of_area(1.0, 1.0, model, imagery_of_area(tile_px=None, bytes_per_px=1.0, requests_per_s=None))
    (fleet,) = estimate(load, Rates(mpx_per_s=1e6, basis="", jobs=4), [1]).fleets
    assert fleet.bound_by == "job"
    assert fleet.hours * 3600 == pytest.approx(16 / JOB_BLOCKS_PER_S / 4 + 1 / WRITER_MPX_PER_S / 4)


def test_more_jobs_than_one_cache_serves(model: ModelFile) -> None:
    load = workload_of_area(1.0, 1.0, model, imagery_of_area(tile_px=None, bytes_per_px=1.0, requests_per_s=None))
    (fleet,) = estimate(load, Rates(mpx_per_s=1e6, basis="", jobs=1000), [1]).fleets
    assert fleet.bound_by == "servers"
    assert fleet.mapping_hours * 3600 == pytest.approx(16 / SERVERS_BLOCKS_PER_S)


def test_finer_imagery_is_decimated(model: ModelFile) -> None:
    """At 0.1 m the map has 0.2 m: four pixels are read for one."""
    load = workload_of_area(0.04, 0.1, model, imagery_of_area(tile_px=None, bytes_per_px=1.0, requests_per_s=None))
    assert (load.decimation, load.gsd_m, load.pixels, load.blocks) == (2, 0.2, 1_000_000, 16)
    plan = estimate(load, Rates(mpx_per_s=1.0, basis=""), [1])
    assert plan.read_bytes == 16 * 320 * 320 * 4
    assert plan.fleets[0].cost is None


@pytest.mark.parametrize(
    ("tile_px", "gsd_m", "most", "least"),
    [(256, 1.0, 9, 1), (512, 1.0, (320 / 512 + 1) ** 2, 1 / 4), (256, 0.1, 16, 4)],
    ids=["a tile a block", "tiles larger than blocks", "four tiles a block"],
)
def test_tiles_and_a_servers_pace(model: ModelFile, tile_px: int, gsd_m: float, most: float, least: float) -> None:
    """A block and its halo reach into each neighbouring tile; however many workers, ten tiles a second."""
    imagery = imagery_of_area(tile_px=tile_px, bytes_per_px=None, requests_per_s=10)
    load = workload_of_area(100, gsd_m, model, imagery)
    plan = estimate(load, Rates(mpx_per_s=1e6, basis=""), [1, 1000])
    assert plan.requests == round(load.blocks * most)
    assert plan.least_requests == round(load.blocks * least)
    assert {each.bound_by for each in plan.fleets} == {"imagery"}
    assert [each.mapping_hours * 3600 for each in plan.fleets] == pytest.approx([plan.least_requests / 10] * 2)


def test_what_cannot_be(model: ModelFile) -> None:
    imagery = imagery_of_area(tile_px=None, bytes_per_px=None, requests_per_s=None)
    with pytest.raises(SceneTooCoarse, match=r"0\.2 to 2 m"):
        workload_of_area(1, 10, model, imagery)
    for zoom, latitude in ((25, 0), (-1, 0), (18, 86), (18, float("nan"))):
        with pytest.raises(InvalidRequest):
            gsd_of_zoom(zoom, latitude)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 × 700 px of 0.5 m: 3 × 3 blocks."""
    return write_tif(tmp_path_factory.mktemp("scene") / "scene.tif", noise(600, 700))


def planned(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert main(["plan", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_scene(scene: Path, model: ModelFile, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, scene, "--model", model.path, "--rate", 0.5, "--workers", 2, 1, 2)
    load = plan["workload"]
    assert (load["name"], load["model"], load["blocks"], load["pixels"]) == ("scene", "m", 9, 420_000)
    assert load["imagery"]["bytes_per_px"] == pytest.approx(scene.stat().st_size / 420_000)
    assert plan["read_bytes"] == pytest.approx(9 * 320**2 * scene.stat().st_size / 420_000)
    assert plan["worker_hours"] * 3600 == pytest.approx(9 * 65_536 / 1e6 / 0.5)
    assert [each["workers"] for each in plan["fleets"]] == [1, 2]


def test_a_part_of_a_scene(scene: Path, model: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A box of 100 × 100 px over the corner of four blocks; a triangle, half of it, without the lower right."""
    left, top = 415_000 + 206 * 0.5, 4_000_000 - 206 * 0.5
    right, bottom = left + 50, top - 50
    box = planned(capsys, scene, "--model", model.path, f"--bbox={left},{bottom},{right},{top}", "--crs", "EPSG:32654")
    assert (box["workload"]["blocks"], box["workload"]["pixels"]) == (4, 10_000)
    corner = tmp_path / "corner.geojson"
    ring = [[left, top], [left, bottom], [right, top], [left, top]]
    corner.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    part = planned(capsys, scene, "--model", model.path, "--geometry", corner, "--crs", "EPSG:32654")
    assert part["workload"]["pixels"] == pytest.approx(5_000, abs=2)
    assert part["workload"]["blocks"] in (3, 4)  # its edge ends at the corner of the fourth


def test_a_scene_of_the_catalogue_by_its_id(
    scene: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANDCOVER_SCENES", str(scene))
    monkeypatch.setenv("LANDCOVER_MODELS", str(model.path))
    assert planned(capsys, "scene", "--model", "m")["workload"]["blocks"] == 9


def test_an_xyz_service_is_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens there; the zoom and the box say all. One tile of zoom 18 is a quarter of a block of 512 px."""
    plan = planned(
        capsys, "http://127.0.0.1:1/{z}/{x}/{y}.jpg#zoom=18&bbox=139.70,35.60,139.71,35.61&max_rps=5", "--rate", "100"
    )
    load = plan["workload"]
    assert load["pixels"] % 65_536 == 0
    assert (load["imagery"]["tile_px"], load["imagery"]["requests_per_s"]) == (256, 5)
    assert plan["least_requests"] == 4 * load["blocks"]
    assert plan["fleets"][0]["bound_by"] == "imagery"
    assert plan["fleets"][0]["mapping_hours"] * 3600 == pytest.approx(4 * load["blocks"] / 5)


def test_the_table_for_people(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["plan", "--area-km2", "378000", "--zoom", "18", "--latitude", "36", "--rate", "60", "--price", "2"]) == 0
    )
    shown = capsys.readouterr().out
    assert "378,000 km² at 0.483 m" in shown
    assert "6,19" in shown  # million blocks
    assert "as given" in shown
    assert main(["plan", str(scene)]) == 0
    assert "give --rate or --measure" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name a scene, or give --area-km2"),
        (["--area-km2", "5"], "--gsd, or --zoom and --latitude"),
        (["--area-km2", "5", "--gsd", "1", "--zoom", "18"], "either --gsd, or --zoom"),
        (["--area-km2", "5", "--zoom", "18"], "go together"),
        (["--area-km2", "5", "--zoom", "18", "--latitude", "89"], "not on the map"),
        (["--area-km2", "5", "--gsd", "30"], "too coarse"),
        (["--area-km2", "5", "--gsd", "1", "--measure"], "need a scene"),
        (["nosuch.tif"], "There is no file or folder nosuch.tif"),
        (["SCENE", "--gsd", "1"], "without a scene"),
        (["SCENE", "--model", "nosuch"], "There is no model 'nosuch'"),
        (["SCENE", "--bbox=0,0,1,1"], "outside the scene"),
        (["SCENE", "--bbox=1,1,1,0"], "ymin"),
    ],
)
def test_errors(arguments: list[str], sentence: str, scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *(str(scene) if each == "SCENE" else each for each in arguments)]) != 0
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "option", ["--rate=0", "--rate=nan", "--rate=x", "--workers=0", "--jobs=2.5", "--price=-1", "--bbox=1,2,3"]
)
def test_options_that_are_none(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--area-km2", "5", "--gsd", "1", option])
    assert re.search("not (0|nan|x|2.5|-1|1,2,3)$", capsys.readouterr().err.strip())
