"""The review of a running service, and of a file without one, against rankings worked out from the image alone."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from pyproj import Transformer

from landcover import block
from landcover.cli import main
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import UTM54, noise, write_tif
from running import Service

BLOCK = 256
"""Of the `pixels` model."""


def pixels_of(scene: Path | str) -> np.ndarray:
    with rasterio.open(scene) as image:
        return np.moveaxis(image.read(), 0, -1)


def review(service: Service, **query: object) -> dict:
    with service.client as client:
        response = client.get(f"/scenes/{service.scene}/landcover/review", params={"model": "pixels", **query})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/geo+json"
    return response.json()


def places(document: dict) -> list[tuple[int, int]]:
    return [(each["properties"]["row_px"], each["properties"]["col_px"]) for each in document["features"]]


def confidence_by_hand(pixels: np.ndarray, side: int) -> dict[tuple[int, int], float]:
    """1 - mean green / 255 of each window: what the `pixels` model is unsure of."""
    height, width = pixels.shape[:2]
    return {
        (row, col): 1 - float(pixels[row : row + side, col : col + side, 1].mean()) / 255
        for row in range(0, height, side)
        for col in range(0, width, side)
    }


@pytest.mark.parametrize("window", [256, 128])
def test_ranking_is_that_of_the_image(service: Service, demo_scene: Path, window: int) -> None:
    document = review(service, wait=60, spread=0, limit=1000, window=window)
    doubt = confidence_by_hand(pixels_of(demo_scene), window)
    assert document["complete"] and document["blocks"] == {"total": 64, "mapped": 64}
    assert document["windows"] == {"candidates": len(doubt), "ranked": len(doubt)}
    by_rank = [each["properties"]["doubt"] for each in document["features"]]
    np.testing.assert_allclose(by_rank, [doubt[place] for place in places(document)], atol=1e-9)
    np.testing.assert_allclose(by_rank, sorted(doubt.values(), reverse=True), atol=1e-9)
    assert set(places(document)) == set(doubt)


def test_spread_and_limit(service: Service, demo_scene: Path) -> None:
    document = review(service, wait=60, spread=1.5, limit=7)
    doubt = confidence_by_hand(pixels_of(demo_scene), BLOCK)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < 7:

        def score(place: tuple[int, int]) -> float:
            near = (math.dist(place, other) / BLOCK for other in chosen)
            return doubt[place] * (1 - max((math.exp(-(d**2) / 4.5) for d in near), default=0))

        chosen.append(max((place for place in doubt if place not in chosen), key=score))
    assert places(document) == chosen
    assert [each["properties"]["rank"] for each in document["features"]] == [1, 2, 3, 4, 5, 6, 7]


def test_what_a_window_holds(service: Service, demo_scene: Path) -> None:
    document = review(service, wait=60, limit=3, window=64, by="entropy")
    pixels = pixels_of(demo_scene)
    for feature in document["features"]:
        of = feature["properties"]
        part = pixels[of["row_px"] : of["row_px"] + 64, of["col_px"] : of["col_px"] + 64]
        values, counts = np.unique(expected_classes(part), return_counts=True)
        assert of["classes"][0]["value"] == values[counts.argmax()]
        assert of["classes"][0]["share"] == pytest.approx(counts.max() / 64**2)
        assert of["dominant_class"] == of["classes"][0]["name"]
        assert of["mean_confidence"] == pytest.approx(part[..., 1].mean() / 255)
        p = np.maximum(part[..., 1] / 255, 1 / 8)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -p * np.log(p) - np.where(p < 1, (1 - p) * np.log((1 - p) / 7), 0)
        assert of["doubt"] == of["doubt_entropy"] == pytest.approx(entropy.mean() / math.log(8))
        assert of["doubt_seams"] is None and of["doubt_disagreement"] is None


def test_seams(service: Service, demo_scene: Path) -> None:
    document = review(service, wait=60, by="seams", spread=0, limit=1000)
    classes = expected_classes(pixels_of(demo_scene))

    def changes(axis: int, line: int, along: int) -> np.ndarray:
        """Whether the class changes between pixels `line - 1` and `line`, for the pixels of one block along it."""
        lines = classes if axis == 0 else classes.T
        part = slice(along, along + BLOCK)
        return lines[line - 1, part] != lines[line, part]

    def excess(row: int, col: int) -> float:
        across, inside = [], []
        for axis, first, along in ((0, row, col), (1, col, row)):
            for line in (first, first + BLOCK):
                if 0 < line < len(classes):
                    across.append(changes(axis, line, along))
                    inside += [changes(axis, line - 1, along), changes(axis, line + 1, along)]
        return max(0.0, float(np.mean(across) - np.mean(inside)))

    for feature in document["features"]:
        of = feature["properties"]
        assert of["doubt_seams"] == pytest.approx(excess(of["row_px"], of["col_px"]))
    assert document["windows"]["candidates"] == 64


def test_only_what_is_mapped_is_ranked(service: Service) -> None:
    empty = review(service)
    assert empty["features"] == [] and empty["blocks"] == {"total": 64, "mapped": 0}
    assert not empty["complete"] and "wait=30" in empty["note"]
    assert service.broker.llen("interactive") == 0 and not any(service.cache.scan_iter(match="marker:*"))
    with service.client as client:
        tile = client.get(f"/scenes/{service.scene}").json()["bounds"]
        lon, lat = (tile[0] + tile[2]) / 2 + 1e-4, (tile[1] + tile[3]) / 2 - 1e-4
        client.get(f"/scenes/{service.scene}/landcover/point/{lon},{lat}?model=pixels&wait=60&strict=true")
        response = client.get(f"/scenes/{service.scene}/landcover/review?model=pixels")
    document = response.json()
    assert document["blocks"] == {"total": 64, "mapped": 1} and not document["complete"]
    assert places(document) == [(1024, 1024)]
    assert "63 of 64" in document["note"]
    assert response.headers["cache-control"] == "public, max-age=2"
    seams = review(service, by="seams")
    assert seams["features"] == [] and seams["blocks"]["mapped"] == 1


def test_a_damaged_block_is_dropped_and_made_again(service: Service) -> None:
    review(service, wait=60)
    key = next(iter(service.cache.scan_iter(match="block:*:3:3}")))
    service.cache.hset(key, block.field("confidence", 0), b"rubbish")
    with service.client as client:
        address = f"/scenes/{service.scene}/landcover/review?model=pixels&by=entropy"
        assert client.get(address).status_code == 503
        assert client.get(address).json()["blocks"]["mapped"] == 63
        assert client.get(f"{address}&wait=60").json()["complete"]


def test_outlines_and_links_lead_to_the_window(service: Service, demo_scene: Path) -> None:
    document = review(service, wait=60, limit=4)
    with rasterio.open(demo_scene) as image:
        to_degrees = Transformer.from_crs(image.crs, "OGC:CRS84", always_xy=True)
        transform = image.transform
    for feature in document["features"]:
        of = feature["properties"]
        ring = np.array(feature["geometry"]["coordinates"][0])
        corners = [
            to_degrees.transform(*(transform @ (of["col_px"] + right, of["row_px"] + down)))
            for right, down in ((0, 0), (BLOCK, 0), (BLOCK, BLOCK), (0, BLOCK))
        ]
        for corner in corners:
            assert np.abs(ring - corner).max(axis=1).min() < 1e-6
        assert (ring[0] == ring[-1]).all() and len(ring) == 33
        assert np.sum(ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]) > 0, "counterclockwise"
    links = document["features"][0]["properties"]["links"]
    with service.client as client:
        for name in ("imagery", "classes", "confidence"):
            response = client.get(links[name])
            assert response.status_code == 200 and response.headers["content-type"] == "image/png", response.text
    west, south, east, north = document["features"][0]["bbox"]
    _, at = links["map"].split("&at=")
    zoom, lat, lng = map(float, at.split("/"))
    assert south < lat < north and west < lng < east and 15 < zoom < 19


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("by=disagreement", 422, "second model"),
        ("by=disagreement&against=pixels", 422, "never disagrees with itself"),
        ("by=disagreement&against=nobody", 404, "no model 'nobody'"),
        ("by=disagreement&against=landcover-demo", 422, "other pixels"),
        ("by=luck", 422, "by"),
        ("window=96", 422, "power of two"),
        ("window=512", 422, "at most 256 px"),
        ("window=0", 422, "power of two"),
        ("window=-256", 422, "power of two"),
        ("window=1", 413, "larger window"),
        ("window=x", 422, "window"),
        ("limit=0", 422, "limit"),
        ("limit=1001", 422, "limit"),
        ("spread=-1", 422, "spread"),
        ("spread=nan", 422, "spread"),
        ("min_mapped=1.1", 422, "min_mapped"),
        ("wait=61", 422, "wait"),
        ("model=nobody", 404, "no model"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(service: Service, query: str, status: int, words: str) -> None:
    model = "" if "model=" in query else "&model=pixels"
    with service.client as client:
        response = client.get(f"/scenes/{service.scene}/landcover/review?{query}{model}")
    assert response.status_code == status
    assert words in response.json()["detail"]


def without_links(document: dict) -> dict:
    for feature in document["features"]:
        feature["properties"].pop("links", None)
    return document


@pytest.mark.parametrize("options", [[], ["--window", "64", "--by", "entropy", "--limit", "50"], ["--by", "seams"]])
def test_a_file_is_reviewed_as_a_service_does(
    service: Service,
    demo_scene: Path,
    pixel_model: Path,
    tmp_path: Path,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = tmp_path / "here.geojson", tmp_path / "there.geojson"
    assert main(["review", str(demo_scene), "--model", str(pixel_model), "--out", str(here), *options]) == 0
    service_options = ["--url", service.url, "--model", "pixels", "--wait"]
    assert main(["review", service.scene, *service_options, "--out", str(there), *options]) == 0
    documents = [without_links(json.loads(path.read_text())) for path in (here, there)]
    assert documents[0]["features"]
    assert documents[0] == documents[1]
    assert f"{len(documents[0]['features'])} of" in capsys.readouterr().out


def test_two_models_of_a_file(tmp_path: Path) -> None:
    """A scene turned by 30°, no multiple of the block, without data in a corner; the second model has wider bands."""
    pixels = noise(300, 500, seed=3)
    mask = np.full((300, 500), 255, np.uint8)
    mask[:256, :256] = 0
    transform = Affine.translation(415_000, 4_000_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
    scene = write_tif(tmp_path / "turned.tif", pixels, crs=UTM54, transform=transform, mask=mask)
    first = write_pixel_model(tmp_path / "first.onnx", pixel_contract("first"))
    other = write_pixel_model(tmp_path / "other.onnx", pixel_contract("other"), band_step=64)
    out, pictures = tmp_path / "out.geojson", tmp_path / "pictures"
    options = ["--by", "disagreement", "--against", str(other), "--pictures", str(pictures), "--out", str(out)]
    assert main(["review", str(scene), "--model", str(first), "--min-mapped", "0.05", *options]) == 0
    document = json.loads(out.read_text())
    assert document["against"] == "other" and document["complete"]
    assert {(256, 0), (0, 256), (256, 256)} == set(places(document))
    for feature in document["features"]:
        of = feature["properties"]
        part = pixels[of["row_px"] :, of["col_px"] :][: of["height_px"], : of["width_px"]]
        differ = expected_classes(part) != part[..., 0] // 64 + 1
        assert of["doubt"] == of["doubt_disagreement"] == pytest.approx(differ.mean())
        lon, lat = np.array(feature["geometry"]["coordinates"][0]).T
        x, y = Transformer.from_crs("OGC:CRS84", UTM54, always_xy=True).transform(lon, lat)
        cols, rows = ~transform @ (x, y)
        for values, low, size in ((cols, of["col_px"], of["width_px"]), (rows, of["row_px"], of["height_px"])):
            np.testing.assert_allclose([values.min(), values.max()], [low, low + size], atol=0.1)
    written = sorted(pictures.iterdir())
    assert len(written) == 3
    sheet = np.asarray(Image.open(written[0]))
    assert sheet.std() > 10 and sheet.shape[1] > 2 * sheet.shape[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.tif"], "There is no image file"),
        (["demo", "--url", "http://127.0.0.1:9"], "No service answers"),
        (["demo", "--url", "nonsense"], "No service answers"),
        (["SCENE", "--model", "absent.onnx"], "no model file"),
        (["SCENE", "--wait", "5"], "mapped here altogether"),
        (["SCENE", "--window", "100"], "power of two"),
        (["SCENE", "--by", "disagreement"], "second model"),
        (["MODEL"], "cannot be opened as a GeoTIFF"),
    ],
)
def test_the_command_says_what_is_wrong(
    demo_scene: Path, pixel_model: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"SCENE": str(demo_scene), "MODEL": str(pixel_model)}
    assert main(["review", *(names.get(word, word) for word in arguments)]) == 1
    assert words in capsys.readouterr().err


def test_imagery_of_a_box(service: Service) -> None:
    with service.client as client:
        west, south, east, north = client.get(f"/scenes/{service.scene}").json()["bounds"]
        address = f"/scenes/{service.scene}/imagery/bbox/{west},{south},{east},{north}.png"
        picture = client.get(f"{address}?max_size=128")
        assert picture.status_code == 200
        assert max(Image.open(io.BytesIO(picture.content)).size) == 128
        assert client.get(f"{address}?max_size=99999").status_code == 422
        assert client.get(f"/scenes/{service.scene}/imagery/bbox/0,0,0,1.png").status_code == 422
