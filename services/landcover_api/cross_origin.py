"""Which other sites' pages may read an answer (CORS), said so that shared caches cannot get it wrong.

Starlette's middleware says `Access-Control-Allow-Origin` only to requests that name an origin. A browser, or a CDN that
heeds no `Vary`, then keeps the answer to one that named none (an `<img>`, a desktop GIS), and gives it to a page that
needs the header. Where any origin may read, every answer therefore says so, and none varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Send

RawHeaders = list[tuple[bytes, bytes]]

METHODS = ("GET", "POST", "PUT", "DELETE")
PREFLIGHT_MAX_AGE_S = 86400


@dataclass(frozen=True, kw_only=True)
class CrossOrigin:
    """Who may read answers, and which of their headers."""

    origins: tuple[str, ...]
    """`*` for anyone."""
    exposed: Sequence[str]
    """Headers that scripts may read."""

    def headers(self, origin: str | None) -> RawHeaders:
        """For an answer to a request with this `Origin`."""
        if "*" in self.origins:
            return self._for_all
        if origin is None or origin not in self.origins:
            return [(b"vary", b"Origin")]
        return [(b"access-control-allow-origin", origin.encode("latin-1")), self._expose, (b"vary", b"Origin")]

    @cached_property
    def _for_all(self) -> RawHeaders:
        return [(b"access-control-allow-origin", b"*"), self._expose]

    @cached_property
    def _expose(self) -> tuple[bytes, bytes]:
        return b"access-control-expose-headers", ", ".join(self.exposed).encode()


class CrossOriginMiddleware(CORSMiddleware):
    """Starlette's for preflight requests; our headers on all other answers."""

    def __init__(self, app: ASGIApp, *, policy: CrossOrigin) -> None:
        super().__init__(
            app,
            allow_origins=policy.origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            max_age=PREFLIGHT_MAX_AGE_S,
        )
        self._policy = policy

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        """Pass on a message of the application's answer."""
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *self._policy.headers(request_headers.get("origin"))]
        await send(message)
