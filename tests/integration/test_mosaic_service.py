"""A mosaic served: the same land cover, areas and pictures as of the one image it was cut from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from landcover.catalog import demo_model_path
from mosaics import cut
from rasters import noise, write_tif
from running import Service, start_service

SIDE = 1000
"""Four blocks, whose windows cross every border."""


@pytest.fixture(scope="module")
def service(demo_scene: Path, pixel_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("mosaic")
    with rasterio.open(demo_scene) as image:
        pixels = np.moveaxis(image.read(window=((0, SIDE), (0, SIDE))), 0, -1)
        place = {"crs": image.crs.to_string(), "transform": image.transform}
    whole = write_tif(folder / "whole.tif", pixels, **place)
    cut(folder / "parts", pixels, rows=(333, 700), cols=(411, 900), overlap=7, overviews=(2, 4), **place)
    catalogue = folder / "catalogue.yaml"
    catalogue.write_text(
        "scenes:\n  - id: listed\n    mosaic:\n      images: [parts/0*.tif, parts/1*.tif, parts/2*.tif]\n"
    )
    started = start_service(
        folder,
        scenes=[whole, f"mosaic:{folder / 'parts'}", catalogue],
        models=[demo_model_path(), pixel_model],
        LANDCOVER_READ_INDEX_FOLDER=str(folder / "index"),
    )
    yield started
    started.processes.stop()


def finished_map(client: httpx.Client, scene: str, bounds: list[float], model: str) -> httpx.Response:
    """The map of a box, asked for until every block of it is made."""
    west, south, east, north = bounds
    for _ in range(10):
        answer = client.get(
            f"/scenes/{scene}/landcover/bbox/{west},{south},{east},{north}.tif",
            params={"wait": 60, "model": model, "max_size": 1024, "strict": True},
        )
        if answer.status_code == 200:
            return answer
    raise AssertionError(answer.text)


@pytest.mark.parametrize("scene", ["parts", "listed"])
@pytest.mark.parametrize("model", ["pixels", "demo"])
def test_the_map_and_the_areas_are_those_of_one_image(service: Service, scene: str, model: str) -> None:
    """Of a model that looks at each pixel alone, and of one that looks far around it."""
    maps, areas = [], []
    with service.client as client:
        name = next(each["name"] for each in client.get("/models").json()["models"] if model in each["name"])
        whole = client.get("/scenes/whole").json()
        assert client.get(f"/scenes/{scene}").json()["bounds"] == whole["bounds"]
        west, south, east, north = whole["bounds"]
        box = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        for each in ("whole", scene):
            answer = finished_map(client, each, whole["bounds"], name)
            with MemoryFile(answer.content) as file, file.open() as image:
                maps.append(image.read(1))
            answer = client.post(
                f"/scenes/{each}/landcover/statistics",
                params={"wait": 60, "model": name},
                content=json.dumps({"type": "Polygon", "coordinates": [box]}),
            )
            assert answer.status_code == 200, answer.text
            areas.append(answer.json()["properties"]["statistics"]["classes"])
    assert len(np.unique(maps[0])) > 4
    assert np.array_equal(*maps)
    assert areas[0] == areas[1]


def test_pictures_near_and_far(service: Service) -> None:
    with service.client as client:
        info = client.get("/scenes/parts/imagery/info").json()
        assert (info["width"], info["height"], info["count"]) == (SIDE, SIDE, 3)
        pictures = []
        for scene in ("whole", "parts"):
            answer = client.get(f"/scenes/{scene}/imagery/preview.tif", params={"max_size": 512})
            assert answer.status_code == 200, answer.text
            with MemoryFile(answer.content) as file, file.open() as image:
                pictures.append(image.read())
        assert pictures[0].shape == pictures[1].shape
        assert (pictures[1][3] == 255).all()
        assert np.abs(pictures[0][:3].astype(int) - pictures[1][:3]).mean() < 16  # nearest against averages
        west, _, east, north = client.get("/scenes/parts").json()["bounds"]
        assert client.get(f"/scenes/parts/imagery/point/{(west + east) / 2},{north + 1}").status_code in {400, 404}


def test_a_replaced_image_is_seen(service: Service) -> None:
    """Workers find out first; their word has the API look again."""
    with service.client as client:
        before = client.get("/scenes/parts").json()
        part = Path(json.loads(service.env["LANDCOVER_SCENES"])[1].removeprefix("mosaic:")) / "11.tif"
        with rasterio.open(part) as image:
            shape, profile = image.shape, {"crs": image.crs.to_string(), "transform": image.transform}
        write_tif(part, noise(*shape, seed=4), **profile)
        service.forget()
        finished_map(client, "parts", before["bounds"], "pixels")
        assert client.get("/scenes/parts").json()["version"] != before["version"]
