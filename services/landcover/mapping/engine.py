"""Having any number of blocks made by workers: some in flight at a time, through the bulk queue.

Whoever asks for a block, map or job, claims it in the same way (`landcover.coordination`), so that none is inferred
twice. What is asked for here goes behind the blocks that maps wait for, and only as much of it is queued as workers
can soon take up: several jobs share them, and one that is dismissed leaves nothing behind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from landcover import block
from landcover.block_set import BlockSet
from landcover.coordination import (
    CLAIM_SCRIPT,
    FAILURE_TTL_S,
    INTEREST_S,
    LOST_AFTER_S,
    REQUEUE_AFTER_S,
    Claim,
    read_failure,
)
from landcover.errors import BlockDamaged, BlockFailed, LandcoverError, SceneChanged
from landcover.grid import BlockIndex
from landcover.keys import DONE_CHANNEL, WORKER_PREFIX
from landcover.presence import parse_presence
from landcover.products.spool import FIELDS
from landcover.queue import BULK_QUEUE, send_blocks

logger = logging.getLogger(__name__)

TRIES = 3
"""Of a block that fails; those a worker has set aside are not asked for again."""

RECLAIM_S = INTEREST_S / 3
"""How often interest in a block is renewed, and what was lost is noticed."""

LOOK_S = 2.0
"""How often workers and the queue are looked at."""

LEAST_IN_FLIGHT = 16
IN_FLIGHT_PER_SLOT = 2
"""Blocks asked for, for each that a worker can hold: one in hand, and one that it finds when that is done."""

AT_ONCE = 64
"""Blocks that are claimed, fetched or kept in one step."""

AWAY_S = 1.0
"""Pause after the cache or the broker could not be reached."""

Fields = Mapping[str, bytes]


@dataclass
class _Asked:
    index: BlockIndex
    due: float
    """When it is to be looked at again (monotonic)."""
    failures: int = 0


@dataclass
class Workers:
    """What is known of those who make blocks."""

    count: int = 0
    slots: int = 0
    """Blocks that they can hold at once."""
    looked_at: float = field(default=-1e9)


class BulkEngine:
    """Asks for blocks and hands over what comes of them. For one thread."""

    def __init__(
        self, cache: redis.Redis, broker: redis.Redis, celery: Celery, blocks: BlockSet, block_px: int
    ) -> None:
        """Of the blocks of `blocks`, each `block_px` a side."""
        self._cache = cache
        self._broker = broker
        self._celery = celery
        self._blocks = blocks
        self._block_px = block_px
        self._claim_script = cache.register_script(CLAIM_SCRIPT)
        self._asked: dict[str, _Asked] = {}
        self._queue_empty = False
        self.workers = Workers()
        """As of a few seconds ago."""
        self.away: str | None = None
        """Why nothing goes on, if the cache or the broker is away."""

    def run(
        self,
        wanted: Iterable[BlockIndex],
        *,
        done: Callable[[Sequence[tuple[BlockIndex, Fields]]], None],
        failed: Callable[[BlockIndex, LandcoverError], None],
        tick: Callable[[], None],
    ) -> None:
        """Have all of `wanted` made, in about that order.

        Args:
            wanted: read lazily, some blocks ahead of what is finished.
            done: is given finished blocks, some at a time.
            failed: is told of each block that cannot be had.
            tick: is called several times a second; what it raises ends the run.

        Raises:
            SceneChanged: the image is no longer the version whose blocks are asked for.
        """
        rest = iter(wanted)
        exhausted = False
        with self._finished_elsewhere() as heard:
            while True:
                tick()
                try:
                    self._look_at_workers()
                    if not exhausted and (room := self._window - len(self._asked)) > 0:
                        fresh = list(islice(rest, min(room, AT_ONCE)))
                        exhausted = not fresh
                        for index in fresh:
                            self._asked[self._blocks.key(index).text] = _Asked(index, due=0.0)
                    if not self._asked and exhausted:
                        return
                    due = self._due(heard(0.0 if self._has_due() else 0.2))
                    for some in _parts(due, AT_ONCE):
                        self._advance(some, done, failed)
                    self.away = None
                except (redis.RedisError, OperationalError, OSError) as error:
                    if self.away is None:
                        logger.warning("the cache or the broker is away: %s", error)
                    self.away = str(error)
                    time.sleep(AWAY_S)

    @property
    def _window(self) -> int:
        return max(LEAST_IN_FLIGHT, IN_FLIGHT_PER_SLOT * self.workers.slots)

    def _has_due(self) -> bool:
        now = time.monotonic()
        return any(each.due <= now for each in self._asked.values())

    def _due(self, heard: Iterable[str]) -> list[str]:
        """What is to be looked at: what was reported, and what has not been for long."""
        now = time.monotonic()
        for text in heard:
            if text in self._asked:
                self._asked[text].due = now
        return [text for text, each in self._asked.items() if each.due <= now]

    def _advance(
        self,
        due: Sequence[str],
        done: Callable[[Sequence[tuple[BlockIndex, Fields]]], None],
        failed: Callable[[BlockIndex, LandcoverError], None],
    ) -> None:
        """Claim each and act on what that says."""
        claims = self._claim(due)
        now = time.monotonic()
        for text in due:
            self._asked[text].due = now + RECLAIM_S
        ready = [text for text, claim in zip(due, claims, strict=True) if claim is Claim.READY]
        if ready:
            self._hand_over(ready, done)
        for text, claim in zip(due, claims, strict=True):
            if claim is Claim.FAILED:
                self._note_failure(text, failed)
        if claimed := [text for text, claim in zip(due, claims, strict=True) if claim is Claim.CLAIMED]:
            self._send(claimed)

    def _claim(self, texts: Sequence[str]) -> list[Claim]:
        requeue_after_s = LOST_AFTER_S if self._queue_empty else REQUEUE_AFTER_S
        with self._cache.pipeline(transaction=False) as pipe:
            for text in texts:
                key = self._blocks.key(self._asked[text].index)
                self._claim_script(
                    keys=[key.block, key.marker, key.lease, key.failure],
                    args=[INTEREST_S * 1000, requeue_after_s * 1000, BULK_QUEUE],
                    client=pipe,
                )
            return [Claim(answer.decode()) for answer in pipe.execute()]

    def _hand_over(self, texts: Sequence[str], done: Callable[[Sequence[tuple[BlockIndex, Fields]]], None]) -> None:
        finished: list[tuple[BlockIndex, Fields]] = []
        with self._cache.pipeline(transaction=False) as pipe:
            for text in texts:
                pipe.hmget(self._blocks.key(self._asked[text].index).block, FIELDS)
            answers: list[list[bytes | None]] = pipe.execute()
        for text, values in zip(texts, answers, strict=True):
            index = self._asked[text].index
            fields = self._checked(values)
            if fields is None:  # dropped just now, or damaged: it is made again
                self._cache.delete(self._blocks.key(index).block)
                self._asked[text].due = 0.0
            else:
                finished.append((index, fields))
        done(finished)
        for index, _ in finished:
            del self._asked[self._blocks.key(index).text]

    def _checked(self, values: Sequence[bytes | None]) -> Fields | None:
        """The maps of a block if both are there and can be decoded."""
        whole = [value for value in values if value is not None]
        if len(whole) < len(values):
            return None
        try:
            for value in whole:
                block.decode(value, self._block_px)
        except BlockDamaged:
            return None
        return dict(zip(FIELDS, whole, strict=True))

    def _note_failure(self, text: str, failed: Callable[[BlockIndex, LandcoverError], None]) -> None:
        asked = self._asked[text]
        reason: Any = self._cache.get(self._blocks.key(asked.index).failure)
        if reason is None:  # it has lapsed just now
            asked.due = 0.0
            return
        error = read_failure(reason)
        if isinstance(error, SceneChanged):
            raise error
        asked.failures += 1
        if asked.failures < TRIES and not isinstance(error, BlockFailed):
            asked.due = time.monotonic() + (FAILURE_TTL_S + 1) * asked.failures
            return
        failed(asked.index, error)
        del self._asked[text]

    def _send(self, texts: Sequence[str]) -> None:
        try:
            send_blocks(self._celery, [self._blocks.task(self._asked[text].index) for text in texts], queue=BULK_QUEUE)
        except BaseException:  # the claims are given back; what was sent all the same is skipped or found made
            self._cache.delete(*(self._blocks.key(self._asked[each].index).marker for each in texts))
            for each in texts:
                self._asked[each].due = 0.0
            raise

    def _look_at_workers(self) -> None:
        now = time.monotonic()
        if now - self.workers.looked_at < LOOK_S:
            return
        keys = list(self._broker.scan_iter(match=WORKER_PREFIX + "*", count=1000))
        documents: Any = self._broker.mget(keys) if keys else []
        able = [
            worker
            for worker in parse_presence(documents)
            if self._blocks.digest in worker.models and BULK_QUEUE in worker.queues
        ]
        self.workers = Workers(len(able), sum(worker.bulk_slots for worker in able), now)
        self._queue_empty = int(self._broker.llen(BULK_QUEUE)) == 0

    @contextmanager
    def _finished_elsewhere(self) -> Iterator[Callable[[float], list[str]]]:
        """A function that waits so long at most and tells which blocks were finished or have failed meanwhile.

        Only a hint, hence lost with a connection: what is asked for is looked at in any case every few seconds.
        """
        subscriber = self._cache.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]

        def heard(wait_s: float) -> list[str]:
            if not subscriber.subscribed:
                subscriber.subscribe(DONE_CHANNEL)
            texts = []
            message = subscriber.get_message(timeout=wait_s)
            while message is not None:
                texts.append(message["data"].decode())
                message = subscriber.get_message(timeout=0.0)
            return texts

        try:
            yield heard
        finally:
            subscriber.close()


def _parts(items: Sequence[str], count: int) -> Iterator[Sequence[str]]:
    return (items[start : start + count] for start in range(0, len(items), count))
