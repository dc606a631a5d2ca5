"""Errors → HTTP status, in one table; every answer is `{"detail": "a sentence that says what to do"}`."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from rio_tiler.errors import PointOutsideBounds, RioTilerError, TileOutsideBounds
from starlette.exceptions import HTTPException

from landcover import errors

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 2

STATUS: dict[type[errors.LandcoverError], int] = {
    errors.InvalidRequest: 422,
    errors.RequestTooLarge: 413,
    errors.AccessDenied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.SceneUnsupported: 422,
    errors.SceneUnreadable: 502,
    errors.SceneTooSlow: 504,
    errors.SceneChanged: 409,
    errors.BlockFailed: 502,
    errors.DestinationUnwritable: 507,
    errors.ProductUnreadable: 502,
    errors.Busy: 429,
    errors.Unavailable: 503,
    errors.LandcoverError: 500,
}
"""The nearest ancestor counts."""


def status_of(error: errors.LandcoverError) -> int:
    """The HTTP status of an error, by its nearest ancestor in `STATUS`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def add_exception_handlers(app: FastAPI) -> None:
    """Answer every error, ours or not, with a sentence and without a traceback."""

    @app.exception_handler(errors.LandcoverError)
    async def expected(_: Request, error: errors.LandcoverError) -> JSONResponse:
        return _answer(status_of(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(422, "; ".join(_sentence(fault) for fault in error.errors()))

    @app.exception_handler(RioTilerError)
    async def imagery(_: Request, error: RioTilerError) -> JSONResponse:
        outside = isinstance(error, (TileOutsideBounds, PointOutsideBounds))
        return _answer(404 if outside else 422, str(error))

    @app.exception_handler(RedisError)
    async def cache_away(_: Request, error: RedisError) -> JSONResponse:
        logger.warning("the cache or broker is away: %s", error)
        return _answer(503, "The cache is not reachable at the moment; try again in a few seconds.")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else {}
        detail = str(error.detail)
        if error.status_code == 404 and detail == "Not Found":
            detail = "There is nothing at this address; GET /docs lists what there is."
        return JSONResponse({"detail": detail}, error.status_code, headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("unexpected error at %s", request.url.path, exc_info=error)
        return _answer(500, "The server failed on this request; its log has the reason.")


def _answer(status: int, detail: str) -> JSONResponse:
    headers = {"Cache-Control": "no-store"}
    if status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return JSONResponse({"detail": detail}, status, headers)


def _sentence(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"][1:]) or "request"
    return f"{where}: {fault['msg']} (got {fault.get('input')!r})"[:300]
