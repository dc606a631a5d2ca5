"""A running service for tests: the real processes, and handles to kill, count and cool them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis

from landcover import local
from landcover.connections import connect


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

    def made(self) -> float:
        """Blocks that the worker has inferred so far, by its own count."""
        port = self.child("worker").env["LANDCOVER_WORKER_METRICS_PORT"]
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        line = next((line for line in text.splitlines() if 'blocks_total{outcome="made"}' in line), "0")
        return float(line.split()[-1])

    def settle(self) -> None:
        """Wait until the worker has nothing in hand: what an earlier test left behind must not be counted."""
        until_s = time.monotonic() + 60
        while self.broker.llen("interactive") or any(self.cache.scan_iter(match="lease:*", count=1000)):
            assert time.monotonic() < until_s, "the worker does not come to rest"
            time.sleep(0.05)

    def forget(self) -> None:
        """Make every tile and block cold again."""
        self.cache.flushdb()

    def wait_for_workers(self, count: int = 1, timeout_s: float = 60) -> None:
        """Wait until so many workers are ready."""
        deadline = time.monotonic() + timeout_s
        while len(local.readiness(self.url).get("workers", [])) < count:
            assert time.monotonic() < deadline, "no worker became ready"
            time.sleep(0.1)


def start_service(
    folder: Path,
    *,
    scenes: Sequence[Path | str],
    models: Sequence[Path] = (),
    workers: int = 1,
    api_key: str = "",
    **env: str,
) -> Service:
    """Start all processes and wait until they are ready; `api_key` is one that reads, where `env` asks for it."""
    processes = local.LocalService()
    try:
        port = local.free_port()
        settings = {
            "LANDCOVER_BROKER_URL": local.start_broker(processes, folder),
            "LANDCOVER_CACHE_URL": local.start_cache(processes, folder),
            "LANDCOVER_SCENES": json.dumps([str(scene) for scene in scenes]),
            "LANDCOVER_MODELS": json.dumps([str(model) for model in models]),
            **env,
        }
        for _ in range(workers):
            metrics = {"LANDCOVER_WORKER_METRICS_PORT": str(local.free_port())}
            processes.add("worker", local.landcover_command("worker"), settings | metrics)
        processes.add("API", local.landcover_command("api", "--port", str(port)), settings)
        url = f"http://127.0.0.1:{port}"
        processes.wait_until(
            lambda: len(local.readiness(url).get("workers", [])) >= workers and bool(local.readiness(url)),
            timeout_s=120,
        )
        with httpx.Client(base_url=url, headers={"X-API-Key": api_key}) as client:
            scene = client.get("/scenes").json()["scenes"][0]["id"]
            model = client.get("/models").json()["default"]
        return Service(url, scene, model, processes, settings)
    except BaseException:
        processes.stop()
        raise


def descendants(pid: int) -> set[int]:
    """Processes below `pid`, from /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
    found: set[int] = set()
    todo = [pid]
    while todo:
        parent = todo.pop()
        children = {child for child, its in parents.items() if its == parent}
        found |= children
        todo += children
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
