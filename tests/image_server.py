"""A small HTTP server with ranges, ETags and, on demand, the faults of real ones."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

Fault = Literal["silent", "status 500", "half the body"]


class ImageServer:
    """Serves `files`; `fault` spoils every answer to a GET that asks for more than one byte."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        """Decoded path → content and ETag."""
        self.fault: Fault | None = None
        self.silent = False
        """Whether even the first byte is withheld."""
        self.query: str | None = None
        """The query without which nothing is given, as a signed address has one."""
        self.requests: list[str] = []
        self.stopping = threading.Event()
        self.url = ""


@contextmanager
def image_server() -> Iterator[ImageServer]:
    """A server on a free port until the body ends."""
    state = ImageServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(head=True)

        def do_GET(self) -> None:
            self.answer(head=False)

        def answer(self, *, head: bool) -> None:
            state.requests.append(self.path)
            url = urlsplit(self.path)
            content, etag = state.files.get(unquote(url.path), (None, ""))
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            fault = state.fault if not head and (span is None or span[0] != "bytes=0-0") else None
            if state.silent or fault == "silent":
                state.stopping.wait(30)
                self.close_connection = True
                return
            if content is None or (state.query is not None and url.query != state.query) or fault == "status 500":
                self.send_response(500 if fault else 404 if content is None else 403)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content
            self.send_response(206 if span else 200)
            if span:
                first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
                body = content[first : last + 1]
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", etag)
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if not head:
                self.wfile.write(body[: len(body) // 2] if fault else body)
            self.close_connection = self.close_connection or fault is not None

        def handle(self) -> None:
            with suppress(OSError):  # the client went away
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stopping.set()
        server.shutdown()
        server.server_close()
