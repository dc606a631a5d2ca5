"""A small server that speaks as much of S3 as an upload and a ranged download need."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class S3Server:
    """Objects by `bucket/key`."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        """Content-Type of each object."""
        self.order: list[str] = []
        """Names of the objects in the order in which they became whole."""
        self.parts: dict[str, dict[int, bytes]] = {}
        """Uploads that are neither complete nor aborted."""
        self.refuse = False
        """Whether every write is forbidden."""
        self.url = ""


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server on a free port until the body ends."""
    state = S3Server()
    types: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            name, query, body = self.asked()
            if state.refuse:
                self.reply(403, b"<Error><Code>AccessDenied</Code></Error>")
                return
            if "uploadId" in query:
                state.parts[query["uploadId"][0]][int(query["partNumber"][0])] = body
            else:
                self.keep(name, body, self.headers.get("Content-Type") or "")
            self.reply(200, b"", etag=hashlib.md5(body).hexdigest())

        def do_POST(self) -> None:
            name, query, _ = self.asked()
            if state.refuse:
                self.reply(403, b"<Error><Code>AccessDenied</Code></Error>")
            elif "uploads" in query:
                upload = f"upload-{len(types)}"
                state.parts[upload], types[upload] = {}, self.headers.get("Content-Type") or ""
                self.reply(200, f"<R><UploadId>{upload}</UploadId></R>".encode())
            else:
                upload = query["uploadId"][0]
                parts = state.parts.pop(upload)
                self.keep(name, b"".join(parts[number] for number in sorted(parts)), types[upload])
                self.reply(200, b"<R><ETag>whole</ETag></R>")

        def do_DELETE(self) -> None:
            _, query, _ = self.asked()
            state.parts.pop(query.get("uploadId", [""])[0], None)
            self.reply(204, b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            name, _, _ = self.asked()
            content = state.objects.get(name)
            if content is None:
                self.reply(404, b"")
                return
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if span:
                first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
                self.reply(206, content[first : last + 1], span=f"bytes {first}-{last}/{len(content)}")
            else:
                self.reply(200, content)

        def keep(self, name: str, body: bytes, media_type: str) -> None:
            state.objects[name], state.types[name] = body, media_type
            state.order.append(name)

        def asked(self) -> tuple[str, dict[str, list[str]], bytes]:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return unquote(url.path).lstrip("/"), parse_qs(url.query, keep_blank_values=True), body

        def reply(self, status: int, body: bytes, *, etag: str = "x", span: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{etag}"')
            self.send_header("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
            if span:
                self.send_header("Content-Range", span)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def handle(self) -> None:
            with suppress(OSError):  # the client went away
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
