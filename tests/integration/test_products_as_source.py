"""Tiles and statistics of a running service out of products that were registered, and every zoom of what is mapped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import morecantile
import numpy as np
import pytest
import rasterio

from landcover import block
from landcover.keys import PRODUCTS
from landcover.products.register import ProductRecord, ProductRegister
from onnx_models import expected_classes
from overview_parts import grid_of_size, write_pyramid
from rasters import HALF_METRE, UTM54, noise, write_tif
from running import Service, start_service

TMS = morecantile.tms.get("WebMercatorQuad")
HEIGHT_PX, WIDTH_PX = 2200, 2000
"""9 × 8 blocks of 256 px, ragged: more than are mapped on demand, and two overviews."""

LACKING_S = 4.0
"""After so long what lacked a block is looked at again."""

SEEN_S = 5.5
"""After so long every process knows of a product."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of all classes, with noise over them."""
    pixels = noise(HEIGHT_PX, WIDTH_PX, seed=5)
    patches = noise(HEIGHT_PX // 50, WIDTH_PX // 50, seed=6).repeat(50, 0).repeat(50, 1)
    return write_tif(tmp_path_factory.mktemp("scenes") / "patches.tif", (pixels // 3 + patches // 3 * 2).clip(1))


@pytest.fixture(scope="module")
def running(image: Path, pixel_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = start_service(tmp_path_factory.mktemp("service"), scenes=[image], models=[pixel_model])
    yield service
    service.processes.stop()


@pytest.fixture
def empty(running: Service) -> Service:
    """The service without any block or product."""
    running.settle()
    running.forget()
    running.broker.delete(PRODUCTS)
    return running


def layers(image: Path) -> tuple[np.ndarray, np.ndarray]:
    """Class map and confidence of the whole scene."""
    with rasterio.open(image) as opened:
        pixels = np.moveaxis(opened.read(), 0, -1)
    return expected_classes(pixels), pixels[..., 1]


def write_product(folder: Path, image: Path, window: tuple[int, int, int, int]) -> list[Path]:
    """The two files of a product of a window (row, column, height, width) of the scene."""
    grid = grid_of_size(HEIGHT_PX, WIDTH_PX, block_px=256)
    assert (grid.transform, grid.crs) == (HALF_METRE, UTM54)
    row, col, height, width = window
    cut = np.s_[row : row + height, col : col + width]
    return [
        write_pyramid(folder / f"{kind}.tif", grid, [(kind, data[cut])], row=row, col=col, most=8)
        for kind, data in zip(("class", "confidence"), layers(image), strict=True)
    ]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, image: Path) -> list[Path]:
    """A product of the whole scene."""
    return write_product(tmp_path_factory.mktemp("product"), image, (0, 0, HEIGHT_PX, WIDTH_PX))


def record_of(service: Service, files: list[Path], **changes: Any) -> ProductRecord:
    with service.client as client:
        scene = client.get(f"/scenes/{service.scene}").json()
        digest = client.get("/models/pixels").json()["digest"]
    values: dict[str, Any] = {
        "id": f"job-{time.monotonic_ns()}", "scene": service.scene, "version": scene["version"], "digest": digest,
        "decimation": scene["landcover"]["decimation"], "row_px": 0, "col_px": 0, "height_px": HEIGHT_PX,
        "width_px": WIDTH_PX, "classes": str(files[0]), "confidence": str(files[1]), "made_at": time.time(),
    }  # fmt: skip
    return ProductRecord(**values | changes)


def register(service: Service, record: ProductRecord) -> None:
    ProductRegister(service.broker).add(record)
    time.sleep(SEEN_S)


def address(service: Service, zoom: int, *, right: float = 0.5, down: float = 0.5) -> tuple[int, int, int]:
    with service.client as client:
        west, south, east, north = client.get(f"/scenes/{service.scene}").json()["bounds"]
    tile = TMS.tile(west + right * (east - west), north - down * (north - south), zoom)
    return tile.z, tile.x, tile.y


def get_tile(service: Service, at: tuple[int, int, int], extension: str = "png", **query: object) -> httpx.Response:
    z, x, y = at
    with service.client as client:
        return client.get(
            f"/scenes/{service.scene}/landcover/tiles/WebMercatorQuad/{z}/{x}/{y}.{extension}",
            params={"wait": 60, **query},
        )


def forget_tiles(service: Service, *, also: str | None = None) -> None:
    """Have tiles be drawn anew, and whatever lies under `also` be made anew."""
    for pattern in ("tile:*", also):
        if pattern and (keys := list(service.cache.scan_iter(match=pattern, count=1000))):
            service.cache.delete(*keys)


def map_all(service: Service) -> None:
    """Have workers make every block."""
    ring = [(x, y) for x in range(4) for y in range(4)]
    for x, y in ring:
        left, top = WIDTH_PX * x / 4, HEIGHT_PX * y / 4
        box = [*(HALF_METRE @ (left, top + HEIGHT_PX / 4)), *(HALF_METRE @ (left + WIDTH_PX / 4, top))]
        with service.client as client:
            response = client.get(
                f"/scenes/{service.scene}/landcover/bbox/{','.join(map(str, box))}.png",
                params={"coord_crs": UTM54, "wait": 60, "strict": True},
            )
        assert response.status_code == 200, response.text
    assert len(list(service.cache.scan_iter(match="block:*", count=1000))) == 72


def minzoom(service: Service) -> int:
    with service.client as client:
        document = client.get(f"/scenes/{service.scene}/landcover/WebMercatorQuad/tilejson.json").json()
        assert client.get(f"/scenes/{service.scene}").json()["minzoom"] == document["minzoom"]
        capabilities = client.get(f"/scenes/{service.scene}/landcover/WebMercatorQuad/WMTSCapabilities.xml").text
    assert ("<ows:Identifier>0</ows:Identifier>" in capabilities) == (document["minzoom"] == 0)
    return int(document["minzoom"])


def test_a_product_gives_the_tiles_that_workers_give(empty: Service, product: list[Path]) -> None:
    """At each zoom, in each layer, to the byte; and no block is made. Without it the scene is not drawn so far out."""
    zooms = range(11, 20)
    mapped_from = minzoom(empty)
    assert mapped_from > 11
    map_all(empty)
    by_workers = {
        (zoom, layer): get_tile(empty, address(empty, zoom), layer=layer, strict=True).content
        for zoom in zooms
        for layer in ("class", "confidence")
    }
    assert len(set(by_workers.values())) == len(by_workers)
    empty.forget()
    made = empty.made()
    register(empty, record_of(empty, product))
    assert minzoom(empty) == 0
    for (zoom, layer), data in by_workers.items():
        response = get_tile(empty, address(empty, zoom), layer=layer, strict=True)
        assert response.status_code == 200, response.text
        assert response.content == data, f"zoom {zoom}, {layer}"
    assert empty.made() == made
    for key in empty.cache.scan_iter(match="block:*", count=1000):
        assert empty.cache.ttl(key) > 24 * 3600


def get_corner(service: Service) -> bytes:
    """An image of the first 1024 px of the scene, 8 px to a pixel: level 3."""
    box = [*(HALF_METRE @ (0, 1024)), *(HALF_METRE @ (1024, 0))]
    with service.client as client:
        response = client.get(
            f"/scenes/{service.scene}/landcover/bbox/{','.join(map(str, box))}.png",
            params={"coord_crs": UTM54, "width": 128, "wait": 60, "strict": True},
        )
    assert response.status_code == 200, response.text
    return response.content


def overviews_in(service: Service) -> list[bytes]:
    return list(service.cache.scan_iter(match="over:*", count=1000))


def test_overviews_give_the_images_that_blocks_give(empty: Service) -> None:
    """An image over a part of an overview that lacks a block elsewhere is drawn from blocks, then from the overview."""
    map_all(empty)
    (last,) = (key for key in empty.cache.scan_iter(match="block:*", count=1000) if key.endswith(b":7:7}"))
    fields = empty.cache.hgetall(last)
    empty.cache.delete(last)
    time.sleep(1)  # an overview that is being made of what was there is kept, and then forgotten
    forget_tiles(empty, also="over:*")
    from_blocks = get_corner(empty)
    assert len(from_blocks) > 1000
    assert overviews_in(empty) == []
    empty.cache.hset(last, mapping=fields)
    time.sleep(LACKING_S)
    assert get_corner(empty) == from_blocks
    assert len(overviews_in(empty)) == 1
    forget_tiles(empty, also="block:*")
    made = empty.made()
    assert get_corner(empty) == from_blocks
    assert empty.made() == made


def test_all_that_is_mapped_is_shown_at_every_zoom(empty: Service) -> None:
    """Without a product: whoever looks from far has the overviews made, one for all of the scene at the end."""
    map_all(empty)
    assert minzoom(empty) > 0
    time.sleep(LACKING_S)
    at = address(empty, 12)
    far_out = get_tile(empty, at, strict=True)
    assert far_out.status_code == 200
    assert len(overviews_in(empty)) == 3
    assert minzoom(empty) == 0
    forget_tiles(empty, also="block:*")
    made = empty.made()
    for zoom in (0, 5, 9, 12):
        assert "landcover-pending" not in get_tile(empty, address(empty, zoom)).headers
    assert get_tile(empty, at, strict=True).content == far_out.content
    assert empty.made() == made


def test_a_damaged_overview_is_made_anew(empty: Service) -> None:
    map_all(empty)
    time.sleep(LACKING_S)
    good = get_corner(empty)
    (key,) = overviews_in(empty)
    empty.cache.hset(key, "c0", b"rubbish")
    with empty.client as client:
        box = [*(HALF_METRE @ (0, 1024)), *(HALF_METRE @ (1024, 0))]
        answer = client.get(
            f"/scenes/{empty.scene}/landcover/bbox/{','.join(map(str, box))}.png",
            params={"coord_crs": UTM54, "width": 128, "wait": 60},
        )
    assert answer.status_code == 503
    assert "damaged" in answer.json()["detail"]
    assert get_corner(empty) == good


def test_statistics_and_points_come_from_a_product(empty: Service, product: list[Path], image: Path) -> None:
    """More blocks than are mapped on demand, counted by a job; every pixel once."""
    register(empty, record_of(empty, product))
    made = empty.made()
    edge = [HALF_METRE @ at for at in ((0, 0), (WIDTH_PX, 0), (WIDTH_PX, HEIGHT_PX), (0, HEIGHT_PX), (0, 0))]
    body = {"type": "Polygon", "coordinates": [edge]}
    with empty.client as client:
        path = f"/scenes/{empty.scene}/landcover/statistics"
        response = client.post(path, params={"crs": UTM54, "wait": 60}, json=body)
        if response.status_code == 202:
            status = response.headers["location"]
            until = time.monotonic() + 120
            while client.get(status).json()["status"] in ("accepted", "running"):
                assert time.monotonic() < until
                time.sleep(0.2)
            response = client.get(status + "/results")
        statistics = response.json()["properties"]["statistics"]
        classes, _ = layers(image)
        assert [each["pixels"] for each in statistics["classes"]] == [(classes == v).sum() for v in range(1, 9)]
        assert statistics["coverage"] == 1.0
        bounds = client.get(f"/scenes/{empty.scene}").json()["bounds"]
        lon, lat = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        point = client.get(f"/scenes/{empty.scene}/landcover/point/{lon},{lat}", params={"wait": 60}).json()
        assert point["value"] in range(1, 9)
    assert empty.made() == made


def test_a_part_of_the_scene_helps_there(empty: Service, image: Path, tmp_path: Path) -> None:
    """A product of some rows: tiles on it need no worker, tiles beside it do; zoomed out it is still not all there."""
    files = write_product(tmp_path, image, (300, 100, 1200, 1500))
    register(empty, record_of(empty, files, row_px=300, col_px=100, height_px=1200, width_px=1500))
    made = empty.made()
    inside = get_tile(empty, address(empty, 19, right=0.4, down=0.4), strict=True)
    assert inside.status_code == 200
    assert empty.made() == made
    beside = get_tile(empty, address(empty, 19, right=0.4, down=0.95), strict=True)
    assert beside.status_code == 200
    assert empty.made() > made
    assert minzoom(empty) > 0


@pytest.mark.parametrize("damage", ["missing", "cut", "another"])
def test_a_damaged_product_is_left_alone(empty: Service, product: list[Path], tmp_path: Path, damage: str) -> None:
    """Workers make the blocks, and the answer is the same."""
    at = address(empty, 18)
    expected = get_tile(empty, at, strict=True).content
    empty.forget()
    made = empty.made()
    file = tmp_path / "class.tif"
    data = product[0].read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 3])
    elif damage == "another":
        write_tif(file, np.ones((300, 300, 1), np.uint8))
    register(empty, record_of(empty, [file, product[1]]))
    response = get_tile(empty, at, strict=True)
    assert response.status_code == 200
    assert response.content == expected
    assert empty.made() > made
    far_out = get_tile(empty, address(empty, 13))
    assert far_out.status_code == 200
    assert minzoom(empty) > 0


@pytest.mark.parametrize("other", [{"version": "0" * 16}, {"digest": "sha256:" + "0" * 64}, {"decimation": 2}])
def test_a_product_of_something_else_is_not_used(empty: Service, product: list[Path], other: dict) -> None:
    register(empty, record_of(empty, product, **other))
    assert minzoom(empty) > 0
    made = empty.made()
    assert get_tile(empty, address(empty, 19), strict=True).status_code == 200
    assert empty.made() > made


def test_what_a_product_lacks_is_made(empty: Service, product: list[Path]) -> None:
    holes = ((4, 4),)
    register(empty, record_of(empty, product, holes=holes))
    assert minzoom(empty) > 0
    made = empty.made()
    assert get_tile(empty, address(empty, 19, right=0.5, down=0.5), strict=True).status_code == 200
    far_out = get_tile(empty, address(empty, 13), strict=True)  # one block is missing, which is mapped on demand
    assert far_out.status_code == 200
    assert empty.made() - made == 1


def test_rubbish_in_the_register_is_ignored(empty: Service, product: list[Path]) -> None:
    empty.broker.hset(PRODUCTS, mapping={"a": b"\xff\x00", "b": b"{}", "c": b"[1, 2]"})
    register(empty, record_of(empty, product))
    assert minzoom(empty) == 0
    made = empty.made()
    assert get_tile(empty, address(empty, 18), strict=True).status_code == 200
    assert empty.made() == made


def test_a_client_that_does_not_wait_is_served_later(empty: Service, product: list[Path]) -> None:
    """What is read for it goes into the cache all the same."""
    register(empty, record_of(empty, product))
    at = address(empty, 18)
    first = get_tile(empty, at, wait=0)
    assert first.status_code == 200
    until = time.monotonic() + 30
    while "landcover-pending" in (again := get_tile(empty, at, wait=0)).headers:
        assert again.headers["cache-control"] == "public, max-age=2"
        assert time.monotonic() < until
        time.sleep(0.1)
    assert again.content == get_tile(empty, at, strict=True).content
    assert block.HISTOGRAM_FIELD.encode() in empty.cache.hkeys(next(empty.cache.scan_iter(match="block:*")))
