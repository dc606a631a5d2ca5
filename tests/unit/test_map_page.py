"""The map page and its assets over HTTP."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from landcover_api.http_caching import FOR_EVER
from landcover_api.map_page import map_page_router


@pytest.fixture(scope="module")
def page_client() -> TestClient:
    app = FastAPI()
    app.include_router(map_page_router())
    return TestClient(app)


def test_page_is_revalidated_and_its_assets_are_kept(page_client: TestClient) -> None:
    page = page_client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    assert page_client.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) >= 4
    for address in addresses:
        assert re.match(r"assets/[0-9a-f]{16}/", address), "an asset outside the release's folder"
        asset = page_client.get(f"/{address}")
        assert asset.status_code == 200, address
        assert asset.headers["cache-control"] == FOR_EVER
        again = page_client.get(f"/{address}", headers={"If-None-Match": asset.headers["etag"]})
        assert again.status_code == 304
        assert not again.content


def test_assets_are_the_same_bytes_with_and_without_compression(page_client: TestClient) -> None:
    release = re.search(r"assets/(\w+)/", page_client.get("/").text)
    assert release
    path = f"/assets/{release[1]}/vendor/maplibre-gl/maplibre-gl.mjs"
    plain = page_client.get(path, headers={"Accept-Encoding": "identity"})
    zipped = page_client.get(path, headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert zipped.content == plain.content
    assert zipped.headers["etag"] != plain.headers["etag"]


def test_assets_of_another_release_are_not_kept(page_client: TestClient) -> None:
    assert page_client.get("/assets/0123456789abcdef/viewer.js").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["nothing.js", "../map_page.py", "%2e%2e/map_page.py", "vendor/README.md", ""])
def test_nothing_but_assets_is_served(page_client: TestClient, path: str) -> None:
    answer = page_client.get(f"/assets/x/{path}")
    assert answer.status_code == 404


def test_vendored_library_is_the_version_its_readme_names() -> None:
    vendor = files("landcover_api") / "viewer" / "vendor"
    named = re.match(r"maplibre-gl (\S+),", (vendor / "README.md").read_text())
    assert named
    for module in ("maplibre-gl.mjs", "maplibre-gl-worker.mjs"):
        assert f"/v{named[1]}/LICENSE.txt" in (vendor / "maplibre-gl" / module).read_text()[:500]


def test_policy_allows_this_origin_only(page_client: TestClient) -> None:
    policy = page_client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    for loophole in ("unsafe", "http:", "https:", "*", "blob:"):
        assert loophole not in policy
