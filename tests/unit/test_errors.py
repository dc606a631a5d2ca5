"""Errors travel through the cache by name, and each has an HTTP status."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from redis.exceptions import ConnectionError as RedisConnectionError
from rio_tiler.errors import TileOutsideBounds

from landcover import errors
from landcover_api.errors import add_exception_handlers, status_of


def every_error() -> list[type[errors.LandcoverError]]:
    found, todo = [], [errors.LandcoverError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return sorted((kind for kind in found if kind.__module__ == errors.__name__), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_itself(kind: type[errors.LandcoverError]) -> None:
    back = errors.from_code(kind("a sentence").code, "a sentence")
    assert type(back) is kind
    assert str(back) == "a sentence"


def test_an_unknown_name_is_a_failed_block() -> None:
    """A newer worker may know errors that this process does not."""
    assert type(errors.from_code("FromTheFuture", "why")) is errors.BlockFailed
    assert type(errors.from_code("ValueError", "why")) is errors.BlockFailed


def test_the_docstring_draws_the_whole_tree() -> None:
    assert errors.__doc__
    missing = [kind.__name__ for kind in every_error() if kind.__name__ not in errors.__doc__]
    assert missing == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InvalidRequest, 422), (errors.SceneTooCoarse, 422), (errors.RequestTooLarge, 413),
        (errors.SceneNotFound, 404), (errors.ModelNotFound, 404), (errors.SceneUnsupported, 422),
        (errors.SceneUnreadable, 502), (errors.SceneTooSlow, 504), (errors.SceneChanged, 409),
        (errors.BlockFailed, 502), (errors.Unavailable, 503), (errors.Pending, 503), (errors.InvalidModel, 500),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_status(kind: type[errors.LandcoverError], status: int) -> None:
    """As the design's section 9 has them."""
    assert status_of(kind("x")) == status


@pytest.mark.parametrize(
    ("raised", "status", "sentence"),
    [
        (errors.Pending("ask again."), 503, "ask again."),
        (errors.SceneUnreadable("it is broken."), 502, "it is broken."),
        (RedisConnectionError("redis://secret@host refused"), 503, "The cache is not reachable"),
        (TileOutsideBounds("tile outside"), 404, "tile outside"),
        (HTTPException(404), 404, "There is nothing at this address"),
        (HTTPException(418, "teapot", {"X-Kind": "pot"}), 418, "teapot"),
        (KeyError("internal detail"), 500, "The server failed on this request"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_every_error_is_answered_with_a_sentence(raised: Exception, status: int, sentence: str) -> None:
    app = FastAPI()
    add_exception_handlers(app)

    @app.get("/")
    async def fail(number: int = 0) -> None:
        raise raised

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/")
        invalid = await client.get("/", params={"number": "many"})
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(sentence)
    assert "secret" not in answer.text
    assert "internal detail" not in answer.text
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert invalid.status_code == 422
    assert invalid.json()["detail"].startswith("number: ")
    assert "'many'" in invalid.json()["detail"]
