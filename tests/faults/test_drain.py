"""Twenty SIGTERMs to workers under load: each ends with status 0, and no block is lost, made twice or merely late.

Nobody asks a second time here, as waiters of a service would: each block is claimed once and queued once. So a task
that goes down with a worker is never made in this test, and only a worker that gives back what it has not begun, and
ends what it has, passes.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import redis

from landcover import local
from landcover.catalog import expand_scenes
from landcover.cli import main
from landcover.connections import connect
from landcover.contract import read_model
from landcover.coordination import CLAIM_SCRIPT, Claim
from landcover.grid import grid_for
from landcover.keys import DEAD_LETTERS, DONE_CHANNEL
from landcover.queue import BULK_QUEUE, INTERACTIVE_QUEUE, BlockTask, make_celery, send_block
from landcover.queue_state import read_queues
from landcover.scene import current_version, describe
from landcover.settings import ReadSettings
from onnx_models import pixel_contract, write_pixel_model
from rasters import write_tif

SIGTERMS = 20
WORKERS = 3
SIDE_BLOCKS, BLOCK_PX = 64, 64
WAITING = 30
"""Blocks that wait in each queue all the time: no worker is ever without work."""
WANTED_MS = 300_000
DONE_WITHIN_S = 170
"""Of the whole test, and less than the visibility timeout (three hard limits): no task comes back by that."""


@dataclass
class Load:
    """Claims and queues blocks, each once, so that some always wait in both queues; and hears which are reported."""

    broker: redis.Redis
    cache: redis.Redis
    tasks: Iterator[BlockTask]
    queued: list[BlockTask] = field(default_factory=list)
    reported: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._celery = make_celery(_url(self.broker))
        self._claim = self.cache.register_script(CLAIM_SCRIPT)
        self._listener = self.cache.pubsub(ignore_subscribe_messages=True)
        self._listener.subscribe(DONE_CHANNEL)
        self._listener.get_message(timeout=5)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _feed(self) -> None:
        while not self._ended.wait(0.02):
            for queue in (INTERACTIVE_QUEUE, BULK_QUEUE):
                for task in itertools.islice(self.tasks, max(0, WAITING - self.broker.llen(queue))):
                    self._ask(task, queue)
            self.hear()

    def _ask(self, task: BlockTask, queue: str) -> None:
        key = task.key
        claim = self._claim(keys=[key.block, key.marker, key.lease, key.failure], args=[WANTED_MS, WANTED_MS, queue])
        assert Claim(claim.decode()) is Claim.CLAIMED
        send_block(self._celery, task, queue=queue)
        self.queued.append(task)

    def hear(self) -> None:
        while message := self._listener.get_message(timeout=0):
            self.reported[message["data"].decode()] += 1

    def in_hand_of(self, worker: BaseProcess) -> int:
        """How many blocks a worker is making now: its leases name its process."""
        holders = self.cache.mget(list(self.cache.scan_iter(match="lease:*", count=1000)) or ["none"])
        return sum(f"-{worker.pid}-".encode() in holder for holder in holders if holder)


def _url(client: redis.Redis) -> str:
    return "redis://{host}:{port}/0".format(**client.connection_pool.connection_kwargs)


def blocks_of(scene: Path, model: Path) -> Iterator[BlockTask]:
    """A task for every block of a scene, in an order that has nothing to do with where they lie."""
    source, read, file = next(iter(expand_scenes(str(scene)))), ReadSettings(), read_model(model)
    found = describe(source, current_version(source, read), read)
    grid = grid_for(found, file.contract)
    indices = list(grid.blocks())
    random.Random(0).shuffle(indices)
    for index in indices:
        yield BlockTask(
            source=source,
            version=found.version,
            digest=file.digest,
            decimation=grid.decimation,
            row=index.row,
            col=index.col,
        )


def run_worker(env: dict[str, str], log: Path) -> None:
    """`landcover worker`, in a process of its own; what it logs goes to the end of `log`."""
    os.environ |= env
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    sys.exit(main(["worker"]))


@dataclass
class Fleet:
    """Workers, each a process that is forked from one with everything imported: twenty starts cost little."""

    env: dict[str, str]
    log: Path
    started: list[BaseProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log.touch()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["landcover_worker.service", "landcover_worker.cli"])

    def start(self) -> BaseProcess:
        """One more worker."""
        worker = self._context.Process(target=run_worker, args=(self.env, self.log))
        worker.start()
        self.started.append(worker)
        return worker

    def stop(self) -> None:
        """End what still runs."""
        for worker in self.started:
            worker.terminate()
        for worker in self.started:
            worker.join(20)
            worker.kill()
            worker.join()


@pytest.fixture
def processes() -> Iterator[local.LocalService]:
    service = local.LocalService()
    yield service
    service.stop()


def until(condition: object, deadline: float, what: str) -> None:
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_twenty_workers_are_terminated_under_load_and_nothing_is_lost(
    processes: local.LocalService, tmp_path: Path
) -> None:
    deadline = time.monotonic() + DONE_WITHIN_S
    side = SIDE_BLOCKS * BLOCK_PX
    scene = write_tif(tmp_path / "scene.tif", np.full((side, side, 3), 90, np.uint8), compress="deflate")
    model = write_pixel_model(
        tmp_path / "m.onnx", pixel_contract("m", window_px=BLOCK_PX + 64, halo_px=32), busy_loops=3
    )
    broker, cache = local.start_broker(processes, tmp_path), local.start_cache(processes, tmp_path)
    env = {
        "LANDCOVER_BROKER_URL": broker,
        "LANDCOVER_CACHE_URL": cache,
        "LANDCOVER_MODELS": str(model),
        "LANDCOVER_WORKER_DEVICE": "cpu",
        "LANDCOVER_WORKER_CPU_THREADS": "1",
        "LANDCOVER_LOG_LEVEL": "WARNING",
    }
    fleet = Fleet(env, tmp_path / "workers.log")
    load = Load(connect(broker), connect(cache), blocks_of(scene, model))
    try:
        with load:
            workers = [fleet.start() for _ in range(WORKERS)]
            for _ in range(SIGTERMS):
                oldest = workers.pop(0)
                until(lambda worker=oldest: load.in_hand_of(worker), deadline, "a worker got no block in hand")
                oldest.terminate()
                workers.append(fleet.start())
        terminated = fleet.started[:SIGTERMS]
        for worker in terminated:
            worker.join(max(0.1, deadline - time.monotonic()))
        until(lambda: is_idle(load), deadline, "the rest was not made")
        load.hear()
    finally:
        fleet.stop()
    assert [worker.exitcode for worker in terminated] == [0] * SIGTERMS
    made = {key.decode() for key in load.cache.scan_iter(match="block:*", count=10_000)}
    assert {task.key.block for task in load.queued} - made == set()  # nothing was lost
    assert load.reported == Counter(task.key.text for task in load.queued)  # each was made once
    assert list(load.cache.scan_iter(match="lease:*")) == list(load.cache.scan_iter(match="failure:*")) == []
    assert list(load.broker.scan_iter(match="landcover:attempts:*")) == []
    assert load.broker.hlen(DEAD_LETTERS) == load.broker.hlen("unacked") == 0
    assert fleet.log.read_text() == ""  # no lease lost, nothing given back late, no traceback


def is_idle(load: Load) -> bool:
    """Nothing waits, and nothing is in hand."""
    state = read_queues(load.broker).queues
    return not any(each.waiting or each.in_flight for each in state.values())
