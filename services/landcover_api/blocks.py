"""Getting blocks: from the cache, from a product, or by asking a worker and waiting for it until a deadline."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from celery import Celery
from kombu.exceptions import OperationalError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from landcover import tracing
from landcover.block_set import BlockSet
from landcover.coordination import CLAIM_SCRIPT, INTEREST_S, LOST_AFTER_S, REQUEUE_AFTER_S, Claim, read_failure
from landcover.errors import LandcoverError
from landcover.grid import BlockIndex
from landcover.keys import BlockKey
from landcover.queue import INTERACTIVE_QUEUE, send_block
from landcover_api import metrics
from landcover_api.cover import LandCover
from landcover_api.products import ProductsInUse
from landcover_api.wakeups import Wakeups

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 1.0
"""How often a waiter looks for itself: a report can be lost, and a worker can die without one."""

SENDING_THREADS = 4
"""Publishing blocks a thread, for seconds when the broker hangs; nothing else shares these."""

QUEUE_LOOK_S = 0.5
"""How long an answer about the queue's length is believed."""


@dataclass
class Fetched:
    """What was there by the deadline."""

    found: dict[BlockIndex, tuple[bytes, ...]] = field(default_factory=dict)
    """The asked fields of each block, in the order asked."""
    failed: dict[BlockIndex, LandcoverError] = field(default_factory=dict)
    missing: set[BlockIndex] = field(default_factory=set)
    """Not there yet."""
    queued: bool = True
    """False if the missing blocks are more than are mapped on demand, so that nothing was asked of workers."""


def parts_of(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """`items` in parts of at most `count`: blocks are read some at a time, so that memory is bounded."""
    rest = iter(items)
    while some := list(islice(rest, count)):
        yield some


class BlockService:
    """Reads blocks from the cache and from products, and has missing ones made. One for each process."""

    def __init__(
        self,
        cache: Redis,
        broker: Redis,
        celery: Celery,
        wakeups: Wakeups,
        products: ProductsInUse,
        *,
        max_missing: int,
    ) -> None:
        self._cache = cache
        self._broker = broker
        self._queues_seen: dict[str, tuple[float, bool]] = {}
        self._celery = celery
        self._wakeups = wakeups
        self._products = products
        self._max_missing = max_missing
        self._claim_script = cache.register_script(CLAIM_SCRIPT)
        self._senders = ThreadPoolExecutor(SENDING_THREADS, "sending")
        self._sendings: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Let the sending threads go."""
        self._senders.shutdown(wait=False, cancel_futures=True)

    async def fetch(
        self,
        cover: LandCover,
        indices: Sequence[BlockIndex],
        fields: Sequence[str],
        *,
        wait_s: float,
        gone: Callable[[], Awaitable[bool]] | None = None,
        queue: str = INTERACTIVE_QUEUE,
    ) -> Fetched:
        """The `fields` of every block of `indices`.

        Those missing are read from products; what no product has is made, by `queue`, if it is not too much. Returns
        once all are there or have failed, at the latest after `wait_s`, or soon after the client is `gone`.

        Raises:
            RedisError: the cache is away.
        """
        deadline = time.monotonic() + wait_s
        blocks = cover.blocks
        answer = Fetched(missing=set(indices))
        with tracing.span("blocks look", attributes={"landcover.blocks": len(answer.missing)}) as span:
            await self._collect(blocks, indices, fields, answer)
            span.set("landcover.blocks_found", len(answer.found))
        metrics.count_lookups("block", hits=len(answer.found), misses=len(answer.missing))
        metrics.BLOCKS.labels("hit").inc(len(answer.found))
        taken = await self._products.take(cover, sorted(answer.missing), until=deadline, gone=gone)
        metrics.BLOCKS.labels("product").inc(len(taken.found))
        for index, values in taken.found.items():
            answer.found[index] = tuple(values[name] for name in fields)
            answer.missing.discard(index)
        lacking = answer.missing - taken.late
        metrics.BLOCKS.labels("miss").inc(len(lacking))
        if len(lacking) > self._max_missing:
            answer.queued = False
        elif lacking:
            await self._have_made(blocks, lacking, fields, answer, deadline, gone, queue)
        return answer

    async def _have_made(
        self,
        blocks: BlockSet,
        lacking: set[BlockIndex],
        fields: Sequence[str],
        answer: Fetched,
        deadline: float,
        gone: Callable[[], Awaitable[bool]] | None,
        queue: str,
    ) -> None:
        """Ask workers for blocks and wait for them."""
        by_text = {blocks.key(index).text: index for index in lacking}
        asked = {"landcover.blocks": len(lacking)}
        waiting = metrics.WAITING.track_inprogress()
        with self._wakeups.watch(by_text) as watch, waiting, tracing.span("blocks wait", attributes=asked):
            due = sorted(lacking)
            while True:
                await self._advance(blocks, due, fields, answer, deadline, queue)
                remaining = deadline - time.monotonic()
                if not lacking & answer.missing or remaining <= 0:
                    return
                woken = await watch.wait(min(remaining, POLL_S))
                if gone and await gone():
                    return
                due = sorted(answer.missing & ({by_text[key] for key in woken} if woken else lacking))
                await self._collect(blocks, due, fields, answer)
                due = [index for index in due if index in answer.missing]

    async def look(self, cover: LandCover, indices: Sequence[BlockIndex], fields: Sequence[str]) -> Fetched:
        """The `fields` of those of `indices` that are in the cache; the others are neither read nor made.

        Raises:
            RedisError: the cache is away.
        """
        answer = Fetched(missing=set(indices), queued=False)
        await self._collect(cover.blocks, indices, fields, answer)
        return answer

    async def _advance(
        self,
        blocks: BlockSet,
        due: Sequence[BlockIndex],
        fields: Sequence[str],
        answer: Fetched,
        deadline: float,
        queue: str,
    ) -> None:
        """Claim each block that is due and act on what that says; what it leaves open the next look finds out."""
        if not due:
            return
        claims = await self._claim([blocks.key(index) for index in due], queue)
        by_claim: dict[Claim, list[BlockIndex]] = {claim: [] for claim in Claim}
        for index, claim in zip(due, claims, strict=True):
            by_claim[claim].append(index)
        if ready := by_claim[Claim.READY]:
            await self._collect(blocks, ready, fields, answer)
            await self._drop(blocks, [index for index in ready if index in answer.missing])  # no whole block
        if failed := by_claim[Claim.FAILED]:
            reasons = await self._cache.mget([blocks.key(index).failure for index in failed])
            for index, reason in zip(failed, reasons, strict=True):
                if reason is not None:  # else it lapsed just now
                    answer.failed[index] = read_failure(reason)
                    answer.missing.discard(index)
        if claimed := by_claim[Claim.CLAIMED]:
            sending = asyncio.create_task(self._send(blocks, claimed, queue))
            self._sendings.add(sending)  # goes on when the client's deadline has come, or the client has gone
            sending.add_done_callback(self._sendings.discard)
            await asyncio.wait({sending}, timeout=max(0.0, deadline - time.monotonic()))

    async def discard(self, cover: LandCover, indices: Iterable[BlockIndex]) -> None:
        """Drop blocks that turned out to be damaged: they are made anew when next asked for."""
        await self._drop(cover.blocks, indices)

    async def _drop(self, blocks: BlockSet, indices: Iterable[BlockIndex]) -> None:
        if keys := [blocks.key(index).block for index in indices]:
            await self._cache.delete(*keys)

    async def _collect(
        self, blocks: BlockSet, indices: Sequence[BlockIndex], fields: Sequence[str], answer: Fetched
    ) -> None:
        async with self._cache.pipeline(transaction=False) as pipe:
            for index in indices:
                pipe.hmget(blocks.key(index).block, list(fields))
            for index, values in zip(indices, await pipe.execute(), strict=True):
                if all(value is not None for value in values):
                    answer.found[index] = tuple(values)
                    answer.missing.discard(index)

    async def _claim(self, keys: Sequence[BlockKey], queue: str) -> list[Claim]:
        requeue_after_s = LOST_AFTER_S if await self._queue_is_empty(queue) else REQUEUE_AFTER_S
        async with self._cache.pipeline(transaction=False) as pipe:
            for key in keys:
                await self._claim_script(
                    keys=[key.block, key.marker, key.lease, key.failure],
                    args=[INTEREST_S * 1000, requeue_after_s * 1000, queue],
                    client=pipe,
                )
            return [Claim(answer.decode()) for answer in await pipe.execute()]

    async def _queue_is_empty(self, queue: str) -> bool:
        """Whether no task waits there for a worker, as of at most half a second ago."""
        now = time.monotonic()
        seen, empty = self._queues_seen.get(queue, (-math.inf, False))
        if now - seen > QUEUE_LOOK_S:
            self._queues_seen[queue] = now, empty
            try:
                empty = await self._broker.llen(queue) == 0
            except (RedisError, OSError):
                empty = False
            self._queues_seen[queue] = now, empty
        return empty

    async def _send(self, blocks: BlockSet, indices: Sequence[BlockIndex], queue: str) -> None:
        """Queue tasks, off the event loop. If the broker is away the claims are given back for a later try."""
        tasks = [blocks.task(index) for index in indices]

        def send() -> None:
            about: dict[str, tracing.Attribute] = {"messaging.destination.name": queue, "landcover.blocks": len(tasks)}
            with tracing.span("blocks send", kind="producer", attributes=about):
                for task in tasks:
                    send_block(self._celery, task, queue=queue)

        try:
            # With the context of the request that asks first: the tasks say for whom they are.
            await asyncio.get_running_loop().run_in_executor(self._senders, copy_context().run, send)
        except (OperationalError, RedisError, OSError) as error:
            logger.warning("tasks cannot be queued: %s", error)
            with suppress(RedisError, OSError):
                await self._cache.delete(*(blocks.key(index).marker for index in indices))
        else:
            metrics.QUEUED.inc(len(tasks))
