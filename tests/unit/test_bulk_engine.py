"""The engine of jobs on real servers, with workers whose part a test plays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from landcover import block
from landcover.block_set import BlockSet
from landcover.coordination import Begin, BlockDesk
from landcover.errors import BlockFailed, LandcoverError, SceneChanged, SceneUnreadable
from landcover.grid import BlockIndex
from landcover.mapping import engine as engine_module
from landcover.mapping.engine import LEAST_IN_FLIGHT, BulkEngine
from landcover.presence import PresenceKeeper, WorkerPresence
from landcover.queue import BULK_QUEUE, BlockTask, make_celery
from landcover.scene import SceneSource
from servers import Servers

DIGEST = "sha256:" + "0" * 64
BLOCKS = BlockSet(source=SceneSource(id="scene", location="/scene.tif"), version="v", digest=DIGEST, decimation=1)
SIDE = 8
FIELDS = block.encode(np.ones((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 9, np.uint8), 8)
WANTED = [BlockIndex(row, col) for row in range(10) for col in range(10)]


@dataclass
class PlayedWorker:
    """Takes tasks and says what becomes of them."""

    servers: Servers
    outcome: Callable[[BlockIndex], LandcoverError | None] = lambda _: None
    slots: int = 4
    taken: list[BlockIndex] = field(default_factory=list)
    most_queued: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> PlayedWorker:
        presence = WorkerPresence(
            id="played", provider="none", models=(DIGEST,), queues=(BULK_QUEUE,), bulk_slots=self.slots
        )
        self._keeper = PresenceKeeper(self.servers.broker, presence)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._keeper.close()

    def _work(self) -> None:
        desk = BlockDesk(self.servers.cache, self.servers.broker, worker="played", block_ttl_s=100)
        with celery(self.servers).connection_for_read() as connection:
            queue = connection.SimpleQueue(BULK_QUEUE)
            while not self._stop.is_set():
                self.most_queued = max(self.most_queued, self.servers.broker.llen(BULK_QUEUE))
                try:
                    message = queue.get(timeout=0.05)
                except queue.Empty:
                    continue
                message.ack()
                task = BlockTask.model_validate(message.payload[1])
                if desk.begin(task.key) is not Begin.RUN:
                    continue
                index = BlockIndex(task.row, task.col)
                self.taken.append(index)
                error = self.outcome(index)
                if error is None:
                    desk.finish(task.key, FIELDS)
                elif isinstance(error, BlockFailed):
                    desk.bury(task.key, task.model_dump(mode="json"), error)
                else:
                    desk.fail(task.key, error)
            queue.close()


def celery(servers: Servers):
    return make_celery("redis://{host}:{port}/0".format(**servers.broker.connection_pool.connection_kwargs))


@dataclass
class Ended:
    done: dict[BlockIndex, Mapping[str, bytes]] = field(default_factory=dict)
    failed: dict[BlockIndex, LandcoverError] = field(default_factory=dict)


def run(servers: Servers, wanted: Sequence[BlockIndex] = WANTED, tick: Callable[[], None] = lambda: None) -> Ended:
    ended = Ended()
    engine = BulkEngine(servers.cache, servers.broker, celery(servers), BLOCKS, SIDE)
    engine.run(wanted, done=ended.done.update, failed=ended.failed.__setitem__, tick=tick)
    return ended


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engine_module, "LOOK_S", 0.1)
    monkeypatch.setattr("landcover.coordination.FAILURE_TTL_S", 1)
    monkeypatch.setattr(engine_module, "FAILURE_TTL_S", 0)
    yield


def test_every_block_is_made_once_and_few_are_queued(servers: Servers) -> None:
    with PlayedWorker(servers) as worker:
        ended = run(servers)
    assert sorted(ended.done) == WANTED
    assert sorted(worker.taken) == WANTED
    assert worker.most_queued <= LEAST_IN_FLIGHT
    assert ended.done[WANTED[0]] == {name: FIELDS[name] for name in ("c0", "q0")}
    assert not list(servers.cache.scan_iter(match="marker:*"))


def test_what_is_there_is_not_asked_for(servers: Servers) -> None:
    desk = BlockDesk(servers.cache, servers.broker, worker="before", block_ttl_s=100)
    for index in WANTED[:50]:
        desk.finish(BLOCKS.key(index), FIELDS)
    with PlayedWorker(servers) as worker:
        ended = run(servers)
    assert sorted(ended.done) == WANTED
    assert sorted(worker.taken) == WANTED[50:]


@pytest.mark.parametrize("damage", [{}, {"c0": b"rubbish"}, {"q0": FIELDS["c1"]}])
def test_a_block_that_is_not_whole_is_made_again(servers: Servers, damage: dict[str, bytes]) -> None:
    fields = {**FIELDS, **damage} if damage else {"h": FIELDS["h"]}
    servers.cache.hset(BLOCKS.key(WANTED[3]).block, mapping=fields)
    with PlayedWorker(servers) as worker:
        ended = run(servers, WANTED[:5])
    assert sorted(worker.taken) == WANTED[:5]
    assert ended.done[WANTED[3]]["c0"] == FIELDS["c0"]


def test_a_block_that_fails_is_tried_thrice_and_told_of(servers: Servers) -> None:
    bad = WANTED[7]
    with PlayedWorker(servers, lambda index: SceneUnreadable("torn") if index == bad else None) as worker:
        ended = run(servers, WANTED[:20])
    assert sorted(ended.done) == [index for index in WANTED[:20] if index != bad]
    assert str(ended.failed[bad]) == "torn"
    assert worker.taken.count(bad) == 3


def test_a_block_that_was_set_aside_is_not_asked_for_again(servers: Servers) -> None:
    with PlayedWorker(servers, lambda _: BlockFailed("poison")) as worker:
        ended = run(servers, WANTED[:2])
    assert sorted(ended.failed) == WANTED[:2]
    assert sorted(worker.taken) == WANTED[:2]


def test_one_that_recovers_is_no_failure(servers: Servers) -> None:
    failed = set()

    def once(index: BlockIndex) -> LandcoverError | None:
        if index in failed:
            return None
        failed.add(index)
        return SceneUnreadable("for a moment")

    with PlayedWorker(servers, once):
        ended = run(servers, WANTED[:4])
    assert sorted(ended.done) == WANTED[:4]
    assert not ended.failed


def test_a_replaced_image_ends_the_run(servers: Servers) -> None:
    with PlayedWorker(servers, lambda _: SceneChanged("replaced")), pytest.raises(SceneChanged):
        run(servers)


def test_what_the_tick_raises_ends_the_run(servers: Servers) -> None:
    """Without any worker: a run waits, and can be stopped."""
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(servers, tick=tick)
    assert servers.broker.llen(BULK_QUEUE) == LEAST_IN_FLIGHT
