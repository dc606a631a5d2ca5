"""Each request has an id, the client's own or a new one; it is given back, and in every log line that is about it.

Finished tiles are answered before this (`warm`), which gives their id back itself: nothing is logged of them.
"""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landcover.correlation import HEADER, is_sane, new_id, working_for

logger = logging.getLogger(__name__)

HEADER_NAME = HEADER.lower().encode()


class CorrelateMiddleware:
    """Takes a client's `X-Request-ID` if it is sane, or makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = id_for(next((value for name, value in scope["headers"] if name == HEADER_NAME), None))
        begin = time.perf_counter()
        status = 500

        async def name_answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER_NAME, request.encode())]
            await send(message)

        with working_for(request):
            try:
                await self._app(scope, receive, name_answer)
            finally:
                took_ms = (time.perf_counter() - begin) * 1000
                logger.debug("%s %s: %d in %.1f ms", scope["method"], scope["path"], status, took_ms)


def id_for(header: bytes | None) -> str:
    """The id of a request that came with this header."""
    if header is None:
        return new_id()
    text = header.decode("latin-1")
    return text if is_sane(text) else new_id()
