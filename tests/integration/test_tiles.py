"""Tiles of a running service against an oracle that shares no code with it: GDAL's warp of the exact map."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor

import httpx
import morecantile
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_bounds
from rasterio.warp import Resampling, reproject

from landcover.classes import OPENEARTHMAP
from onnx_models import expected_classes
from running import Service

TMS = morecantile.tms.get("WebMercatorQuad")


def tile_at(service: Service, zoom: int, *, right: float = 0.5, down: float = 0.5) -> tuple[int, int, int]:
    """z, x, y of the tile at a place of the scene given by shares of its width and height."""
    with service.client as client:
        west, south, east, north = client.get(f"/scenes/{service.scene}").json()["bounds"]
    tile = TMS.tile(west + right * (east - west), north - down * (north - south), zoom)
    return tile.z, tile.x, tile.y


def tile_url(service: Service, address: tuple[int, int, int], extension: str = "npy") -> str:
    z, x, y = address
    return f"/scenes/{service.scene}/landcover/tiles/WebMercatorQuad/{z}/{x}/{y}.{extension}"


def get_classes(client: httpx.Client, url: str, **query: object) -> np.ndarray:
    """The class map of a tile, complete."""
    response = client.get(url, params={"wait": 60, "strict": True, **query})
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content))[0]


def warped_by_gdal(service: Service, scene: str, address: tuple[int, int, int], size: int = 256) -> np.ndarray:
    """The tile of the `pixels` model by GDAL alone: each pixel of the scene classified, then warped."""
    z, x, y = address
    bounds = TMS.xy_bounds(morecantile.Tile(x, y, z))
    with rasterio.open(scene) as image:
        classes = expected_classes(np.moveaxis(image.read(), 0, -1))
        out = np.zeros((size, size), np.uint8)
        reproject(
            classes,
            out,
            src_transform=image.transform,
            src_crs=image.crs,
            dst_transform=from_bounds(*bounds, size, size),
            dst_crs="EPSG:3857",
            resampling=Resampling.nearest,
            tolerance=0,  # exact coordinates, no approximation
        )
    return out


@pytest.mark.parametrize("zoom", [18, 19, 20])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.01, 0.02), (0.99, 0.97)], ids=["middle", "north-west", "south-east"])
def test_tile_is_the_exact_map_warped(service: Service, demo_scene: str, zoom: int, place: tuple[float, float]) -> None:
    address = tile_at(service, zoom, right=place[0], down=place[1])
    with service.client as client:
        ours = get_classes(client, tile_url(service, address), model="pixels")
    oracle = warped_by_gdal(service, demo_scene, address)
    assert oracle.any()
    # A pixel whose centre falls on the border of two source pixels may go either way; hence not quite all.
    assert (ours == oracle).mean() > 0.999


def test_order_of_requests_does_not_matter(service: Service) -> None:
    z, x, y = tile_at(service, 17)
    addresses = [(z, x + i, y + j) for i in range(2) for j in range(2)]
    maps = []
    with service.client as client:
        for order in (addresses, addresses[::-1]):
            service.forget()
            maps.append({each: get_classes(client, tile_url(service, each)).tobytes() for each in order})
    assert maps[0] == maps[1]
    assert len(set(maps[0].values())) > 1


def test_a_zoom_shows_the_same_map_as_the_next(service: Service) -> None:
    z, x, y = tile_at(service, 18)
    with service.client as client:
        coarse = get_classes(client, tile_url(service, (z, x, y)), model="pixels", tilesize=512)
        fine = np.block(
            [
                [
                    get_classes(client, tile_url(service, (z + 1, 2 * x + i, 2 * y + j)), model="pixels")
                    for i in range(2)
                ]
                for j in range(2)
            ]
        )
    assert np.array_equal(coarse, fine)


def test_zoomed_out_tile_is_the_majority(service: Service, demo_scene: str) -> None:
    """A pixel of a zoomed-out tile shows the most frequent class of about the ground it covers."""
    address = tile_at(service, 15)
    with service.client as client:
        ours = get_classes(client, tile_url(service, address), model="pixels")
    fine = warped_by_gdal(service, demo_scene, address, size=2048).reshape(256, 8, 256, 8)
    counts = np.stack([(fine == value).sum(axis=(1, 3)) for value in range(9)])
    inside = counts[0] == 0
    clear = inside & (counts.max(axis=0) >= 56)  # nearly all of the ground is one class
    assert clear.sum() > 100
    assert (ours[clear] == counts.argmax(axis=0)[clear]).mean() > 0.97


def test_formats_hold_the_same_map(service: Service) -> None:
    address = tile_at(service, 17)
    colors = np.zeros((256, 4), np.uint8)
    for each in OPENEARTHMAP:
        colors[each.value] = (*each.rgb, 255)
    with service.client as client:
        classes = get_classes(client, tile_url(service, address))
        for extension in ("png", "webp"):
            response = client.get(tile_url(service, address, extension))
            assert response.headers["content-type"] == f"image/{extension}"
            image = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGBA"))
            shown = classes > 0
            assert np.array_equal(image[shown], colors[classes][shown])
            assert not image[~shown][:, 3].any()
        with rasterio.open(io.BytesIO(client.get(tile_url(service, address, "tif")).content)) as image:
            assert np.array_equal(image.read(1), classes)
            assert image.colormap(1)[8] == (222, 31, 7, 255)
            bounds = TMS.xy_bounds(morecantile.Tile(address[1], address[2], address[0]))
            assert image.bounds == pytest.approx(tuple(bounds))
            assert image.crs.to_epsg() == 3857
            assert image.nodata == 0


def test_png_is_small(service: Service) -> None:
    with service.client as client:
        png = client.get(tile_url(service, tile_at(service, 17), "png"), params={"wait": 60}).content
    assert png[24] == 4  # bits of a palette index, in the IHDR chunk
    assert len(png) < 16_000


def test_class_filter_hides_the_others(service: Service) -> None:
    address = tile_at(service, 16)
    with service.client as client:
        everything = get_classes(client, tile_url(service, address))
        only = get_classes(client, tile_url(service, address), classes="4,8")
    assert np.array_equal(only, np.where(np.isin(everything, (4, 8)), everything, 0))
    assert only.any()


def test_confidence_layer(service: Service, demo_scene: str) -> None:
    """The `pixels` model's confidence is the green band."""
    z, x, y = tile_at(service, 19)
    with service.client as client:
        ours = get_classes(client, tile_url(service, (z, x, y)), model="pixels", layer="confidence")
    with rasterio.open(demo_scene) as image:
        out = np.zeros((256, 256), np.uint8)
        reproject(
            image.read(2),
            out,
            src_transform=image.transform,
            src_crs=image.crs,
            dst_transform=from_bounds(*TMS.xy_bounds(morecantile.Tile(x, y, z)), 256, 256),
            dst_crs="EPSG:3857",
            resampling=Resampling.nearest,
            tolerance=0,
        )
    assert (ours == np.maximum(out, 1)).mean() > 0.999


def test_a_miss_is_pending_and_never_kept(service: Service) -> None:
    url = tile_url(service, tile_at(service, 17), "png")
    with service.client as client:
        pending = client.get(url, params={"wait": 0})
        assert pending.status_code == 200
        assert int(pending.headers["landcover-pending"]) >= 1
        assert pending.headers["cache-control"] == "public, max-age=2"
        assert "etag" not in pending.headers
        assert not np.asarray(Image.open(io.BytesIO(pending.content)).convert("RGBA"))[..., 3].any()
        finished = client.get(url, params={"wait": 60})
        assert "landcover-pending" not in finished.headers
        assert np.asarray(Image.open(io.BytesIO(finished.content)).convert("RGBA"))[..., 3].all()
        assert client.get(url, params={"wait": 0}).content == finished.content


def test_strict_miss_is_503_with_retry_after(service: Service) -> None:
    with service.client as client:
        response = client.get(tile_url(service, tile_at(service, 17), "png"), params={"wait": 0, "strict": True})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "blocks are being mapped" in response.json()["detail"]


def test_etag_spares_the_second_download(service: Service) -> None:
    url = tile_url(service, tile_at(service, 17), "png")
    with service.client as client:
        first = client.get(url, params={"wait": 60})
        etag = first.headers["etag"]
        assert client.get(url, headers={"if-none-match": f'"other", {etag}'}).status_code == 304
        assert client.get(url, headers={"if-none-match": '"other"'}).content == first.content
        others = [("layer", "confidence"), ("tilesize", "512"), ("classes", "8"), ("model", "pixels")]
        assert all(client.get(url, params=dict([each, ("wait", 60)])).headers["etag"] != etag for each in others)


def test_outside_the_scene(service: Service) -> None:
    url = f"/scenes/{service.scene}/landcover/tiles/WebMercatorQuad/17/0/0.png"
    with service.client as client:
        assert client.get(url, params={"strict": True}).status_code == 404
        empty = client.get(url)
        assert empty.status_code == 200
        assert not np.asarray(Image.open(io.BytesIO(empty.content)).convert("RGBA")).any()


def test_many_clients_cause_the_inferences_of_one(service: Service) -> None:
    address = tile_at(service, 16)
    url = tile_url(service, address, "png")
    with service.client as client:
        before = service.made()
        alone = client.get(url, params={"wait": 60, "strict": True}).content
        blocks = service.made() - before
    assert blocks >= 1
    service.forget()

    async def ask_together(count: int) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits) as client:
            return await asyncio.gather(*(client.get(url, params={"wait": 60, "strict": True}) for _ in range(count)))

    before = service.made()
    answers = asyncio.run(ask_together(200))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.content for answer in answers} == {alone}
    assert service.made() - before == blocks


def test_readiness_does_not_wait_behind_tiles(service: Service) -> None:
    """While requests wait for blocks, more of them than any thread pool has threads, /readyz answers."""
    z, x, y = tile_at(service, 17)
    with ThreadPoolExecutor(100) as pool, service.client as client:
        waiting = [
            pool.submit(
                httpx.get,
                service.url + tile_url(service, (z, x + i % 4, y + i // 40)),
                params={"wait": 60},
                timeout=120,
            )
            for i in range(100)
        ]
        response = client.get("/readyz", timeout=20)
        unfinished = sum(not each.done() for each in waiting)
        assert response.json()["status"] == "ready"
        assert {each.result(timeout=120).status_code for each in waiting} <= {200}
    assert unfinished > 0


BAD_REQUESTS = [
    ("WebMercatorQuad/99/0/0.png", 422, "zooms 0 to 24"),
    ("WebMercatorQuad/3/8/0.png", 422, "x runs from 0 to 7"),
    ("WebMercatorQuad/3/0/-1.png", 422, "y to 7"),
    ("WebMercatorQuad/a/0/0.png", 422, "z: "),
    ("NoSuchSet/3/0/0.png", 404, "no tile matrix set 'NoSuchSet'"),
    ("WebMercatorQuad/3/0/0.gif", 422, "format: "),
    ("WebMercatorQuad/3/0/0.png?wait=1e9", 422, "wait: "),
    ("WebMercatorQuad/3/0/0.png?wait=-1", 422, "wait: "),
    ("WebMercatorQuad/3/0/0.png?wait=nan", 422, "wait: "),
    ("WebMercatorQuad/3/0/0.png?tilesize=100000", 422, "tilesize: "),
    ("WebMercatorQuad/3/0/0.png?layer=secret", 422, "layer: "),
    ("WebMercatorQuad/3/0/0.png?classes=9", 422, "it has no 9"),
    ("WebMercatorQuad/3/0/0.png?classes=a", 422, "numbers with commas"),
    ("WebMercatorQuad/3/0/0.png?model=nobody", 404, "no model 'nobody'"),
]


@pytest.mark.parametrize(("address", "status", "sentence"), BAD_REQUESTS, ids=[each[0] for each in BAD_REQUESTS])
def test_bad_requests_get_a_sentence(service: Service, address: str, status: int, sentence: str) -> None:
    with service.client as client:
        response = client.get(f"/scenes/{service.scene}/landcover/tiles/{address}")
    assert response.status_code == status
    assert sentence in response.json()["detail"]


def test_unknown_scene(service: Service) -> None:
    with service.client as client:
        response = client.get("/scenes/nowhere/landcover/tiles/WebMercatorQuad/3/0/0.png")
    assert response.status_code == 404
    assert response.json()["detail"] == "There is no scene 'nowhere'; GET /scenes lists them."
