"""Products as a source of blocks: which are registered, and reading them, in threads of their own."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import RedisError

from landcover.block import Layer
from landcover.errors import ProductUnreadable
from landcover.grid import BlockIndex
from landcover.keys import PRODUCTS
from landcover.products.register import ProductRecord, parse_products
from landcover.products.source import ProductReader, covers
from landcover.settings import ReadSettings
from landcover_api import metrics
from landcover_api.cover import LandCover

logger = logging.getLogger(__name__)

Fields: TypeAlias = dict[str, bytes]
Identity: TypeAlias = tuple[str, str, str, int]
"""Scene, version, digest, decimation: whose blocks a product's are."""

REGISTER_S = 5.0
"""How long the register is believed."""

LOOK_S = 0.5
"""How long a request waits for it; while the broker is silent, what was known before counts."""

SHUNNED_S = 60.0
"""How long a product that could not be read is left alone."""

READING_THREADS = 4
IN_FLIGHT = 8
"""Blocks of one request that are read at a time: what a client that has gone leaves behind is soon over."""

GONE_EVERY_S = 1.0


@dataclass
class Taken:
    """What products gave by the deadline."""

    found: dict[BlockIndex, Fields] = field(default_factory=dict)
    late: set[BlockIndex] = field(default_factory=set)
    """What they have, too, and what is still to be read: not for workers to make."""


class ProductsInUse:
    """The registered products, and what is read from them. One for each process."""

    def __init__(self, broker: Redis, cache: Redis, read: ReadSettings, *, cache_ttl_s: int) -> None:
        self._broker = broker
        self._cache = cache
        self._cache_ttl_s = cache_ttl_s
        self._reader = ProductReader(read)
        self._threads = ThreadPoolExecutor(READING_THREADS, "products")
        self._register: dict[Identity, list[ProductRecord]] = {}
        self._found: Mapping[bytes, bytes] = {}
        self._looked_at = -math.inf
        self._look: asyncio.Task[None] | None = None
        self._shunned: dict[tuple[str, float], float] = {}
        self._reading: dict[str, asyncio.Task[Fields | None]] = {}

    def close(self) -> None:
        """Let the threads go."""
        for task in list(self._reading.values()):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def of(self, cover: LandCover) -> list[ProductRecord]:
        """The products that are good for this land cover, the newest first, as of some seconds ago."""
        if time.monotonic() - self._looked_at >= REGISTER_S and (self._look is None or self._look.done()):
            self._look = asyncio.create_task(self._look_again(), name="look at the products")
        if self._look is not None and not self._look.done():
            await asyncio.wait({self._look}, timeout=LOOK_S)
        return self._usable(cover)

    async def cover_all(self, cover: LandCover) -> bool:
        """Whether there is a product of the whole scene."""
        return any(record.covers_all(cover.grid) for record in await self.of(cover))

    async def take(
        self,
        cover: LandCover,
        indices: Sequence[BlockIndex],
        *,
        until: float,
        gone: Callable[[], Awaitable[bool]] | None = None,
    ) -> Taken:
        """Those of `indices` that products have, read and put into the cache.

        Returns at the latest at `until` (monotonic), or soon after the client is `gone`; what is being read by then
        goes into the cache all the same.
        """
        taken = Taken()
        if not indices or not (records := _near(cover, await self.of(cover), indices)):
            return taken
        rest = deque(index for index in indices if any(covers(record, cover.grid, index) for record in records))
        running: dict[asyncio.Task[Fields | None], BlockIndex] = {}
        asked = time.monotonic()
        while rest or running:
            while rest and len(running) < IN_FLIGHT:
                index = rest.popleft()
                running[self._block(cover, index)] = index
            remaining = until - time.monotonic()
            if remaining <= 0:
                break
            done, _ = await asyncio.wait(
                running, timeout=min(remaining, GONE_EVERY_S), return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                index = running.pop(task)
                if (fields := task.result()) is not None:
                    taken.found[index] = fields
            if gone and time.monotonic() - asked > GONE_EVERY_S:
                asked = time.monotonic()
                if await gone():
                    break
        taken.late = {*rest, *running.values()}
        found = len(taken.found)
        metrics.count_lookups("product", hits=found, misses=len(indices) - found - len(taken.late))
        return taken

    def overview(
        self, cover: LandCover, scale: int, index: BlockIndex, level: int, layers: Sequence[Layer]
    ) -> asyncio.Task[Fields | None]:
        """Layers of an overview of `scale` at its `level`, if a product has it, read and put into the cache.

        The register is as it was when `of` was asked last.
        """
        key = cover.blocks.overview_key(scale, index).overview
        most = cover.model.contract.max_value

        def read(record: ProductRecord) -> Fields | None:
            return self._reader.overview(record, cover.grid, scale, index, level=level, layers=layers, max_value=most)

        return self._once(f"{level}{layers}{key}", partial(self._read, key, cover, index, scale, read))

    def _block(self, cover: LandCover, index: BlockIndex) -> asyncio.Task[Fields | None]:
        key = cover.blocks.key(index).block
        most = cover.model.contract.max_value

        def read(record: ProductRecord) -> Fields | None:
            return self._reader.block(record, cover.grid, index, most)

        return self._once(key, partial(self._read, key, cover, index, 0, read))

    def _once(self, name: str, read: Callable[[], Coroutine[Any, Any, Fields | None]]) -> asyncio.Task[Fields | None]:
        """A reading, one for all who want it; it goes on when they have gone."""
        task = self._reading.get(name)
        if task is None:
            task = asyncio.create_task(read(), name=f"read {name}")
            self._reading[name] = task
            task.add_done_callback(lambda done: forget(self._reading, name, done))
        return task

    async def _read(
        self,
        key: str,
        cover: LandCover,
        index: BlockIndex,
        scale: int,
        read: Callable[[ProductRecord], Fields | None],
    ) -> Fields | None:
        """What `read` gives of the first product that covers it and can be read, put under `key`."""
        for record in self._usable(cover):
            if not covers(record, cover.grid, index, scale):
                continue
            begin = time.perf_counter()
            try:
                fields = await asyncio.get_running_loop().run_in_executor(self._threads, read, record)
            except ProductUnreadable as error:
                self._shun(record)
                logger.warning("%s It is not used for %g s.", error, SHUNNED_S)
                continue
            except Exception:
                self._shun(record)
                logger.exception("product %s cannot be used, and is not for %g s", record.id, SHUNNED_S)
                continue
            if fields is None:
                continue
            metrics.PRODUCT_SECONDS.labels("overview" if scale else "block").observe(time.perf_counter() - begin)
            try:
                async with self._cache.pipeline(transaction=True) as pipe:
                    pipe.hset(key, items=[part for pair in fields.items() for part in pair])
                    pipe.expire(key, self._cache_ttl_s)
                    await pipe.execute()
            except (RedisError, OSError) as error:
                logger.warning("what was read of product %s cannot be kept: %s", record.id, error)
            return fields
        return None

    def _usable(self, cover: LandCover) -> list[ProductRecord]:
        now = time.monotonic()
        records = self._register.get(_identity(cover), [])
        return [each for each in records if self._shunned.get((each.id, each.made_at), 0.0) <= now]

    def _shun(self, record: ProductRecord) -> None:
        self._shunned[record.id, record.made_at] = time.monotonic() + SHUNNED_S

    async def _look_again(self) -> None:
        """Read the register; what is known stays known while the broker is away."""
        try:
            found: Any = await self._broker.hgetall(PRODUCTS)
        except (RedisError, OSError) as error:
            logger.warning("the register of products cannot be read: %s", error)
            return
        finally:
            self._looked_at = time.monotonic()
        if found == self._found:
            return
        register: dict[Identity, list[ProductRecord]] = {}
        for record in parse_products(found):
            register.setdefault((record.scene, record.version, record.digest, record.decimation), []).append(record)
        self._register, self._found, self._shunned = register, found, {}


def forget(tasks: dict[str, asyncio.Task[Fields | None]], key: str, done: asyncio.Task[Fields | None]) -> None:
    """Take a task that is over out of `tasks`; its error is for those who waited, if there are any."""
    del tasks[key]
    if not done.cancelled():
        done.exception()


def _identity(cover: LandCover) -> Identity:
    return cover.scene.id, cover.scene.version, cover.model.digest, cover.grid.decimation


def _near(cover: LandCover, records: Sequence[ProductRecord], indices: Sequence[BlockIndex]) -> list[ProductRecord]:
    """The products that reach into the rectangle around some blocks: asking each for each block could take long."""
    if not records:
        return []
    side = cover.grid.block_px
    top, left = min(index.row for index in indices) * side, min(index.col for index in indices) * side
    bottom, right = (max(index.row for index in indices) + 1) * side, (max(index.col for index in indices) + 1) * side
    return [
        record
        for record in records
        if record.row_px < bottom
        and top < record.row_px + record.height_px
        and record.col_px < right
        and left < record.col_px + record.width_px
    ]
