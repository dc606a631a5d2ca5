"""Services that the bench starts for itself: a broker, a cache, workers and, where tiles are asked for, an API."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import redis

from landcover import local
from landcover.api_keys import WITHOUT_KEYS
from landcover.commands.bench.processes import processor_s
from landcover.commands.bench.subject import Subject
from landcover.connections import connect
from landcover.keys import WORKER_PREFIX
from landcover.presence import parse_presence

_START_S = 180.0
_UNSAVED_CACHE = {"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru", "save": "", "appendonly": "no"}


@dataclass(frozen=True, kw_only=True)
class Service:
    """What runs. Every process ends with `open_service`'s body."""

    processes: local.LocalService
    subject: Subject
    env: Mapping[str, str]
    broker: redis.Redis
    cache: redis.Redis
    url: str
    """Of the API, if there is one."""

    def pid(self, name: str) -> int:
        """Of the process that was started under this name."""
        child = next(each for each in self.processes.children if each.name == name)
        if child.process is None:
            raise RuntimeError(f"the {name} process was not started")
        return child.process.pid

    @property
    def provider(self) -> str:
        """What runs the network: ONNX Runtime's execution provider, as a worker says it."""
        keys = self.broker.keys(WORKER_PREFIX + "*")
        return parse_presence(self.broker.mget(keys))[0].provider

    def used_s(self) -> dict[str, float]:
        """Processor time of every process so far, seconds, by name."""
        return {child.name: processor_s(child.process.pid) for child in self.processes.children if child.process}

    def forget(self) -> None:
        """Empty the cache: nothing is mapped any more."""
        self.cache.flushall()

    def add(self, name: str, module: str, *arguments: object) -> None:
        """Start `python -m module arguments` beside the others, in their environment."""
        self.processes.add(name, [sys.executable, "-m", module, *map(str, arguments)], self.env)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait for what was added.

        Raises:
            LandcoverError: a process ends, or it takes too long.
        """
        self.processes.wait_until(ready, timeout_s=_START_S)


@contextmanager
def open_service(
    folder: Path,
    subject: Subject,
    *,
    worker: Sequence[str] = (),
    cores: Sequence[int | None] = (None,),
    api: bool = True,
    env: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Start it with nothing mapped, ready to work.

    Args:
        folder: where the broker and the cache keep what they must; a new one in it is used.
        subject: the scene and the model that are served.
        worker: the command of a worker; empty for the product's own.
        cores: a worker for each, bound to that core alone; None for one that may use all.
        api: whether an API is started.
        env: more variables of every process.

    Raises:
        LandcoverError: it does not become ready.
    """
    here = Path(mkdtemp(dir=folder))
    service = local.LocalService()
    try:
        variables = {
            **WITHOUT_KEYS,
            "LANDCOVER_BROKER_URL": local.start_broker(service, here),
            "LANDCOVER_CACHE_URL": local.start_valkey(service, "cache", here / "cache", _UNSAVED_CACHE),
            "LANDCOVER_DATABASE_URL": f"sqlite:///{here / 'landcover.sqlite'}",
            "LANDCOVER_SCENES": json.dumps([subject.location]),
            "LANDCOVER_MODELS": json.dumps([str(subject.model.path)]),
            "LANDCOVER_LOG_LEVEL": "WARNING",
            **(env or {}),
        }
        broker, cache = connect(variables["LANDCOVER_BROKER_URL"]), connect(variables["LANDCOVER_CACHE_URL"])
        for number, core in enumerate(cores, start=1):
            child = service.add(f"worker {number}", worker or local.landcover_command("worker"), variables)
            if core is not None and child.process:
                os.sched_setaffinity(child.process.pid, {core})  # before it has threads, which inherit it
        service.wait_until(lambda: len(broker.keys(WORKER_PREFIX + "*")) == len(cores), timeout_s=_START_S)
        url = ""
        if api:
            port = local.free_port()
            url = f"http://127.0.0.1:{port}"
            service.add("API", local.landcover_command("api", "--port", str(port)), variables)
            service.wait_until(lambda: local.is_ready(url, workers=len(cores)), timeout_s=_START_S)
        yield Service(processes=service, subject=subject, env=variables, broker=broker, cache=cache, url=url)
        for client in (broker, cache):
            client.close()
    finally:
        service.stop()
