"""A command's API key goes to the service that it is for, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from landcover.api_keys import new_key
from landcover.errors import AccessDenied
from landcover.service_client import ServiceClient

KEY = new_key()


class Recorder:
    """A server that writes down the key of each request, and sends on who asks for /elsewhere."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.elsewhere = ""
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder.seen.append((self.path, self.headers["Authorization"]))
                away = self.path == "/elsewhere"
                self.send_response(302 if away else 401 if self.path == "/closed" else 200)
                if away:
                    self.send_header("Location", recorder.elsewhere)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def recorders() -> Iterator[tuple[Recorder, Recorder]]:
    pair = Recorder(), Recorder()
    threads = [threading.Thread(target=each.server.serve_forever, args=(0.01,)) for each in pair]
    for thread in threads:
        thread.start()
    yield pair
    for each, thread in zip(pair, threads, strict=True):
        each.server.shutdown()
        thread.join()
        each.server.server_close()


def test_a_key_goes_to_its_own_service_alone(recorders: tuple[Recorder, Recorder], tmp_path: Path) -> None:
    own, other = recorders
    own.elsewhere = f"{other.url}/redirected"
    client = ServiceClient(url=f"{own.url}/", api_key=KEY)
    client.request("/scenes")
    client.request(f"{own.url}/jobs/1")
    client.download(f"{own.url}/file", tmp_path / "file", lambda _: None)
    client.request("/elsewhere")
    client.request(f"{other.url}/linked")
    client.download(f"{other.url}/file", tmp_path / "file", lambda _: None)
    assert own.seen == [(path, f"Bearer {KEY}") for path in ("/scenes", "/jobs/1", "/file", "/elsewhere")]
    assert other.seen == [(path, None) for path in ("/redirected", "/linked", "/file")]
    assert KEY not in repr(client)


def test_a_refusal_says_where_commands_take_a_key_from(recorders: tuple[Recorder, Recorder]) -> None:
    with pytest.raises(AccessDenied, match="LANDCOVER_API_KEY or --api-key"):
        ServiceClient(url=recorders[0].url).request("/closed").content()
