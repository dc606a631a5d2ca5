"""Real parts for every test: Valkey servers, a worker process, an API process, COGs, an ONNX model."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from landcover import local
from landcover.connections import connect

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """Real labelled images; not part of the repository."""
    if not DATA.is_dir():
        pytest.skip("the real images are not on this machine (../shared/data)")
    return DATA


@pytest.fixture(scope="session")
def demo_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn scene, smaller than the one `landcover up` serves; `demo_labels.tif` lies beside it."""
    from landcover.demo import write_scene

    return write_scene(tmp_path_factory.mktemp("demo"), size_px=2048)


@dataclass
class Service:
    """A running service: what `landcover up` starts, with the processes in the test's hands."""

    url: str
    scene: str
    model: str
    processes: local.LocalService
    env: dict[str, str]

    @property
    def client(self) -> httpx.Client:
        """Closed by the caller."""
        return httpx.Client(base_url=self.url, timeout=120)

    @property
    def cache(self) -> redis.Redis:
        """The cache server."""
        return connect(self.env["LANDCOVER_CACHE_URL"])

    @property
    def broker(self) -> redis.Redis:
        """The broker server."""
        return connect(self.env["LANDCOVER_BROKER_URL"])

    def child(self, name: str) -> local.Child:
        """One of the processes by name."""
        return next(child for child in self.processes.children if child.name == name)

    def forget(self) -> None:
        """Make every tile and block cold again."""
        self.cache.flushdb()

    def wait_for_workers(self, count: int = 1, timeout_s: float = 60) -> None:
        """Wait until so many workers are ready."""
        deadline = time.monotonic() + timeout_s
        while len(local.readiness(self.url).get("workers", [])) < count:
            assert time.monotonic() < deadline, "no worker became ready"
            time.sleep(0.1)


def start_service(folder: Path, scenes: str, *, models: str = "[]", workers: int = 1, **env: str) -> Service:
    """Start all processes and wait until they are ready."""
    processes = local.LocalService()
    try:
        port = local.free_port()
        settings = {
            "LANDCOVER_BROKER_URL": local.start_broker(processes, folder),
            "LANDCOVER_CACHE_URL": local.start_cache(processes, folder),
            "LANDCOVER_SCENES": scenes,
            "LANDCOVER_MODELS": models,
            **env,
        }
        for _ in range(workers):
            processes.add("worker", local.landcover_command("worker"), settings)
        processes.add("API", local.landcover_command("api", "--port", str(port)), settings)
        url = f"http://127.0.0.1:{port}"
        processes.wait_until(
            lambda: len(local.readiness(url).get("workers", [])) >= workers and bool(local.readiness(url)),
            timeout_s=120,
        )
        with httpx.Client(base_url=url) as client:
            scene = client.get("/scenes").json()["scenes"][0]["id"]
            model = client.get("/models").json()["default"]
        return Service(url, scene, model, processes, settings)
    except BaseException:
        processes.stop()
        raise


@pytest.fixture(scope="session")
def shared_service(demo_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the whole session; tests that stop processes start their own."""
    service = start_service(tmp_path_factory.mktemp("service"), str(demo_scene))
    yield service
    service.processes.stop()


@pytest.fixture
def service(shared_service: Service) -> Service:
    """The session's service, cold."""
    shared_service.forget()
    return shared_service


def pytest_configure(config: pytest.Config) -> None:
    """Settings of this machine must not leak into tests."""
    for name in [name for name in os.environ if name.startswith("LANDCOVER_")]:
        del os.environ[name]
