"""A span for each request, around everything else; only there while traces are on."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landcover import tracing
from landcover_api.correlate import HEADER_NAME
from landcover_api.metrics import route_of
from landcover_api.paths import route_path

_TRACE_HEADERS = frozenset(name.encode() for name in tracing.CARRIER_HEADERS)
_SPARED = frozenset({"/healthz", "/readyz", "/metrics", "/queues"})
"""Asked every few seconds by machines: a span each would hide the others."""


class TraceMiddleware:
    """Goes on with the client's trace, or begins one. Queries are left out: they may hold signed addresses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or route_path(scope) in _SPARED:
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        known = {"http.request.method": method, "url.path": scope["path"]}
        parent = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _TRACE_HEADERS}
        with tracing.span(method, kind="server", attributes=known, parent=parent) as span:

            async def note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set("http.response.status_code", message["status"])
                    span.set("landcover.request_id", dict(message["headers"]).get(HEADER_NAME, b"").decode())
                await send(message)

            await self._app(scope, receive, note)
            route = route_of(scope)
            span.rename(f"{method} {route}")
            span.set("http.route", route)
