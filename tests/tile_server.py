"""An XYZ imagery service on this machine, cut from one picture, with the faults of real ones on demand."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

Address = tuple[int, int, int]
"""Zoom, column, row."""


@dataclass
class Answer:
    """What is sent instead of a tile."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: bool = False
    """Whether only half of the body is sent before the connection is closed."""


class TileServer:
    """Serves `pixels`, whose upper left corner is that of the tile `corner`, and lower zooms of it."""

    def __init__(self, pixels: np.ndarray, corner: Address, *, side: int = 256, suffix: str = "png") -> None:
        self.pixels = pixels
        self.corner = corner
        self.side = side
        self.suffix = suffix
        self.answer: Callable[[Address, int], Answer | None] = lambda address, times: None
        """Called with the tile and how often it has been asked for (1 at first); None for the tile itself."""
        self.requests: Counter[Address] = Counter()
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.queries: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.delay_s = 0.0
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.url = ""

    @property
    def template(self) -> str:
        return f"{self.url}/tiles/{{z}}/{{x}}/{{y}}.{self.suffix}"

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Of the whole picture, by the formulas of the OpenStreetMap wiki ("Slippy map tilenames")."""
        zoom, col, row = self.corner
        height, width = self.pixels.shape[0] / self.side, self.pixels.shape[1] / self.side
        return (*corner_lonlat(zoom, col, row + height), *corner_lonlat(zoom, col + width, row))

    @property
    def fragment(self) -> str:
        return f"#zoom={self.corner[0]}&bbox={','.join(map(repr, self.bounds))}"

    def tile(self, address: Address) -> bytes | None:
        """The picture of a tile; None outside."""
        zoom, col, row = address
        step = 2 ** (self.corner[0] - zoom)
        top = (row * step - self.corner[2]) * self.side
        left = (col * step - self.corner[1]) * self.side
        span = self.side * step
        rows, cols = np.arange(top, top + span, step), np.arange(left, left + span, step)
        inside_rows = (rows >= 0) & (rows < self.pixels.shape[0])
        inside_cols = (cols >= 0) & (cols < self.pixels.shape[1])
        if not (inside_rows.any() and inside_cols.any()):
            return None
        tile = np.zeros((self.side, self.side, self.pixels.shape[2]), np.uint8)
        tile[np.ix_(inside_rows, inside_cols)] = self.pixels[np.ix_(rows[inside_rows], cols[inside_cols])]
        return encode(tile, self.suffix)


def encode(pixels: np.ndarray, suffix: str = "png") -> bytes:
    """A picture's file."""
    data = io.BytesIO()
    options = {"compress_level": 1} if suffix == "png" else {}
    Image.fromarray(pixels).save(data, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    return data.getvalue()


def corner_lonlat(zoom: int, col: float, row: float) -> tuple[float, float]:
    """Longitude and latitude of a tile's upper left corner."""
    n = np.pi * (1 - 2 * row / 2**zoom)
    return float(col / 2**zoom * 360 - 180), float(np.degrees(np.arctan(np.sinh(n))))


@contextmanager
def tile_server(
    pixels: np.ndarray, corner: Address = (18, 232_832, 103_220), *, side: int = 256, suffix: str = "png"
) -> Iterator[TileServer]:
    """A service on a free port until the body ends; by default in Tokyo."""
    state = TileServer(pixels, corner, side=side, suffix=suffix)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            try:
                zoom, col, row = (int(part.partition(".")[0]) for part in url.path.split("/")[2:5])
            except ValueError:
                return self.send(Answer(status=404))
            address = (zoom, col, row)
            with state.lock:
                state.times.append(time.monotonic())
                state.requests[address] += 1
                state.headers.append(dict(self.headers))
                state.queries.add(url.query)
                times = state.requests[address]
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            try:
                answer = state.answer(address, times)
                if answer is None:
                    body = state.tile(address)
                    answer = Answer(status=404) if body is None else Answer(body=body)
                    answer.headers["Content-Type"] = f"image/{state.suffix}"
                state.stopping.wait(answer.delay_s or state.delay_s)
            finally:
                with state.lock:
                    state.at_once -= 1
            return self.send(answer)

        def send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
            self.close_connection = self.close_connection or answer.cut

        def handle(self) -> None:
            with suppress(OSError):  # the client went away
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stopping.set()
        server.shutdown()
        server.server_close()
