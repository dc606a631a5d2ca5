"""Origins that fail in each way origins do: an error with a sentence, never a blank window, and right again later."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from landcover import local
from landcover.catalog import expand_scenes
from landcover.errors import LandcoverError, SceneTooSlow, SceneUnreadable
from landcover.grid import BlockIndex
from landcover.reading import SceneReader
from landcover.scene import Scene, current_version, describe
from landcover.settings import OriginSettings, ReadSettings
from landcover.xyz import origin
from landcover.xyz.pace import ProcessPace, SharedPace, TooLong
from rasters import grid_of, noise
from tile_server import Address, Answer, TileServer, encode, tile_server

SECRET = "key=s3cr3t%2Fx"


@pytest.fixture
def server() -> Iterator[TileServer]:
    with tile_server(noise(512, 512)) as state:
        yield state


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "_BACKOFF_S", 0.01)


def scene_of(server: TileServer, **options: Any) -> Scene:
    (source,) = expand_scenes(f"{server.template}?{SECRET}{server.fragment}&max_rps=1000")
    assert source.xyz is not None
    source = source.model_copy(update={"xyz": source.xyz.model_copy(update=options)})
    return describe(source, current_version(source, ReadSettings()), ReadSettings())


def reader(timeout_s: float = 5.0, **origin: Any) -> SceneReader:
    return SceneReader(ReadSettings(timeout_s=timeout_s, origin=OriginSettings(pace_url=None, **origin)))


def read(scene: Scene, by: SceneReader) -> np.ndarray:
    return by.read(scene, grid_of(scene, block_px=512), BlockIndex(0, 0), 0).image


def only(address: Address, answer: Answer, times: int = 1_000) -> Any:
    """Spoil one tile, for so many requests."""
    return lambda asked, count: answer if asked == address and count <= times else None


FAULTS = [
    pytest.param(Answer(500), SceneUnreadable, r"was refused \(500\)", 4, id="500"),
    pytest.param(Answer(502), SceneUnreadable, r"was refused \(502\)", 4, id="502"),
    pytest.param(Answer(403), SceneUnreadable, r"was refused \(403\); check the address, its key", 1, id="403"),
    pytest.param(Answer(206, encode(noise(256, 256))), SceneUnreadable, r"\(206\)", 1, id="206"),
    pytest.param(Answer(200, encode(noise(256, 256), "jpg")[:3000]), SceneUnreadable, "truncated", 4, id="half a JPEG"),
    pytest.param(Answer(200, encode(noise(256, 256))[:90_000]), SceneUnreadable, "truncated", 4, id="half a PNG"),
    pytest.param(Answer(200, encode(noise(256, 256)), cut=True), SceneUnreadable, "broke off", 4, id="half a body"),
    pytest.param(Answer(200, b"<html>Sign in</html>"), SceneUnreadable, "is no JPEG, PNG or WebP", 4, id="a page"),
    pytest.param(Answer(200, b""), SceneUnreadable, "is no JPEG, PNG or WebP", 4, id="nothing"),
    pytest.param(
        Answer(200, encode(noise(512, 512))), SceneUnreadable, "is 512 × 512 px, not 256 × 256", 1, id="512 px"
    ),
    pytest.param(
        Answer(200, encode(np.zeros((9000, 9000), np.uint8))), SceneUnreadable, "is 9000 × 9000 px", 1, id="a bomb"
    ),
    pytest.param(Answer(200, bytes(17 << 20)), SceneUnreadable, "more than 16 MiB", 1, id="too many bytes"),
    pytest.param(
        Answer(302, headers={"Location": "http://169.254.169.254/latest"}), SceneUnreadable,
        r"redirected to 169\.254\.169\.254, which is not followed", 1, id="another host",
    ),
    pytest.param(
        Answer(302, headers={"Location": "http://127.0.0.1:9/x"}), SceneUnreadable, "is not followed", 1,
        id="another port",
    ),
    pytest.param(Answer(302, headers={"Location": "file:///etc/passwd"}), SceneUnreadable, "not", 1, id="a file"),
    pytest.param(Answer(302, headers={"Location": "http://[::bad"}), SceneUnreadable, "broke off", 4, id="nonsense"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "expected", "sentence", "attempts"), FAULTS)
def test_a_fault_is_an_error_and_later_right(
    server: TileServer,
    fault: Answer,
    expected: type[LandcoverError],
    sentence: str,
    attempts: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene, by = scene_of(server), reader()
    zoom, col, row = server.corner
    server.answer = only((zoom, col + 1, row), fault)
    with caplog.at_level(logging.DEBUG, "landcover"), pytest.raises(expected, match=sentence) as caught:
        read(scene, by)
    assert f"Tile {zoom}/{col + 1}/{row} of {server.template}" in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "s3cr3t" not in str(caught.value) + caplog.text
    assert caught.value.__cause__ is None or "s3cr3t" not in repr(caught.value.__cause__)
    assert server.requests[zoom, col + 1, row] == attempts
    server.answer = lambda *_: None
    assert np.array_equal(read(scene, by), server.pixels)
    assert server.queries == {SECRET}


@pytest.mark.parametrize("times", [1, 3])
def test_what_fails_now_and_then_is_asked_again(server: TileServer, times: int) -> None:
    server.answer = lambda _, count: Answer(500) if count <= times else None
    scene = scene_of(server)
    assert np.array_equal(read(scene, reader()), server.pixels)
    assert set(server.requests.values()) == {times + 1}


def test_a_redirect_on_the_same_server_is_followed(server: TileServer) -> None:
    zoom, col, row = server.corner
    there = f"/tiles/{zoom}/{col}/{row}.png"
    server.answer = only((zoom, col + 1, row), Answer(302, headers={"Location": there}))
    image = read(scene_of(server), reader())
    assert np.array_equal(image[:256, 256:], server.pixels[:256, :256])
    server.answer = only((zoom, col, row + 1), Answer(302, headers={"Location": f"/tiles/{zoom}/{col}/{row + 1}.png"}))
    with pytest.raises(SceneUnreadable, match="redirected more than 3 times"):
        read(scene_of(server, version="2"), reader())


def test_a_silent_server_is_too_slow_and_asked_twice(server: TileServer) -> None:
    server.delay_s = 5
    scene = scene_of(server)
    with pytest.raises(SceneTooSlow, match=r"did not come within 0\.3 s") as caught:
        read(scene, reader(timeout_s=0.3))
    assert "s3cr3t" not in str(caught.value)
    assert max(server.requests.values()) <= 2


def test_a_server_that_drips_is_too_slow(server: TileServer) -> None:
    """Each byte comes in time; all of them do not."""
    import socketserver
    import threading

    class Dripping(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
            for _ in range(100):
                self.request.sendall(b"x")
                if stopping.wait(0.05):
                    return

    stopping = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as drip:
        drip.daemon_threads = True
        thread = threading.Thread(target=drip.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.url = f"http://127.0.0.1:{drip.server_address[1]}"
        scene = scene_of(server)
        try:
            with pytest.raises(SceneTooSlow, match="did not come within"):
                read(scene, reader(timeout_s=0.3))
        finally:
            stopping.set()
            drip.shutdown()
            thread.join()


def test_nobody_listens() -> None:
    (source,) = expand_scenes(f"http://127.0.0.1:9/{{z}}/{{x}}/{{y}}.png?{SECRET}#zoom=10&bbox=1,1,1.1,1.1")
    scene = describe(source, current_version(source, ReadSettings()), ReadSettings())
    with pytest.raises(SceneUnreadable, match="its server cannot be reached") as caught:
        reader().read(scene, grid_of(scene), BlockIndex(0, 0), 0)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_kept_by_all_threads(server: TileServer, as_date: bool) -> None:
    """After one 429 nothing goes to the server until the time it named, of any tile; then all is well."""
    refused: list[float] = []

    def answer(_: Address, __: int) -> Answer | None:
        if refused:
            return None
        refused.append(time.monotonic())
        until = datetime.now(UTC) + timedelta(seconds=2)
        return Answer(429, headers={"Retry-After": format_datetime(until, usegmt=True) if as_date else "1"})

    server.answer = answer
    scene = scene_of(server, max_connections=1)
    assert np.array_equal(read(scene, reader(timeout_s=5)), server.pixels)
    later = [moment for moment in server.times if moment > refused[0]]
    assert min(later) - refused[0] >= 0.9
    assert len(server.times) == 5


def test_an_origin_that_wants_a_long_pause_is_too_slow_at_once(server: TileServer) -> None:
    server.answer = lambda *_: Answer(503, headers={"Retry-After": "3600"})
    scene, by = scene_of(server), reader(timeout_s=30)
    begin = time.monotonic()
    for _ in range(2):
        with pytest.raises(SceneTooSlow, match=r"can be asked for the next tile in \d+ s only"):
            read(scene, by)
    assert time.monotonic() - begin < 60  # of the 120 s that a window has, twice
    assert sum(server.requests.values()) <= 6  # those that were on their way


def test_requests_are_spaced_evenly(server: TileServer) -> None:
    scene = scene_of(server, max_rps=20.0)
    read(scene, reader())
    assert min(np.diff(server.times)) > 0.03  # of 0.05; the server's own clock is late now and then
    assert server.times[-1] - server.times[0] > 0.14


def test_what_the_pace_does_not_allow_is_an_error_not_a_wait() -> None:
    with tile_server(noise(1280, 1280)) as server:
        scene = scene_of(server, max_rps=5.0)
        with pytest.raises(SceneTooSlow):
            reader(timeout_s=0.5).read(scene, grid_of(scene, block_px=1280), BlockIndex(0, 0), 0)
        assert sum(server.requests.values()) < 25


def test_tiles_that_nobody_waits_for_are_not_fetched() -> None:
    """A window that failed takes its other tiles with it; those of another window stay."""
    with tile_server(noise(2048, 2048)) as server:
        zoom, col, row = server.corner
        server.answer = only((zoom, col, row), Answer(403))
        server.delay_s = 0.02
        scene, by = scene_of(server, max_connections=1), reader()
        with pytest.raises(SceneUnreadable):
            by.read(scene, grid_of(scene, block_px=2048), BlockIndex(0, 0), 0)
        image = by.read(scene, grid_of(scene, block_px=256), BlockIndex(7, 7), 0).image
        assert np.array_equal(image, server.pixels[-256:, -256:])
        assert sum(server.requests.values()) < 8


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    processes = local.LocalService()
    try:
        yield local.start_broker(processes, tmp_path_factory.mktemp("broker"))
    finally:
        processes.stop()


def test_processes_share_a_pace(broker: str) -> None:
    """Two that know of each other only through Redis take turns; in minutes, beside which a slow machine is nothing."""
    one, two = SharedPace(broker), SharedPace(broker)
    waits = [pace.reserve("https://a:443", 100, 10_000) for pace in (one, two, one, two)]
    assert waits == pytest.approx([0, 100, 200, 300], abs=40)
    assert one.reserve("https://b:443", 100, 10_000) == 0
    with pytest.raises(TooLong):
        two.reserve("https://a:443", 100, 50)
    one.hold("https://a:443", 5000)
    assert two.reserve("https://a:443", 100, 10_000) == pytest.approx(5000, abs=40)
    two.hold("https://a:443", 1000)  # a shorter pause does not end a longer
    assert one.reserve("https://a:443", 100, 10_000) > 4000


def test_a_pace_is_kept_while_redis_is_away() -> None:
    pace = SharedPace("redis://127.0.0.1:9/0")
    waits = [pace.reserve("https://a:443", 100, 10_000) for _ in range(3)]
    assert waits == pytest.approx([0, 100, 200], abs=40)
    pace.hold("https://a:443", 5000)
    assert pace.reserve("https://a:443", 100, 10_000) > 4000


def test_a_pace_for_one_process() -> None:
    pace = ProcessPace()
    with ThreadPoolExecutor(4) as pool:
        waits = sorted(pool.map(lambda _: pace.reserve("a", 100, 10_000), range(20)))
    assert waits == pytest.approx([100 * turn for turn in range(20)], abs=40)


KEPT = ["folder", "redis"]


@pytest.mark.parametrize("where", KEPT)
def test_kept_tiles_are_not_asked_for_again(server: TileServer, tmp_path: Path, broker: str, where: str) -> None:
    """By a reader that shares nothing else; nor are missing ones."""
    zoom, col, row = server.corner
    server.answer = only((zoom, col, row), Answer(404))
    scene = scene_of(server)
    cache = str(tmp_path / "tiles") if where == "folder" else broker
    images = [read(scene, reader(cache=cache, memory_bytes=amount)) for amount in (0, 1)]
    assert np.array_equal(images[0], images[1])
    assert set(server.requests.values()) == {1}
    other = scene_of(server, version="next year")
    read(other, reader(cache=cache, memory_bytes=2))
    assert set(server.requests.values()) == {2}


@pytest.mark.parametrize("damage", [b"\xff\xd8\xff rubbish", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_kept_tile_is_fetched_anew(server: TileServer, tmp_path: Path, damage: bytes) -> None:
    scene = scene_of(server)
    read(scene, reader(cache=str(tmp_path), memory_bytes=0))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        path.write_bytes(damage)
    for amount in (1, 2):
        assert np.array_equal(read(scene, reader(cache=str(tmp_path), memory_bytes=amount)), server.pixels)
    assert set(server.requests.values()) == {2}


def test_the_folder_stays_below_its_limit(tmp_path: Path) -> None:
    from landcover.xyz.kept import Folder

    folder = Folder(tmp_path, max_bytes=1 << 20, ttl_s=3600)
    for i in range(150):
        folder.put(f"{i}", bytes([i % 256]) * 20_000)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 0.5 * (1 << 20) < size <= 1 << 20
    assert folder.get("149") == bytes([149]) * 20_000
    assert folder.get("0") is None


def test_kept_tiles_grow_old(tmp_path: Path) -> None:
    import os

    from landcover.xyz.kept import Folder

    folder = Folder(tmp_path, max_bytes=1 << 20, ttl_s=3600)
    folder.put("a", b"x")
    assert folder.get("a") == b"x"
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    os.utime(path, (time.time() - 3601,) * 2)
    assert folder.get("a") is None


@pytest.mark.parametrize("where", KEPT)
def test_a_store_that_cannot_be_used_is_as_if_empty(
    server: TileServer, tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = str(tmp_path / "file") if where == "folder" else "redis://127.0.0.1:9/0"
    assert np.array_equal(read(scene_of(server), reader(cache=cache)), server.pixels)
    assert "LANDCOVER_ORIGIN_CACHE" in caplog.text


def test_a_redis_bounds_how_long(server: TileServer, broker: str) -> None:
    client = redis.Redis.from_url(broker, protocol=2)
    client.flushdb()
    read(scene_of(server), reader(cache=broker, cache_ttl_s=100, memory_bytes=3))
    keys = list(client.scan_iter("origin-tile:*"))
    assert len(keys) == 4
    assert all(0 < client.ttl(key) <= 100 for key in keys)
    client.close()
