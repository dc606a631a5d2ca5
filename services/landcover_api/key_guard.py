"""What of the API needs a key, and the front through which every request goes when there are keys.

It stands before everything else, the short way of finished tiles included, so nothing can be reached around it, and
all that is not named here as open needs a key: a new route cannot be forgotten. Without keys it is not there at all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landcover.api_keys import Role
from landcover.errors import InvalidConfiguration
from landcover_api.api_keys import ApiKeySettings, KeyRing
from landcover_api.cross_origin import RawHeaders
from landcover_api.paths import route_path

logger = logging.getLogger(__name__)

QUERY_NAME = "api_key"
"""For clients that cannot send headers."""

OPEN_PATHS = frozenset(
    {
        "/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/conformance",  # the same for everyone
        "/healthz", "/readyz", "/metrics", "/queues",  # for a proxy to keep from outside: probes have no keys
    }
)  # fmt: skip
OPEN_FOLDERS = ("/assets/", "/static-offline-docs/")
"""Files of the map page and of /docs."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_STATISTICS = re.compile(r"/scenes/[^/]+/landcover/statistics")
"""Asked by POST, but changes nothing. It may begin a job, so it is never open."""

_QUERY = re.compile(rb"(?:^|&)" + QUERY_NAME.encode() + rb"=([^&]*)")
_VARY = (b"vary", b"Authorization, X-API-Key")
_REFUSAL = "landcover.refusal"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    detail: str
    challenge: str
    """RFC 6750's words for programs."""

    @property
    def response(self) -> JSONResponse:
        """As an answer."""
        challenge = 'Bearer realm="landcover-tiles"' + (self.challenge and f", {self.challenge}")
        headers = {"Cache-Control": "no-store", "WWW-Authenticate": challenge}
        return JSONResponse({"detail": self.detail}, self.status, headers)


_NO_KEY = Refusal(
    status=401,
    detail="This needs an API key: send the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY', or put api_key=KEY "
    "into the address where no header can be sent.",
    challenge="",
)
_UNKNOWN_KEY = Refusal(
    status=401,
    detail="This API key is not known here, or no longer; ask whoever runs this service for another.",
    challenge='error="invalid_token"',
)
_TWO_KEYS = Refusal(
    status=401, detail="The request has two different API keys; send one.", challenge='error="invalid_request"'
)


class KeyGuard:
    """Decides on requests."""

    def __init__(self, ring: KeyRing, *, reading_is_open: bool) -> None:
        self._ring = ring
        self._reading: Role | None = None if reading_is_open else "read"

    def need(self, method: str, path: str) -> Role | None:
        """What a key must allow for this request; None if none is needed."""
        if method in _READING:
            if self._reading is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
                return None
            return self._reading
        return "read" if _STATISTICS.fullmatch(path) else "write"

    def refusal(self, scope: Scope, need: Role) -> Refusal | None:
        """Why this request, which needs `need`, is not answered; None if it is."""
        presented = presented_keys(scope)
        if len(presented) != 1:
            return _TWO_KEYS if presented else _NO_KEY
        key = self._ring.find(presented.pop())
        if key is None:
            return _UNKNOWN_KEY
        if not key.may(need):
            return Refusal(
                status=403,
                detail=f"API key '{key.name}' may only read; this needs one whose role is {need}.",
                challenge=f'error="insufficient_scope", scope="{need}"',
            )
        if scope["method"] not in _READING:
            logger.info("%s %r with API key '%s'", scope["method"], scope["path"], key.name)
        return None


def make_guard(settings: ApiKeySettings) -> KeyGuard | None:
    """The guard that settings ask for; None without keys.

    Raises:
        InvalidConfiguration: the keys cannot be used, or are needed and not there.
    """
    if settings.given:
        return KeyGuard(KeyRing(settings), reading_is_open=settings.keys_for == "write")
    if settings.keys_for == "all":
        raise InvalidConfiguration(
            "LANDCOVER_API_KEYS_FOR=all needs keys: set LANDCOVER_API_KEYS or LANDCOVER_API_KEYS_FILE."
        )
    return None


def presented_keys(scope: Scope) -> set[bytes]:
    """The keys of a request, as bytes: what a client sends need not be text.

    Another scheme of Authorization is someone else's, a proxy's perhaps.
    """
    found = set()
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            found.add(value.strip())
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            found.add(value[7:].strip())
    found.update(unquote_to_bytes(value) for value in _QUERY.findall(scope["query_string"]))
    found.discard(b"")
    return found


class KeyFront:
    """Lets only those requests through that have the key they need, and keeps what they get out of shared caches."""

    def __init__(self, app: ASGIApp, *, guard: KeyGuard, around: Callable[[ASGIApp], ASGIApp]) -> None:
        """`around` puts a refusal inside what every other answer has: cross-origin rules, counting.

        A browser's preflight request, which never has a key, is answered there, too.
        """
        self._app = app
        self._guard = guard
        self._refused = around(_refuse)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        need = self._guard.need(scope["method"], route_path(scope)) if scope["type"] == "http" else None
        if need is None:
            await self._app(scope, receive, send)
            return
        if refusal := self._guard.refusal(scope, need):
            scope[_REFUSAL] = refusal
            await self._refused(scope, receive, send)
            return

        async def privately(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _private(message.get("headers", ()))
            await send(message)

        await self._app(scope, receive, privately)


def describe_keys(app: FastAPI, guard: KeyGuard) -> None:
    """Have the OpenAPI document say what needs a key, so that /docs has a button to give it."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _describe(plain(), guard)
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(document: dict[str, Any], guard: KeyGuard) -> None:
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "query": {"type": "apiKey", "in": "query", "name": QUERY_NAME},
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if need := guard.need(method.upper(), path):
                operation["security"] = [{"bearer": []}, {"header": []}, {"query": []}]
                operation["responses"]["401"] = {"description": f"It needs an API key whose role is {need}."}


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await scope[_REFUSAL].response(scope, receive, send)


def _private(headers: RawHeaders) -> RawHeaders:
    """The headers of an answer that is for whoever has a key."""
    kept = [(name, value) for name, value in headers if name != b"cache-control"]
    said = b", ".join(value for name, value in headers if name == b"cache-control")
    return [*kept, (b"cache-control", _private_control(said)), _VARY]


@lru_cache(maxsize=64)
def _private_control(said: bytes) -> bytes:
    """`Cache-Control` as it was, but for the client's own cache only."""
    words = [word.strip() for word in said.split(b",") if word.strip()]
    if b"no-store" in words:
        return said
    return b", ".join([b"private", *(word for word in words if word not in (b"public", b"private"))])
