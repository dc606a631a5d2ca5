"""Processes are killed, servers restarted, images broken: in the end every tile is right and nothing hangs."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import morecantile
import numpy as np
import pytest

from onnx_models import pixel_contract, write_pixel_model
from running import Service, start_service

TMS = morecantile.tms.get("WebMercatorQuad")


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `pixels` model, but a block takes about a second: long enough to die in the middle of."""
    path = tmp_path_factory.mktemp("slow") / "slow.onnx"
    return write_pixel_model(path, pixel_contract("slow", window_px=576, halo_px=32), busy_loops=200)


@pytest.fixture
def slow_service(demo_scene: Path, slow_model: Path, tmp_path: Path) -> Iterator[Service]:
    """A service of its own, to be broken."""
    scene = shutil.copy(demo_scene, tmp_path / "scene.tif")
    service = start_service(tmp_path / "state", scenes=[scene], models=[slow_model])
    supervisor = Supervisor(service)
    yield service
    supervisor.stop()
    service.processes.stop()


class Supervisor:
    """What `landcover up` does: starts again whatever ends by itself."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stopped.wait(0.1):
            self._service.processes.restart_dead()


def middle_tile(service: Service, zoom: int = 17) -> str:
    with service.client as client:
        west, south, east, north = client.get(f"/scenes/{service.scene}").json()["bounds"]
    tile = TMS.tile((west + east) / 2, (south + north) / 2, zoom)
    return f"/scenes/{service.scene}/landcover/tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}.npy"


def get_tile(service: Service, url: str, wait_s: float = 60) -> np.ndarray:
    with service.client as client:
        response = client.get(url, params={"wait": wait_s, "strict": True})
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content))


def ask_in_background(service: Service, url: str) -> threading.Thread:
    """Make the blocks of a tile wanted, and return at once."""
    thread = threading.Thread(
        target=httpx.get, args=(service.url + url,), kwargs={"params": {"wait": 60}, "timeout": 90}
    )
    thread.start()
    return thread


def until(condition: object, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def is_running(service: Service) -> bool:
    return any(service.cache.scan_iter(match="lease:*"))


def kill(service: Service, name: str, kind: signal.Signals = signal.SIGKILL) -> None:
    process = service.child(name).process
    assert process is not None
    os.kill(process.pid, kind)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_worker_that_dies_in_the_middle_of_a_block(slow_service: Service, kind: signal.Signals) -> None:
    url = middle_tile(slow_service)
    whole = get_tile(slow_service, url)
    slow_service.forget()
    waiter = ask_in_background(slow_service, url)
    until(lambda: is_running(slow_service))
    kill(slow_service, "worker", kind)
    again = get_tile(slow_service, url)
    waiter.join()
    assert np.array_equal(again, whole)


def test_terminating_a_worker_loses_no_attempt_and_no_task(slow_service: Service) -> None:
    """SIGTERM finishes what is running: the blocks in hand are stored before the process ends."""
    url = middle_tile(slow_service)
    waiter = ask_in_background(slow_service, url)
    until(lambda: is_running(slow_service))
    in_hand = [key.decode().replace("lease", "block") for key in slow_service.cache.scan_iter(match="lease:*")]
    process = slow_service.child("worker").process
    assert process is not None
    process.terminate()
    assert process.wait(60) == 0
    assert in_hand
    assert all(slow_service.cache.exists(key) for key in in_hand)
    waiter.join()
    until(lambda: not list(slow_service.broker.scan_iter(match="landcover:attempts:*")))


def test_a_tile_waits_for_a_worker_that_is_absent(demo_scene: Path, pixel_model: Path, tmp_path: Path) -> None:
    service = start_service(tmp_path / "state", scenes=[demo_scene], models=[pixel_model])
    try:
        worker = service.child("worker")
        worker.stop()
        url = middle_tile(service)
        with service.client as client:
            begin = time.monotonic()
            pending = client.get(url, params={"wait": 1})
            assert time.monotonic() - begin < 10
            assert pending.status_code == 200
            assert int(pending.headers["landcover-pending"]) >= 1
            strict = client.get(url, params={"wait": 1, "strict": True})
            assert strict.status_code == 503
            assert "retry-after" in strict.headers
        worker.start()
        assert get_tile(service, url)[0].all()
    finally:
        service.processes.stop()


@pytest.mark.parametrize("body", ["{}", "null", "[[], [], []]", "[1]", "not json"])
def test_a_message_that_is_no_task_is_dropped(slow_service: Service, body: str) -> None:
    """A true message with another body: read by no worker, put back by none."""
    worker = slow_service.child("worker")
    slow_service.processes.children.remove(worker)  # the supervisor must not bring it back
    worker.stop()
    url = middle_tile(slow_service)
    httpx.get(slow_service.url + url, params={"wait": 0})
    until(lambda: slow_service.broker.llen("interactive") > 0)
    envelope = json.loads(slow_service.broker.lindex("interactive", 0))
    envelope["body"] = base64.b64encode(body.encode()).decode()
    slow_service.broker.rpush("interactive", json.dumps(envelope))  # taken from this end
    worker.start()
    slow_service.processes.children.append(worker)
    assert get_tile(slow_service, url)[0].all()
    assert worker.failures == 0


@pytest.mark.parametrize("server", ["broker", "cache"])
def test_a_restarted_server(slow_service: Service, server: str) -> None:
    """Killed in the middle of work; what was cached in memory may be gone, the tile comes all the same."""
    url = middle_tile(slow_service)
    waiter = ask_in_background(slow_service, url)
    until(lambda: is_running(slow_service))
    kill(slow_service, server)
    waiter.join()
    assert get_tile(slow_service, url)[0].all()


def test_without_its_cache_the_api_says_so(slow_service: Service) -> None:
    url = middle_tile(slow_service)
    cache = slow_service.child("cache")
    slow_service.processes.children.remove(cache)  # the supervisor must not bring it back
    cache.stop()
    with slow_service.client as client:
        response = client.get(url)
        assert response.status_code == 503
        assert response.json()["detail"].startswith("The cache is not reachable")
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
    cache.start()
    slow_service.processes.children.append(cache)
    until(lambda: httpx.get(f"{slow_service.url}/readyz").status_code == 200)
    assert get_tile(slow_service, url)[0].all()


def test_a_block_that_kills_its_worker_is_set_aside(demo_scene: Path, tmp_path: Path) -> None:
    """Each attempt outlasts the hard limit, so the watchdog ends the process; after two the block is refused."""
    hanging = write_pixel_model(tmp_path / "hanging.onnx", pixel_contract("hanging"), busy_loops=1200)
    service = start_service(
        tmp_path / "state",
        scenes=[demo_scene],
        models=[hanging],
        LANDCOVER_WORKER_HARD_LIMIT_S="0.5",
        LANDCOVER_WORKER_THREADS="1",
        LANDCOVER_WORKER_MAX_ATTEMPTS="2",
    )
    supervisor = Supervisor(service)
    try:
        with service.client as client:
            west, south, east, north = client.get(f"/scenes/{service.scene}").json()["bounds"]
            point = f"/scenes/{service.scene}/landcover/point/{(west + east) / 2},{(south + north) / 2}"
            answers = iter(lambda: client.get(point, params={"wait": 20}), None)  # one block
            response = next(answer for answer, _ in zip(answers, range(8), strict=False) if answer.status_code != 200)
        assert response.status_code == 502
        assert "was set aside" in response.json()["detail"]
        assert service.broker.hlen("landcover:dead") >= 1
    finally:
        supervisor.stop()
        service.processes.stop()


def test_a_broken_image_is_an_error_and_its_repair_a_tile(slow_service: Service, tmp_path: Path) -> None:
    scene = tmp_path / "scene.tif"
    url = middle_tile(slow_service)
    intact = scene.read_bytes()
    scene.write_bytes(intact[: len(intact) // 2])
    with slow_service.client as client:
        broken = client.get(url, params={"wait": 60})
        assert broken.status_code == 502, broken.content[:200]
        assert "scene.tif" in broken.json()["detail"]
        scene.write_bytes(b"not an image at all")
        assert client.get(url, params={"wait": 60}).status_code == 502
        scene.unlink()
        assert client.get(url, params={"wait": 60}).status_code == 502
    scene.write_bytes(intact)
    assert get_tile(slow_service, url)[0].all()
