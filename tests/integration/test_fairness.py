"""A worker full of a job's blocks has the block that a person waits for in the next batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from landcover import local
from landcover.block_set import BlockSet
from landcover.connections import connect
from landcover.contract import read_model
from landcover.coordination import CLAIM_SCRIPT
from landcover.grid import BlockIndex
from landcover.keys import DONE_CHANNEL, WORKER_PREFIX
from landcover.presence import parse_presence
from landcover.queue import BULK_QUEUE, INTERACTIVE_QUEUE, make_celery, send_block
from landcover.scene import SceneSource, current_version
from landcover.settings import ReadSettings
from onnx_models import pixel_contract, write_pixel_model
from rasters import noise, write_tif

BATCH, SLOTS = 2, 8
SIDE = 6
LOOPS = 25
"""A run of the network takes a few hundred milliseconds; reading a window takes ten."""


class Desk:
    """Claims blocks of a scene, queues them, and hears of their ends."""

    def __init__(self, cache_url: str, broker_url: str, blocks: BlockSet) -> None:
        self.blocks = blocks
        self.broker = connect(broker_url)
        self._cache = connect(cache_url)
        self._claim = self._cache.register_script(CLAIM_SCRIPT)
        self._celery = make_celery(broker_url)
        self._ends = self._cache.pubsub(ignore_subscribe_messages=True)
        self._ends.subscribe(DONE_CHANNEL)

    def ask(self, index: BlockIndex, queue: str) -> None:
        key = self.blocks.key(index)
        claim = self._claim(
            keys=[key.block, key.marker, key.lease, key.failure], args=[120_000, 120_000, queue]
        ).decode()
        assert claim == "claimed"
        send_block(self._celery, self.blocks.task(index), queue=queue)

    def in_hand(self) -> int:
        """Blocks whose lease a worker holds."""
        return len(self._cache.keys("lease:*"))

    def next_end(self) -> str:
        """The next block that is finished."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if message := self._ends.get_message(timeout=1):
                return message["data"].decode()
        raise AssertionError("no block is finished")

    def ends_until(self, index: BlockIndex) -> list[str]:
        """The blocks finished before that one."""
        ends = []
        while (end := self.next_end()) != self.blocks.key(index).text:
            ends.append(end)
        return ends


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A worker of batches of two, with eight slots a queue, and a scene of 36 blocks."""
    contract = pixel_contract("slow", window_px=128, halo_px=32)
    model = read_model(write_pixel_model(tmp_path / "slow.onnx", contract, busy_loops=LOOPS))
    side = SIDE * contract.block_px
    source = SceneSource(id="scene", location=str(write_tif(tmp_path / "scene.tif", noise(side, side))))
    processes = local.LocalService()
    try:
        env = {
            "LANDCOVER_BROKER_URL": local.start_broker(processes, tmp_path),
            "LANDCOVER_CACHE_URL": local.start_cache(processes, tmp_path),
            "LANDCOVER_MODELS": str(model.path),
            "LANDCOVER_WORKER_MAX_BATCH": str(BATCH),
            "LANDCOVER_WORKER_THREADS": str(SLOTS),
            "LANDCOVER_WORKER_CPU_THREADS": "1",
        }
        processes.add("worker", local.landcover_command("worker"), env)
        version = current_version(source, ReadSettings())
        blocks = BlockSet(source=source, version=version, digest=model.digest, decimation=1)
        desk = Desk(env["LANDCOVER_CACHE_URL"], env["LANDCOVER_BROKER_URL"], blocks)
        processes.wait_until(lambda: bool(workers(desk.broker)), timeout_s=120)
        yield desk
    finally:
        processes.stop()


def workers(broker: redis.Redis) -> list[bytes]:
    return broker.keys(WORKER_PREFIX + "*")


def test_a_saturating_job_delays_a_person_by_one_batch(desk: Desk) -> None:
    """Of three blocks asked for while thirty of a job wait, none comes after more than the batch that ran.

    Without an order at the network it would be eight slots' worth. One batch more is allowed for: the one whose blocks
    are being stored when the person asks, or that begins while the person's window is read.
    """
    (presence,) = parse_presence(desk.broker.mget(workers(desk.broker)))
    assert presence.bulk_slots == SLOTS
    job = [BlockIndex(row, col) for row in range(SIDE - 1) for col in range(SIDE)]
    for index in job:
        desk.ask(index, BULK_QUEUE)
    finished, in_hand = [], []
    for _ in range(2 * BATCH):
        finished.append(desk.next_end())
        in_hand.append(desk.in_hand())
    assert SLOTS - BATCH <= max(in_hand) <= SLOTS  # the worker is full, and half of its threads are free
    for col in range(3):
        asked = BlockIndex(SIDE - 1, col)
        desk.ask(asked, INTERACTIVE_QUEUE)
        before = desk.ends_until(asked)
        assert len(before) <= 2 * BATCH, before
        finished += before
    assert len(finished) < len(job)  # the job still saturated the worker
    finished += [desk.next_end() for _ in range(len(job) - len(finished))]
    assert sorted(finished) == sorted(desk.blocks.key(index).text for index in job)


def test_a_person_may_want_what_a_job_has_queued(desk: Desk) -> None:
    """The last block of the job is made for the person at once, and for the job no second time."""
    job = [BlockIndex(row, col) for row in range(SIDE - 2) for col in range(SIDE)]
    for index in job:
        desk.ask(index, BULK_QUEUE)
    finished = [desk.next_end() for _ in range(2 * BATCH)]
    desk.ask(job[-1], INTERACTIVE_QUEUE)
    before = desk.ends_until(job[-1])
    assert len(before) <= 2 * BATCH, before
    finished += [*before, desk.blocks.key(job[-1]).text]
    finished += [desk.next_end() for _ in range(len(job) - len(finished))]
    assert sorted(finished) == sorted(desk.blocks.key(index).text for index in job)
