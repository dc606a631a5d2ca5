"""A map job while everything around it is killed: its product is that of an undisturbed run, pixel by pixel."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import redis

from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import noise, write_tif
from running import Service, descendants, start_service

SIDE_PX = 2048
BLOCKS = (SIDE_PX // 256) ** 2


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks of 256 px that take a tenth of a second each."""
    path = tmp_path_factory.mktemp("slow") / "slow.onnx"
    return write_pixel_model(path, pixel_contract("slow"), busy_loops=25)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_tif(tmp_path / "scene.tif", noise(SIDE_PX, SIDE_PX), compress="deflate")


@pytest.fixture
def service(scene: Path, slow_model: Path, tmp_path: Path) -> Iterator[Service]:
    started = start_service(
        tmp_path / "state", scenes=[scene], models=[slow_model], LANDCOVER_PRODUCTS=str(tmp_path / "products")
    )
    stopped = threading.Event()

    def supervise() -> None:
        while not stopped.wait(0.1):
            started.processes.restart_dead()

    supervisor = threading.Thread(target=supervise, daemon=True)
    supervisor.start()
    yield started
    stopped.set()
    supervisor.join()
    started.processes.stop()


def submit(service: Service, **more: Any) -> str:
    with service.client as client:
        response = client.post("/jobs", json={"type": "map", "scene": "scene", **more})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def status(service: Service, job: str) -> dict[str, Any]:
    """Its status, as soon as anybody answers."""
    until = time.monotonic() + 60
    while True:
        try:
            response = httpx.get(f"{service.url}/jobs/{job}", timeout=10)
            if response.status_code == 200:
                return dict(response.json())
        except httpx.HTTPError:
            pass
        assert time.monotonic() < until, "nobody answers"
        time.sleep(0.1)


def wait_until_ended(service: Service, job: str, within_s: float = 180) -> dict[str, Any]:
    until = time.monotonic() + within_s
    while (found := status(service, job))["status"] in ("accepted", "running"):
        assert time.monotonic() < until, found
        time.sleep(0.2)
    return found


def wait_for_blocks(service: Service, job: str, count: int) -> None:
    until = time.monotonic() + 60
    while status(service, job)["blocks"]["done"] < count:
        assert time.monotonic() < until
        time.sleep(0.1)


def product(service: Service, job: str, role: str = "classes") -> Path:
    with service.client as client:
        files = client.get(f"/jobs/{job}/results").json()["files"]
    (name,) = [each["name"] for each in files if each["role"] == role]
    return Path(service.env["LANDCOVER_PRODUCTS"]) / job / name


def assert_right(path: Path, scene: Path) -> None:
    with rasterio.open(scene) as image, rasterio.open(path) as found:
        assert np.array_equal(found.read(1), expected_classes(np.moveaxis(image.read(), 0, -1)))


def kill(service: Service, *names: str) -> None:
    for name in names:
        process = service.child(name).process
        assert process is not None
        pids = {process.pid} | (descendants(process.pid) if name == "API" else set())
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def test_whatever_is_killed_the_product_is_right(service: Service, scene: Path) -> None:
    job = submit(service)
    chance = random.Random(5)
    stack = ("worker", "API", "broker", "cache")
    for victims in [
        ("worker",),
        ("API",),
        ("broker",),
        ("cache",),
        stack,
        *(chance.sample(stack, 2) for _ in range(5)),
    ]:
        time.sleep(chance.uniform(0.3, 1.5))
        kill(service, *victims)
    found = wait_until_ended(service, job)
    assert found["status"] == "successful", found
    assert found["blocks"] == {"total": BLOCKS, "done": BLOCKS, "failed": 0}
    assert_right(product(service, job), scene)


def test_what_is_in_the_spool_is_not_inferred_again(service: Service, scene: Path) -> None:
    job = submit(service)
    wait_for_blocks(service, job, BLOCKS // 3)
    kill(service, "API")
    service.settle()
    spool = Path(service.env["LANDCOVER_PRODUCTS"]) / job / "blocks.part"
    with sqlite3.connect(spool) as database:
        (kept,) = database.execute("SELECT count(*) FROM block").fetchone()
    assert BLOCKS // 3 <= kept < BLOCKS
    service.forget()  # as if the cache had dropped everything
    made = service.made()
    assert wait_until_ended(service, job)["status"] == "successful"
    assert service.made() - made == BLOCKS - kept
    assert_right(product(service, job), scene)
    assert not spool.exists()


def test_an_image_that_is_replaced_fails_the_job(service: Service, scene: Path) -> None:
    job = submit(service)
    wait_for_blocks(service, job, 4)
    replacement = write_tif(scene.with_name("other.tif"), noise(SIDE_PX, SIDE_PX, seed=1), compress="deflate")
    shutil.move(replacement, scene)
    found = wait_until_ended(service, job)
    assert found["status"] == "failed"
    assert "replaced" in found["message"]
    with service.client as client:
        refused = client.get(f"/jobs/{job}/results")
        assert (refused.status_code, refused.json()["detail"]) == (409, found["message"])
    again = submit(service)
    assert again != job
    assert wait_until_ended(service, again)["status"] == "successful"
    assert_right(product(service, again), scene)


def test_blocks_that_cannot_be_read_are_listed_and_may_be_holes(service: Service, scene: Path) -> None:
    with scene.open("r+b") as file:  # the last quarter of the image is rubbish
        size = scene.stat().st_size
        file.seek(size * 3 // 4)
        file.write(b"\xff" * (size // 4))
    job = submit(service)
    found = wait_until_ended(service, job)
    assert found["status"] == "failed"
    assert 0 < found["blocks"]["failed"] < BLOCKS
    assert len(found["failures"]) == min(found["blocks"]["failed"], 50)
    assert "cannot be decoded" in found["failures"][0]["reason"]
    made = service.made()
    service.forget()
    assert submit(service, allow_missing=True) == job
    found = wait_until_ended(service, job)
    assert found["status"] == "successful", found
    assert service.made() == made, "what is there was made again"
    with service.client as client:
        result = client.get(f"/jobs/{job}/results").json()
        assert client.post("/jobs", json={"type": "map", "scene": "scene", "allow_missing": True}).status_code == 200
    holes = {(hole["row"], hole["col"]) for hole in result["holes"]}
    assert len(holes) == found["blocks"]["failed"]
    with rasterio.open(product(service, job)) as image:
        classes = image.read(1)
    for row in range(SIDE_PX // 256):
        for col in range(SIDE_PX // 256):
            part = classes[row * 256 : (row + 1) * 256, col * 256 : (col + 1) * 256]
            assert part.any() == ((row, col) not in holes)


def test_a_dismissed_job_stops_and_leaves_nothing(service: Service) -> None:
    job = submit(service)
    wait_for_blocks(service, job, 2)
    folder = Path(service.env["LANDCOVER_PRODUCTS"]) / job
    with service.client as client:
        assert client.delete(f"/jobs/{job}").json()["status"] == "dismissed"
        again = client.delete(f"/jobs/{job}")
        assert again.status_code == 409
        assert "dismissed already" in again.json()["detail"]
        assert client.get(f"/jobs/{job}/results").status_code == 404
    until = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < until, "what was mapped is still there"
        time.sleep(0.1)
    service.settle()
    made = service.made()
    time.sleep(1)
    assert service.made() == made


def test_a_full_broker_is_told_from_a_lost_job(service: Service) -> None:
    """The broker refuses what it has no room for; the job waits and goes on."""
    job = submit(service)
    wait_for_blocks(service, job, 2)
    broker: redis.Redis = service.broker
    broker.config_set("maxmemory", "1")
    time.sleep(3)
    broker.config_set("maxmemory", "256mb")
    assert wait_until_ended(service, job)["status"] == "successful"
