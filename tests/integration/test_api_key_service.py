"""A running service that needs a key for everything: its short way, its documents, its caches, its commands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import morecantile
import pytest

from landcover import cli
from landcover.api_keys import keep, new_key
from landcover.service_client import KEY_VARIABLE
from running import Service, start_service

READER, WRITER = new_key(), new_key()
TMS = morecantile.tms.get("WebMercatorQuad")
WMTS = {"w": "http://www.opengis.net/wmts/1.0"}


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "api-keys"
    path.write_text(f"{keep(READER, 'kiosk', 'read').line}\n{keep(WRITER, 'alice', 'write').line}\n")
    return path


@pytest.fixture(scope="module")
def closed(
    demo_scene: Path, pixel_model: Path, keys_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("closed")
    running = start_service(
        folder,
        scenes=[demo_scene],
        models=[pixel_model],
        api_key=READER,
        LANDCOVER_API_KEYS_FILE=str(keys_file),
        LANDCOVER_API_KEYS_FOR="all",
        LANDCOVER_PRODUCTS=str(folder / "products"),
    )
    yield running
    running.processes.stop()


def warm_tiles(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if 'requests_total{route="warm tile"' in line)


def middle(template: str, bounds: list[float]) -> httpx.URL:
    """The address of a tile in the middle."""
    west, south, east, north = bounds
    at = TMS.tile((west + east) / 2, (south + north) / 2, 17)
    return httpx.URL(template.format(z=at.z, x=at.x, y=at.y))


def finished_tile(client: httpx.Client) -> httpx.URL:
    """The address of a finished tile, as TileJSON has it."""
    headers = {"X-API-Key": READER}
    document = client.get("/scenes/demo/landcover/WebMercatorQuad/tilejson.json", headers=headers).json()
    url = middle(document["tiles"][0], document["bounds"])
    client.get(url.copy_merge_params({"wait": 60, "strict": True}), headers=headers).raise_for_status()
    return url


def test_the_short_way_needs_a_key_and_says_what_the_long_way_says(closed: Service) -> None:
    with closed.client as client:
        url = finished_tile(client)
        long = client.get(url, headers={"X-API-Key": READER})
        before = warm_tiles(client)
        for headers in ({}, {"X-API-Key": READER + "x"}, {"X-API-Key": ""}, {"If-None-Match": long.headers["etag"]}):
            refused = client.get(url, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["access-control-allow-origin"] == "*"
            assert client.head(url, headers=headers).status_code == 401
        assert warm_tiles(client) == before
        short = client.get(url, headers={"Authorization": f"Bearer {WRITER}"})
        known = client.get(url, headers={"X-API-Key": READER, "If-None-Match": long.headers["etag"]})
        assert warm_tiles(client) == before + 2
    assert (long.status_code, short.status_code, known.status_code) == (200, 200, 304)
    assert short.content == long.content
    for answer in (long, short, known):
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Authorization, X-API-Key"
    for answer in (long, short):
        del answer.headers["date"], answer.headers["x-request-id"]
    assert dict(short.headers) == dict(long.headers)


def test_documents_carry_a_key_on_only_if_it_came_in_the_address(closed: Service) -> None:
    land_cover = "/scenes/demo/landcover/WebMercatorQuad"
    documents = (f"{land_cover}/tilejson.json", "/scenes/demo/imagery/WebMercatorQuad/tilejson.json")
    with closed.client as client:
        for path in documents:
            for address, headers in ((f"{path}?api_key={READER}", {}), (path, {"X-API-Key": READER})):
                answer = client.get(address, headers=headers)
                assert answer.headers["cache-control"].startswith("private")
                tile = middle(answer.json()["tiles"][0], answer.json()["bounds"])
                assert tile.params.get("api_key") == (None if headers else READER)
                assert client.get(tile).status_code == (401 if headers else 200)
        capabilities = client.get(f"{land_cover}/WMTSCapabilities.xml?api_key={READER}")
        template = ElementTree.fromstring(capabilities.content).find(".//w:ResourceURL", WMTS).attrib["template"]
        assert httpx.URL(template).params["api_key"] == READER
        assert READER not in client.get(f"{land_cover}/WMTSCapabilities.xml", headers={"X-API-Key": READER}).text
        page = client.get(f"{land_cover}/map.html?api_key={READER}")
        assert httpx.URL(page.headers["location"]).params["api_key"] == READER
        assert "?" not in client.get(f"{land_cover}/map.html", headers={"X-API-Key": READER}).headers["location"]


def test_errors_and_events_do_not_repeat_a_key(closed: Service) -> None:
    with closed.client as client:
        for path in ("/nowhere", "/scenes/x", "/scenes/demo/landcover/bbox/a,b,c,d.png", "/jobs?limit=0"):
            answer = client.get(path, params={"api_key": READER, "limit": "0"})
            assert answer.status_code in (404, 422)
            assert READER not in answer.text
            assert answer.headers["cache-control"] in ("no-store", "private")


def test_keys_are_exchanged_while_it_runs(closed: Service, keys_file: Path) -> None:
    former, other = keys_file.read_text(), new_key()
    try:
        with closed.client as client:
            assert client.get("/models", headers={"X-API-Key": other}).status_code == 401
            keys_file.write_text(f"{former}{keep(other, 'kiosk', 'read').line}\n")
            wait_for_status(client, other, 200)
            assert client.get("/models", headers={"X-API-Key": READER}).status_code == 200
            keys_file.write_text(keep(other, "kiosk", "read").line)
            wait_for_status(client, READER, 401)
            assert client.get("/models", headers={"X-API-Key": other}).status_code == 200
    finally:
        keys_file.write_text(former)
        with closed.client as client:
            wait_for_status(client, READER, 200)


def wait_for_status(client: httpx.Client, key: str, status: int) -> None:
    until_s = time.monotonic() + 30
    while client.get("/models", headers={"X-API-Key": key}).status_code != status:
        assert time.monotonic() < until_s
        time.sleep(0.1)


def test_commands_send_the_key_they_are_given(
    closed: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closed.client as client:
        west, south, east, north = client.get("/scenes/demo", headers={"X-API-Key": READER}).json()["bounds"]
    x, y = (west + east) / 2, (south + north) / 2
    ring = [[x, y], [x + 1e-4, y], [x + 1e-4, y + 1e-4], [x, y]]
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    out = tmp_path / "map.tif"
    stats = ["stats", "demo", "--geometry", str(area), "--url", closed.url, "--format", "json"]
    mapped = ["map", "demo", "--out", str(out), "--bbox", f"{x},{y},{x + 1e-4},{y + 1e-4}", "--url", closed.url]

    assert cli.main([*stats, "--skip-refused"]) == 1
    assert "needs an API key" in (said := capsys.readouterr().err)
    assert KEY_VARIABLE in said
    monkeypatch.setenv(KEY_VARIABLE, f"{READER}\n")
    assert cli.main(stats) == 0
    assert json.loads(capsys.readouterr().out)["complete"]
    assert cli.main(mapped) == 1
    assert "'kiosk' may only read" in capsys.readouterr().err
    assert cli.main([*mapped, "--api-key", WRITER]) == 0
    assert out.read_bytes()[:2] == b"II"
    assert cli.main([*stats, "--api-key", "not one at all"]) == 1
    said = capsys.readouterr().err
    assert "copy it once more" in said
    assert "not one at all" not in said
