"""A small server of one S3 bucket for reading: signed requests only, ranges, and listings in pages."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 2
"""Objects of one answer to a listing."""


class Bucket:
    """Objects by key; every request but those of an open bucket must be signed with `key`."""

    def __init__(self) -> None:
        self.name = "images"
        self.objects: dict[str, bytes] = {}
        self.open = False
        self.requests: list[str] = []
        self.host = ""

    @property
    def url(self) -> str:
        """What `AWS_ENDPOINT_URL` says."""
        return f"http://{self.host}"


@contextmanager
def s3_bucket() -> Iterator[Bucket]:
    """A bucket at a free port until the body ends."""
    bucket = Bucket()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            bucket.requests.append(self.path)
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            name, _, key = unquote(url.path).lstrip("/").partition("/")
            signed = "Credential=key/" in (self.headers.get("Authorization") or "")
            if name != bucket.name:
                self.reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            elif signed == bucket.open:
                self.reply(403, b"<Error><Code>AccessDenied</Code></Error>")
            elif not key:
                self.reply(200, self.listing(query).encode())
            elif key not in bucket.objects:
                self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                self.give(bucket.objects[key])

        def give(self, content: bytes) -> None:
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if span is None:
                self.reply(200, content, etag=etag_of(content))
                return
            first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
            self.reply(
                206, content[first : last + 1], etag=etag_of(content), span=f"bytes {first}-{last}/{len(content)}"
            )

        def listing(self, query: dict[str, str]) -> str:
            keys = sorted(key for key in bucket.objects if key.startswith(query.get("prefix", "")))
            keys = [key for key in keys if key > query.get("continuation-token", "")]
            page, more = keys[:PAGE], len(keys) > PAGE
            contents = "".join(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-10-21T07:28:00.345Z</LastModified>"
                f"<ETag>&quot;{etag_of(bucket.objects[key])}&quot;</ETag><Size>{len(bucket.objects[key])}</Size></Contents>"
                for key in page
            )
            token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
            return (
                '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
            )

        def reply(self, status: int, body: bytes, *, etag: str = "", span: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
            self.send_header("Accept-Ranges", "bytes")
            if etag:
                self.send_header("ETag", f'"{etag}"')
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
    bucket.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def etag_of(content: bytes) -> str:
    """As S3 makes it."""
    return hashlib.md5(content).hexdigest()
