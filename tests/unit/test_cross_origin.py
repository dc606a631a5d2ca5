"""Which pages may read answers: an answer that a cache keeps must be right for whoever gets it next."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI, Response
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from landcover.settings import CatalogSettings, DatabaseSettings
from landcover_api.app import create_app
from landcover_api.cross_origin import CrossOrigin, CrossOriginMiddleware
from rasters import noise, write_tif

HERE, THERE = "https://maps.example.org", "https://elsewhere.example.org"


def client(*origins: str) -> TestClient:
    app = FastAPI()
    app.add_middleware(CrossOriginMiddleware, policy=CrossOrigin(origins=origins, exposed=("ETag", "Retry-After")))

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    @app.get("/varied")
    async def varied() -> Response:
        return Response("varied", headers={"Vary": "Accept"})

    return TestClient(app)


@pytest.mark.parametrize("headers", [{}, {"Origin": HERE}], ids=["no origin", "an origin"])
def test_where_anyone_may_read_every_answer_says_so(headers: dict[str, str]) -> None:
    for path, vary in (("/plain", None), ("/varied", "Accept"), ("/nowhere", None)):
        answer = client("*").get(path, headers=headers)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-expose-headers"] == "ETag, Retry-After"
        assert answer.headers.get("vary") == vary


def test_where_only_some_may_read_every_answer_varies() -> None:
    some = client(HERE)
    allowed = some.get("/varied", headers={"Origin": HERE})
    assert allowed.headers["access-control-allow-origin"] == HERE
    assert allowed.headers["vary"] == "Accept, Origin"
    for headers in ({}, {"Origin": THERE}):
        refused = some.get("/plain", headers=headers)
        assert "access-control-allow-origin" not in refused.headers
        assert refused.headers["vary"] == "Origin"


@pytest.mark.parametrize(("origin", "status"), [(HERE, 200), (THERE, 400)])
def test_preflight_requests_are_answered(origin: str, status: int) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "if-match"}
    answer = client(HERE).options("/plain", headers=asked)
    assert answer.status_code == status
    assert answer.headers["access-control-max-age"] == "86400"
    if status == 200:
        assert answer.headers["access-control-allow-origin"] == HERE
        assert answer.headers["access-control-allow-headers"] == "if-match"


def test_the_answer_to_a_fault_of_ours_has_the_headers_of_any_other(tmp_path: Path) -> None:
    """Else a map page is told of cross-origin rules, not of the fault."""
    app = create_app(
        catalog=CatalogSettings(scenes=(str(write_tif(tmp_path / "a.tif", noise(64, 64), crs="EPSG:32654")),)),
        database=DatabaseSettings(database_url=f"sqlite:///{tmp_path / 'a.sqlite'}"),
    )

    @app.get("/fault")
    async def fault() -> None:
        raise KeyError("of ours")

    answers = TestClient(app, raise_server_exceptions=False)
    failed, missing = (answers.get(path, headers={"Origin": HERE}) for path in ("/fault", "/nowhere"))
    assert (failed.status_code, missing.status_code) == (500, 404)
    for name in ("access-control-allow-origin", "access-control-expose-headers", "x-content-type-options"):
        assert failed.headers[name] == missing.headers[name]
    counted = REGISTRY.get_sample_value("landcover_api_requests_total", {"route": "/fault", "status": "500"})
    assert counted == 1
