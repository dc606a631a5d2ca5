"""How long browsers and CDNs keep tiles of a running service: for ever where nothing can change, not for long else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import morecantile
import pytest

from landcover_api.http_caching import FOR_EVER
from rasters import noise, write_tif
from running import Service, start_service

TMS = morecantile.tms.get("WebMercatorQuad")
WMTS = {"w": "http://www.opengis.net/wmts/1.0"}
LIMITED, REVALIDATED = "public, max-age=3600", "no-cache"


def tilejson(service: Service, **query: object) -> httpx.Response:
    with service.client as client:
        return client.get(f"/scenes/{service.scene}/landcover/WebMercatorQuad/tilejson.json", params=query)


def tile(service: Service, *, zoom: int = 17, **query: object) -> httpx.URL:
    """The address of a tile in the middle, as TileJSON has it."""
    document = tilejson(service, **query).json()
    at = TMS.tile(*document["center"][:2], zoom)
    return httpx.URL(document["tiles"][0].format(z=at.z, x=at.x, y=at.y))


def finished(client: httpx.Client, url: httpx.URL, **headers: str) -> httpx.Response:
    """The tile once its blocks are there; the address itself says nothing of waiting."""
    client.get(url.copy_merge_params({"wait": 60, "strict": True})).raise_for_status()
    return client.get(url, headers=headers)


def warm_tiles(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if 'requests_total{route="warm tile"' in line)


def test_an_address_of_tilejson_is_kept_for_ever(service: Service) -> None:
    """Whatever way it is answered, long or short, first or again."""
    document = tilejson(service, v="an old one")
    assert document.headers["cache-control"] == "no-cache"
    url = tile(service, v="an old one")
    assert len(url.params.get_list("v")) == 1
    with service.client as client:
        first = finished(client, url)
        before = warm_tiles(client)
        again = client.get(url)
        assert warm_tiles(client) == before + 1
        known = client.get(url, headers={"If-None-Match": again.headers["etag"]})
    assert (first.status_code, again.status_code, known.status_code) == (200, 200, 304)
    assert {each.headers["cache-control"] for each in (first, again, known)} == {FOR_EVER}
    assert first.content == again.content
    assert not known.content


@pytest.mark.parametrize("token", [None, "", "0123456789ab", "☃"], ids=["none", "empty", "old", "nonsense"])
def test_without_the_current_token_it_is_the_same_tile_but_not_for_ever(service: Service, token: str | None) -> None:
    url = tile(service)
    other = url.copy_remove_param("v") if token is None else url.copy_set_param("v", token)
    with service.client as client:
        current = finished(client, url)
        for _ in range(2):  # the long way, then the short
            answer = client.get(other)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == (LIMITED if token is None else REVALIDATED)
            assert answer.headers["etag"] == current.headers["etag"]
            assert answer.content == current.content


def test_an_unfinished_tile_is_never_kept_for_ever(service: Service) -> None:
    with service.client as client:
        pending = client.get(tile(service).copy_merge_params({"wait": 0}))
        assert int(pending.headers["landcover-pending"]) >= 1
        assert pending.headers["cache-control"] == "public, max-age=2"
        refused = client.get(tile(service).copy_merge_params({"wait": 0, "strict": True}))
        assert refused.status_code == 503
        assert refused.headers["cache-control"] == "no-store"


def test_wmts_names_the_token_too(service: Service) -> None:
    with service.client as client:
        url = f"/scenes/{service.scene}/landcover/WebMercatorQuad/WMTSCapabilities.xml"
        answer = client.get(url, params={"SERVICE": "WMTS", "model": "pixels"})
        assert answer.headers["cache-control"] == "no-cache"
        template = ElementTree.fromstring(answer.content).find(".//w:ResourceURL", WMTS).attrib["template"]
    query = httpx.URL(template).params
    assert dict(query) == {"model": "pixels", "v": tile(service, model="pixels").params["v"]}
    assert query["v"] != tile(service).params["v"], "another model, another token"


def test_head_tells_what_get_would(service: Service) -> None:
    with service.client as client:
        for url in (tile(service), tile(service, layer="confidence")):
            get = finished(client, url)
            for _ in range(2):
                head = client.head(url)
                assert head.status_code == 200
                assert not head.content
                told, expected = (
                    {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
                    for answer in (head, get)
                )
                assert told == expected


def test_the_short_way_says_what_the_long_way_says(service: Service) -> None:
    origin = {"Origin": "https://example.org"}
    with service.client as client:
        for headers in (origin, {}):
            url = tile(service, classes=f"1,{2 + len(headers)}")  # not asked for before
            long = client.get(url.copy_merge_params({"wait": 60, "strict": True}), headers=headers)
            before = warm_tiles(client)
            short = client.get(url.copy_merge_params({"wait": 60, "strict": True}), headers=headers)
            assert warm_tiles(client) == before + 1
            for each in (long, short):
                del each.headers["date"]
            assert short.headers.pop("x-request-id") != long.headers.pop("x-request-id")
            assert dict(short.headers) == dict(long.headers)
            assert short.headers["access-control-allow-origin"] == "*"
            assert short.headers["x-content-type-options"] == "nosniff"
            assert "vary" not in short.headers, "a cache keeps one answer for all"


@pytest.fixture
def own_image(tmp_path: Path) -> Path:
    return write_tif(tmp_path / "own.tif", noise(512, 512, seed=1))


@pytest.fixture
def own(own_image: Path, pixel_model: Path, tmp_path: Path) -> Iterator[Service]:
    running = start_service(tmp_path / "service", scenes=[own_image], models=[pixel_model])
    yield running
    running.processes.stop()


def test_a_replaced_image_has_new_addresses(own: Service, own_image: Path) -> None:
    """The old address shows the new image, and is no longer kept for ever."""
    old = tile(own)
    with own.client as client:
        before = finished(client, old)
        assert before.headers["cache-control"] == FOR_EVER
        assert client.get(old).content == before.content
        write_tif(own_image.with_suffix(".new"), noise(512, 512, seed=2))
        own_image.with_suffix(".new").replace(own_image)
        new = tile(own)
        assert new.params["v"] != old.params["v"]
        after = finished(client, new)
        assert after.headers["cache-control"] == FOR_EVER
        assert after.content != before.content
        for _ in range(2):
            again = client.get(old, headers={"If-None-Match": before.headers["etag"]})
            assert again.status_code == 200
            assert again.headers["cache-control"] == REVALIDATED
            assert again.content == after.content
