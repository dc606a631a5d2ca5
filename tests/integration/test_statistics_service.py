"""Statistics of polygons over HTTP, of a real service, against figures worked out from the image alone."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import morecantile
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from pyproj import Geod, Transformer

from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import UTM54, noise, write_tif
from running import Service, start_service

SLOW_LOOPS = 100


def drawn(demo_scene: Path, *, hole: bool = True) -> shapely.Polygon:
    """A concave polygon in the scene's CRS, over some whole blocks and many edges."""
    with rasterio.open(demo_scene) as image:
        left, top = image.bounds.left, image.bounds.top
    shell = [(90.3, 60.1), (940.7, 130.2), (700.5, 500.9), (905.1, 960.4), (140.2, 880.6), (300.8, 480.3)]
    holes = [[(400, 300.5), (520.25, 310), (470, 400.75)]] if hole else []
    return shapely.transform(shapely.Polygon(shell, holes), lambda p: (left, top) + p * (1, -1))


def feature(shape: shapely.Geometry, **properties: object) -> dict:
    return {"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(shape)}


def ask(service: Service, body: object, *, accept: str | None = None, **query: object) -> httpx.Response:
    headers = {"Accept": accept} if accept else {}
    with service.client as client:
        return client.post(
            f"/scenes/{service.scene}/landcover/statistics",
            params={"model": "pixels", "wait": 60, **query},
            content=body if isinstance(body, bytes) else json.dumps(body),
            headers=headers,
        )


def follow(service: Service, response: httpx.Response, timeout_s: float = 120) -> dict:
    """The status of a 202's job at its end."""
    assert response.status_code == 202, response.text
    assert int(response.headers["retry-after"]) > 0
    deadline = time.monotonic() + timeout_s
    with service.client as client:
        while (status := client.get(response.headers["location"]).json())["status"] in ("accepted", "running"):
            assert time.monotonic() < deadline, status
            time.sleep(0.2)
    return status


def truth(demo_scene: Path, shape: shapely.Polygon, *, least: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and summed confidence of the values 1 to 8, by exactextract over the whole class map."""
    with rasterio.open(demo_scene) as image:
        pixels, bounds = np.moveaxis(image.read(), 0, -1), image.bounds
    classes, confidence = expected_classes(pixels), pixels[..., 1]
    classes = np.where(confidence >= least, classes, 0)
    edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=True))
    polygon = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
    counts, sums = np.zeros(9), np.zeros(9)
    for value in range(9):
        source = NumPyRasterSource((classes == value).astype(np.float64), **edges)
        weights = NumPyRasterSource(confidence.astype(np.float64), **edges)
        (answer,) = exact_extract(source, polygon, ["sum", "weighted_sum"], weights=weights)
        counts[value] = answer["properties"]["sum"]
        sums[value] = answer["properties"]["weighted_sum"]
    return counts, sums


def test_a_polygon_is_counted_exactly_and_measured_on_the_ground(service: Service, demo_scene: Path) -> None:
    shape = drawn(demo_scene)
    document = ask(service, feature(shape), crs=UTM54).json()["properties"]["statistics"]
    counts, sums = truth(demo_scene, shape)
    assert [each["pixels"] for each in document["classes"]] == pytest.approx(counts[1:], rel=1e-9, abs=1e-4)
    mean = sums[1:] / counts[1:] / 255
    assert [each["mean_confidence"] for each in document["classes"]] == pytest.approx(mean, rel=1e-7)
    to_wgs84 = Transformer.from_crs(UTM54, "OGC:CRS84", always_xy=True)
    followed = shapely.transform(shapely.segmentize(shape, 10), lambda p: np.column_stack(to_wgs84.transform(*p.T)))
    geodesic = Geod(ellps="WGS84").geometry_area_perimeter(shapely.orient_polygons(followed))[0]
    assert document["total_area_m2"] == pytest.approx(geodesic, rel=1e-7)
    assert document["mapped_area_m2"] == pytest.approx(geodesic, rel=1e-6)
    assert (document["complete"], document["coverage"]) == (True, 1.0)
    assert sum(each["share"] for each in document["classes"]) == pytest.approx(1)
    assert "notes" not in document


def test_longitudes_and_latitudes_are_the_default(service: Service, demo_scene: Path) -> None:
    shape = drawn(demo_scene)
    to_wgs84 = Transformer.from_crs(UTM54, "OGC:CRS84", always_xy=True)
    there = shapely.transform(shapely.segmentize(shape, 5), lambda p: np.column_stack(to_wgs84.transform(*p.T)))
    document = ask(service, shapely.geometry.mapping(there)).json()["properties"]["statistics"]
    counts, _ = truth(demo_scene, shape)
    assert [each["pixels"] for each in document["classes"]] == pytest.approx(counts[1:], rel=1e-6)


def test_a_collection_comes_back_as_it_was_sent_and_answered(service: Service, demo_scene: Path) -> None:
    shape = drawn(demo_scene)
    west, south, east, north = shape.bounds
    halves = [
        shapely.intersection(shape, shapely.box(west, south, (west + east) / 2, north)),
        shapely.intersection(shape, shapely.box((west + east) / 2, south, east, north)),
    ]
    sent = {
        "type": "FeatureCollection",
        "name": "parcels",
        "features": [{**feature(half, owner="née"), "id": f"half-{i}"} for i, half in enumerate(halves)],
    }
    answer = ask(service, sent, crs=UTM54).json()
    whole = ask(service, feature(shape), crs=UTM54).json()["properties"]["statistics"]
    assert answer["name"] == "parcels"
    for one, before in zip(answer["features"], sent["features"], strict=True):
        statistics = one["properties"].pop("statistics")
        assert one == json.loads(json.dumps(before))
        assert statistics["complete"]
    again = ask(service, sent, crs=UTM54).json()
    for i, each in enumerate(whole["classes"]):
        parts = [one["properties"]["statistics"]["classes"][i] for one in again["features"]]
        assert sum(part["pixels"] for part in parts) == pytest.approx(each["pixels"], rel=1e-9, abs=1e-5)
        assert sum(part["area_m2"] for part in parts) == pytest.approx(each["area_m2"], rel=1e-7, abs=1e-5)


def test_doubtful_pixels_can_be_left_out(service: Service, demo_scene: Path) -> None:
    shape = drawn(demo_scene)
    for threshold, least in ((0.5, 128), (100 / 255, 100)):
        document = ask(service, feature(shape), crs=UTM54, min_confidence=threshold).json()["properties"]["statistics"]
        counts, _ = truth(demo_scene, shape, least=least)
        assert [each["pixels"] for each in document["classes"]] == pytest.approx(counts[1:], rel=1e-9, abs=1e-4)
        assert document["min_confidence"] == threshold
        assert document["coverage"] == pytest.approx(counts[1:].sum() / shape.area * 0.25, rel=1e-3)
        assert all(each["adjusted_area_m2"] is None for each in document["classes"])


def test_areas_are_adjusted_by_what_the_contract_knows(service: Service, demo_scene: Path) -> None:
    small = shapely.intersection(drawn(demo_scene), drawn(demo_scene).centroid.buffer(100))
    document = ask(service, feature(small), crs=UTM54, model="landcover-demo").json()
    statistics = document["properties"]["statistics"]
    assert sum(each["adjusted_area_m2"] for each in statistics["classes"]) == pytest.approx(
        statistics["mapped_area_m2"]
    )
    for each in statistics["classes"]:
        low, high = each["adjusted_ci95_m2"]
        assert 0 <= low <= each["adjusted_area_m2"] <= high


def test_tiles_sum_to_their_parent_and_to_the_scene(service: Service, demo_scene: Path) -> None:
    tms = morecantile.tms.get("WebMercatorQuad")
    with service.client as client:
        west, south, east, north = client.get(f"/scenes/{service.scene}").json()["bounds"]

        def pixels(tiles: list[morecantile.Tile]) -> np.ndarray:
            total = np.zeros(8)
            for tile in tiles:
                address = f"/scenes/{service.scene}/landcover/tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}"
                query = {"model": "pixels", "wait": 60, "strict": True}
                document = client.get(f"{address}/statistics", params=query).json()
                total += [each["pixels"] for each in document["classes"]]
            return total

        levels = [pixels(list(tms.tiles(west, south, east, north, zooms=zoom))) for zoom in (12, 15, 16)]
    with rasterio.open(demo_scene) as image:
        classes = expected_classes(np.moveaxis(image.read(), 0, -1))
    for found in levels:
        assert found == pytest.approx(np.bincount(classes.ravel(), minlength=9)[1:], rel=1e-9)


def test_csv_by_accept(service: Service, demo_scene: Path) -> None:
    response = ask(service, feature(drawn(demo_scene), name="park"), crs=UTM54, accept="text/csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    header, *rows = response.text.splitlines()
    assert header.startswith("feature,scene,model,class,class_name,pixels,area_m2")
    assert len(rows) == 8 and all(row.endswith("park") for row in rows)
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    assert ask(service, feature(drawn(demo_scene)), crs=UTM54, accept=browser).headers["content-type"] == (
        "application/geo+json"
    )


MENDED = {
    "open ring": ([[0, 0], [100, 0], [100, 100], [0, 100]], 10_000, "was not closed"),
    "touches itself": (
        [[0, 0], [100, 0], [100, 100], [50, 100], [70, 50], [30, 50], [50, 100], [0, 100], [0, 0]],
        9000,
        "mended: ring self-intersection at",
    ),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_can_mean_one_thing_only_is_mended_and_said(service: Service, demo_scene: Path, case: str) -> None:
    ring, area, sentence = MENDED[case]
    with rasterio.open(demo_scene) as image:
        left, top = image.bounds.left + 200, image.bounds.top - 200
    polygon = {"type": "Polygon", "coordinates": [[[left + x, top - y] for x, y in ring]]}
    statistics = ask(service, polygon, crs=UTM54).json()["properties"]["statistics"]
    assert sum(each["pixels"] for each in statistics["classes"]) == pytest.approx(area / 0.25, rel=1e-6)
    assert len(statistics["notes"]) == 1 and sentence in statistics["notes"][0]


BOX = [[[140.06, 36.13], [140.065, 36.13], [140.065, 36.134], [140.06, 36.134], [140.06, 36.13]]]
BOW_TIE = [[[140.06, 36.13], [140.065, 36.134], [140.065, 36.13], [140.06, 36.134], [140.06, 36.13]]]
REFUSED = {
    "no JSON": (b'{"type": "Feature"', {}, 422, "is no JSON"),
    "a list": ([1, 2], {}, 422, "must be a GeoJSON object"),
    "a point": ({"type": "Point", "coordinates": [140, 36]}, {}, 422, "is a 'Point'; statistics are of a Polygon"),
    "swapped": (
        {"type": "Polygon", "coordinates": [[[y, x] for x, y in BOX[0]]]}, {}, 422, "seem to be swapped: longitude",
    ),
    "elsewhere": (
        {"type": "Polygon", "coordinates": [[[x - 50, y] for x, y in BOX[0]]]}, {}, 422, "lies outside scene 'demo'",
    ),
    "metres": (
        {"type": "Polygon", "coordinates": [[[0, 0], [1e6, 0], [1e6, 4e6], [0, 0]]]}, {}, 422, "name their CRS",
    ),
    "bow tie": ({"type": "Polygon", "coordinates": BOW_TIE}, {}, 422, "self-intersection at 140.0"),
    "a line": (
        {"type": "Polygon", "coordinates": [[[140.06, 36.13], [140.07, 36.13], [140.06, 36.13], [140.06, 36.13]]]},
        {}, 422, "has no area",
    ),
    "no features": ({"type": "FeatureCollection", "features": []}, {}, 422, "has no features"),
    "too many vertices": (
        {"type": "Polygon", "coordinates": [[[140.06, 36.13]] * 200_100]}, {}, 413, "200100 vertices are more than",
    ),
    "far too many vertices": (
        {"type": "Polygon", "coordinates": [[[140.06, 36.13]] * 410_000]}, {}, 413, "holds 410002 lists, far more",
    ),
    "too many features": (
        {"type": "FeatureCollection", "features": [{}] * 1001}, {}, 413, "1001 features are more than 1000",
    ),
    "unknown CRS": ({"type": "Polygon", "coordinates": BOX}, {"crs": "EPSG:1"}, 422, "is no CRS"),
    "another CRS inside": (
        {"type": "Polygon", "coordinates": BOX,
         "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32654"}}},
        {}, 422, "?crs=EPSG:32654",
    ),
    "unknown model": ({"type": "Polygon", "coordinates": BOX}, {"model": "nowhere"}, 404, "nowhere"),
    "unknown other": ({"type": "Polygon", "coordinates": BOX}, {"against": "nowhere"}, 422, "no scene and no model"),
    "itself": ({"type": "Polygon", "coordinates": BOX}, {"against": "pixels"}, 422, "is the map that is asked about"),
    "discount alone": ({"type": "Polygon", "coordinates": BOX}, {"discount": True}, 422, "name a scene or model"),
    "confidence 2": ({"type": "Polygon", "coordinates": BOX}, {"min_confidence": 2}, 422, "min_confidence"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_queued(service: Service, case: str) -> None:
    body, query, status, sentence = REFUSED[case]
    response = ask(service, body, **query)
    assert response.status_code == status, response.text
    assert sentence in response.json()["detail"]
    assert not list(service.cache.scan_iter(match="marker:*"))
    assert service.broker.llen("interactive") == service.broker.llen("bulk") == 0


def test_what_is_not_mapped_in_time_becomes_a_job_with_the_same_answer(service: Service, demo_scene: Path) -> None:
    body = feature(drawn(demo_scene), name="park")
    response = ask(service, body, crs=UTM54, wait=0)
    accepted = response.json()
    assert response.status_code == 202
    assert (accepted["type"], accepted["status"] in ("accepted", "running")) == ("statistics", True)
    with service.client as client:
        same = ask(service, body, crs=UTM54, wait=0)
        assert same.status_code == 200 or same.json()["id"] == accepted["id"]
        status = follow(service, response)
        assert (status["status"], status["progress"]) == ("successful", 100)
        assert status["blocks"]["done"] == status["blocks"]["total"] > 10
        results = client.get(status["links"][1]["href"]).json()
        assert any(job["id"] == accepted["id"] for job in client.get("/jobs").json()["jobs"])
        assert client.delete(f"/jobs/{accepted['id']}").status_code == 409
        table = client.get(f"/jobs/{accepted['id']}/results", headers={"Accept": "text/csv"})
        assert len(table.text.splitlines()) == 9
    assert results == ask(service, body, crs=UTM54).json()
    assert results["properties"]["statistics"]["complete"]


def test_unknown_jobs(service: Service) -> None:
    with service.client as client:
        for address in ("/jobs/0123456789ab", "/jobs/0123456789ab/results"):
            assert client.get(address).status_code == 404
            assert "GET /jobs lists them" in client.get(address).json()["detail"]
        assert client.get("/jobs/rubbish").status_code == 422


# --- services of one's own ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(demo_scene: Path, tmp_path: Path) -> Iterator[Service]:
    """A service whose blocks take some tenths of a second."""
    model = write_pixel_model(tmp_path / "pixels.onnx", pixel_contract("pixels"), busy_loops=SLOW_LOOPS)
    service = start_service(tmp_path, scenes=[demo_scene], models=[model])
    yield service
    service.processes.stop()


def test_a_job_outlives_the_process_that_took_it(slow: Service, demo_scene: Path) -> None:
    """The API is killed in the middle: another goes on, and no finished block is made again."""
    response = ask(slow, feature(drawn(demo_scene)), crs=UTM54, wait=0)
    deadline = time.monotonic() + 60
    while slow.made() < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = slow.child("API")
    assert child.process is not None
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait()
    child.start()
    while True:
        try:
            httpx.get(f"{slow.url}/healthz")
            break
        except httpx.TransportError:
            time.sleep(0.1)
    status = follow(slow, response)
    assert status["status"] == "successful", status
    statistics = httpx.get(status["links"][1]["href"]).json()["properties"]["statistics"]
    counts, _ = truth(demo_scene, drawn(demo_scene))
    assert [each["pixels"] for each in statistics["classes"]] == pytest.approx(counts[1:], rel=1e-9, abs=1e-4)
    assert slow.made() == status["blocks"]["total"] == len(list(slow.cache.scan_iter(match="block:*", count=1000)))


def test_a_dismissed_job_stops(slow: Service, demo_scene: Path) -> None:
    """What was queued for it may still be made, the rest is not."""
    with rasterio.open(demo_scene) as image:
        whole = shapely.box(*image.bounds)
    response = ask(slow, feature(whole), crs=UTM54, wait=0)
    while slow.made() < 1:
        time.sleep(0.05)
    with slow.client as client:
        dismissed = client.delete(response.headers["location"]).json()
        assert dismissed["status"] == "dismissed"
        late = client.get(response.headers["location"] + "/results")
        assert (late.status_code, "was dismissed" in late.json()["detail"]) == (404, True)
    time.sleep(20)  # interest lapses
    made = slow.made()
    assert made < 64
    time.sleep(3)
    assert slow.made() == made


def test_a_job_over_a_broken_image_fails_with_its_reason(tmp_path: Path, pixel_model: Path) -> None:
    scene = write_tif(tmp_path / "broken.tif", noise(1024, 1024), crs=UTM54, compress="jpeg", tiled=True)
    size = scene.stat().st_size
    with scene.open("r+b") as file:
        file.truncate(size * 2 // 3)
    service = start_service(tmp_path, scenes=[scene], models=[pixel_model])
    try:
        with rasterio.open(scene) as image:
            whole = shapely.box(*image.bounds)
        status = follow(service, ask(service, feature(whole), crs=UTM54, wait=0))
        assert status["status"] == "failed"
        assert "broken" in status["message"]
        with service.client as client:
            results = client.get(f"/jobs/{status['id']}/results")
        assert results.status_code == 502
        assert results.json()["detail"] == status["message"]
    finally:
        service.processes.stop()


def test_change_between_two_scenes(tmp_path: Path, pixel_model: Path) -> None:
    """The later one is of half the resolution, in another CRS's pixels, and redder in one part."""
    before = noise(800, 800)
    before = before[::8, ::8].repeat(8, axis=0).repeat(8, axis=1)  # patches, so that pixels of 1 m find their own
    after = before[::2, ::2].copy()
    after[:200, :300, 0] = 255 - after[:200, :300, 0]
    place = Affine.translation(400_000, 4_000_000)
    first = write_tif(tmp_path / "before.tif", before, crs=UTM54, transform=place @ Affine.scale(0.5, -0.5))
    second = write_tif(tmp_path / "after.tif", after, crs=UTM54, transform=place @ Affine.scale(1, -1))
    service = start_service(tmp_path, scenes=[second, first], models=[pixel_model])
    try:
        shape = shapely.box(400_050, 3_999_650, 400_350, 3_999_950)  # 300 m a side
        answer = ask(service, feature(shape), crs=UTM54, against="before").json()["properties"]["statistics"]
        discounted = ask(service, feature(shape), crs=UTM54, against="scene:before", discount=True).json()
    finally:
        service.processes.stop()
    old = expected_classes(before[::2, ::2])[50:350, 50:350]
    new = expected_classes(after)[50:350, 50:350]
    counts = np.zeros((9, 9))
    np.add.at(counts, (old.ravel(), new.ravel()), 1)
    change = answer["change"]
    matrix = np.array(change["area_m2"])
    pixel_m2 = answer["mapped_area_m2"] / old.size
    assert matrix == pytest.approx(counts * pixel_m2, rel=1e-4)
    assert (change["from"]["scene"], change["to"]["scene"]) == ("before", "after")
    assert change["unchanged_m2"] == pytest.approx(np.trace(counts) * pixel_m2, rel=1e-4)
    assert change["changed_m2"] == pytest.approx((old != new).sum() * pixel_m2, rel=1e-4)
    assert [each["name"] for each in change["from_classes"]][:2] == ["unknown", "bareland"]
    assert change["discounted"] is False and change["unsure_m2"] is None
    belief = before[::2, ::2, 1][50:350, 50:350] / 255 * (after[50:350, 50:350, 1] / 255)
    sure = discounted["properties"]["statistics"]["change"]
    assert np.sum(sure["area_m2"]) == pytest.approx(belief.sum() * pixel_m2, rel=1e-4)
    assert sure["unsure_m2"] == pytest.approx((1 - belief).sum() * pixel_m2, rel=1e-4)
