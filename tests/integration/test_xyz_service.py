"""An XYZ service as a scene through the real API and worker: land cover, imagery, and what is asked of the origin."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
from PIL import Image

from landcover.demo import DEMO_SEED, draw
from landcover.geodesy import transformer
from rasters import write_tif
from running import Service, start_service
from tile_server import Address, Answer, TileServer, corner_lonlat, tile_server

SIDE = 3
"""Tiles along each axis of the picture: blocks, halos and tiles have no common borders but the first."""
PACE = 400.0


@dataclass
class Bench:
    """The service, with the same picture as XYZ service (`photo`) and as GeoTIFF (`raster`)."""

    service: Service
    origin: TileServer

    @property
    def client(self) -> httpx.Client:
        return self.service.client

    def tiles(self) -> list[Address]:
        zoom, col, row = self.origin.corner
        return [(zoom, col + i, row + j) for j in range(SIDE) for i in range(SIDE)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("xyz")
    pixels, _ = draw(DEMO_SEED, SIDE * 256, SIDE * 256)
    with tile_server(pixels) as origin:
        template = f"{origin.template}?key=s3cr3t{origin.fragment}&max_rps={PACE}"
        catalogue = folder / "scenes.yaml"
        catalogue.write_text(
            f"scenes:\n  - id: photo\n    location: '{template}'\n    attribution: Somebody\n"
            f"  - id: raster\n    location: {raster(origin, folder / 'raster.tif')}\n",
            encoding="utf-8",
        )
        service = start_service(folder, scenes=[catalogue], LANDCOVER_READ_TIMEOUT_S="5")
        try:
            yield Bench(service, origin)
        finally:
            service.processes.stop()


def raster(origin: TileServer, path: Path) -> Path:
    """The picture as a GeoTIFF on the same ground."""
    zoom, col, row = origin.corner
    to_mercator = transformer("EPSG:4326", "EPSG:3857")
    x, y = to_mercator.transform(*corner_lonlat(zoom, col, row))
    right, _ = to_mercator.transform(*corner_lonlat(zoom, col + 1, row))
    transform = rasterio.transform.from_origin(x, y, (right - x) / 256, (right - x) / 256)
    return write_tif(path, origin.pixels, crs="EPSG:3857", transform=transform, blockxsize=256, blockysize=256)


def classes(client: httpx.Client, scene: str, address: Address) -> np.ndarray:
    z, x, y = address
    answer = client.get(
        f"/scenes/{scene}/landcover/tiles/WebMercatorQuad/{z}/{x}/{y}.npy",
        params={"wait": 60, "strict": True, "tilesize": 256},
    )
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))


def picture(client: httpx.Client, path: str, **query: object) -> np.ndarray:
    answer = client.get(f"/scenes/photo/imagery/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return np.array(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def test_its_map_is_that_of_the_same_picture_as_a_file(bench: Bench) -> None:
    """And each of its tiles was asked for once, a few at a time, though halos share them."""
    bench.origin.requests.clear()
    bench.service.forget()
    with bench.client as client:
        seen = 0
        for address in bench.tiles():
            ours, expected = classes(client, "photo", address), classes(client, "raster", address)
            assert np.array_equal(ours, expected)
            seen |= sum(1 << int(value) for value in np.unique(ours[0]))
        assert seen.bit_count() > 3  # a map, not a blank
    assert set(bench.origin.requests) == set(bench.tiles())
    assert set(bench.origin.requests.values()) == {1}
    assert bench.origin.most_at_once <= 6
    assert all(each["User-Agent"].startswith("landcover-tiles/") for each in bench.origin.headers)


def test_what_is_said_of_it(bench: Bench) -> None:
    with bench.client as client:
        said = client.get("/scenes/photo").json()
        twin = client.get("/scenes/raster").json()
        info = client.get("/scenes/photo/imagery/info").json()
        tilejson = client.get("/scenes/photo/imagery/WebMercatorQuad/tilejson.json").json()
        beside = client.get("/scenes/raster/imagery/WebMercatorQuad/tilejson.json").json()
    assert said["error"] is None
    assert said["attribution"] == "Somebody"
    assert said["location"] == bench.origin.template
    assert "s3cr3t" not in str(said) + str(info) + str(tilejson)
    for name in ("crs", "width_px", "height_px", "minzoom", "maxzoom", "landcover"):
        assert said[name] == pytest.approx(twin[name], rel=1e-9) if name == "landcover" else said[name] == twin[name]
    assert said["bounds"] == pytest.approx(twin["bounds"], abs=1e-9)
    assert said["bounds"] == pytest.approx(bench.origin.bounds, abs=1e-9)
    assert (info["width"], info["height"], info["dtype"]) == (SIDE * 256, SIDE * 256, "uint8")
    assert tilejson["bounds"] == pytest.approx(beside["bounds"], abs=1e-7)
    assert (tilejson["minzoom"], tilejson["maxzoom"]) == (beside["minzoom"], beside["maxzoom"])


def test_imagery_at_its_own_zoom_is_the_tile_itself(bench: Bench) -> None:
    zoom, col, row = bench.origin.corner
    bench.origin.requests.clear()
    with bench.client as client:
        for i, j in ((0, 0), (1, 2), (2, 2)):
            shown = picture(client, f"tiles/WebMercatorQuad/{zoom}/{col + i}/{row + j}.png", tilesize=256)
            expected = bench.origin.pixels[j * 256 : (j + 1) * 256, i * 256 : (i + 1) * 256]
            assert np.array_equal(shown[..., :3], expected)
            assert (shown[..., 3] == 255).all()
        nearer = picture(client, f"tiles/WebMercatorQuad/{zoom + 1}/{2 * col + 1}/{2 * row}.png", tilesize=256)
        assert np.array_equal(nearer[::2, ::2, :3], bench.origin.pixels[:128, 128:256])
    assert all(count == 1 for count in bench.origin.requests.values())  # the API keeps tiles, too
    assert len(bench.origin.requests) == 3


@pytest.mark.parametrize("zoom", [17, 16, 14, 9])
def test_zoomed_out_views_take_the_origins_lower_zooms(bench: Bench, zoom: int) -> None:
    own, col, row = bench.origin.corner
    step = 2 ** (own - zoom)
    bench.origin.requests.clear()
    with bench.client as client:
        shown = picture(client, f"tiles/WebMercatorQuad/{zoom}/{col // step}/{row // step}.png", tilesize=256)
    assert set(bench.origin.requests) <= {(zoom, col // step, row // step)}
    inside = shown[..., 3] == 255
    assert inside.any()
    assert inside.sum() <= (SIDE * 256 / step + 1) ** 2  # what lies outside of the scene is not shown


def test_other_pictures_ask_for_few_tiles(bench: Bench) -> None:
    west, south, east, north = bench.origin.bounds
    bench.origin.requests.clear()
    with bench.client as client:
        whole = picture(client, "preview.png", max_size=256)
        assert sum(bench.origin.requests.values()) <= 4
        assert max(whole.shape[:2]) == 256
        assert (whole[..., 3] == 255).all()
        box = picture(client, f"bbox/{west},{south},{east},{north}.png", max_size=640)
        assert (box[..., 3] == 255).mean() > 0.98
        lon, lat = corner_lonlat(bench.origin.corner[0], bench.origin.corner[1] + 1.5, bench.origin.corner[2] + 2.5)
        point = client.get(f"/scenes/photo/imagery/point/{lon + 1e-8},{lat - 1e-8}").json()
        assert point["values"] == bench.origin.pixels[640, 384].tolist()
        outside = client.get(f"/scenes/photo/imagery/point/{west - 1},{north}")
        assert outside.status_code == 404
    assert sum(bench.origin.requests.values()) <= 40


def test_a_fault_of_the_origin_is_told_and_passes(bench: Bench) -> None:
    zoom, col, row = bench.origin.corner
    bench.service.forget()
    path = f"/scenes/photo/imagery/tiles/WebMercatorQuad/{zoom - 6}/{col // 64}/{row // 64}.png?tilesize=256"
    with bench.client as client:
        bench.origin.answer = lambda *_: Answer(403)
        answer = client.get(path)
        assert answer.status_code == 502
        assert "was refused (403)" in answer.json()["detail"]
        assert "s3cr3t" not in answer.text
        bench.origin.answer = lambda *_: None
        assert client.get(path).status_code == 200
