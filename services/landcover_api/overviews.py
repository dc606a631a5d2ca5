"""Getting overviews of blocks: from the cache, from a product, or made of what lies below if all of it is there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from redis.asyncio import Redis

from landcover import block, overview
from landcover.block import HISTOGRAM_FIELD, Layer
from landcover.errors import BlockDamaged
from landcover.grid import BlockIndex
from landcover_api import metrics
from landcover_api.cover import LandCover
from landcover_api.products import Fields, ProductsInUse, forget

logger = logging.getLogger(__name__)

MAKING_THREADS = 2
LACKING_S = 3.0
"""How long it is believed that something is missing below an overview."""

MOST_MADE = 64
"""More are not tried for one request: the blocks below each are looked for."""

MOST_BLOCKS_BELOW = 4096
"""An overview that lacks overviews of more blocks is not made: those are, when somebody looks closer."""


@dataclass
class FoundOverviews:
    """What was there by the deadline."""

    found: dict[BlockIndex, tuple[bytes, ...]] = field(default_factory=dict)
    """The field of each layer."""
    late: set[BlockIndex] = field(default_factory=set)
    """Being read or made."""


class OverviewService:
    """Reads overviews, and makes those that can be made without any worker. One for each process."""

    def __init__(self, cache: Redis, products: ProductsInUse, *, cache_ttl_s: int) -> None:
        self._cache = cache
        self._products = products
        self._cache_ttl_s = cache_ttl_s
        self._threads = ThreadPoolExecutor(MAKING_THREADS, "overviews")
        self._lacking: dict[str, float] = {}
        self._making: dict[str, asyncio.Task[Fields | None]] = {}

    def close(self) -> None:
        """Let the threads go."""
        for task in list(self._making.values()):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(
        self,
        cover: LandCover,
        scale: int,
        indices: Sequence[BlockIndex],
        level: int,
        layers: Sequence[Layer],
        *,
        until: float,
    ) -> FoundOverviews:
        """Those of the overviews of `scale` that are to be had by `until` (monotonic): `layers` at their `level`.

        Raises:
            RedisError: the cache is away.
        """
        fields = [block.field(layer, level) for layer in layers]
        answer = FoundOverviews(found=await self._look(_keys(cover, scale, indices), indices, fields))
        metrics.OVERVIEWS.labels("hit").inc(len(answer.found))
        metrics.count_lookups("overview", hits=len(answer.found), misses=len(indices) - len(answer.found))
        if await self._products.of(cover):
            rest = [index for index in indices if index not in answer.found]
            reading = {self._products.overview(cover, scale, index, level, layers): index for index in rest}
            await self._await(reading, fields, answer, until, "product")
        rest = [index for index in indices if index not in answer.found and index not in answer.late]
        if len(rest) <= MOST_MADE:
            making = {self._make_once(cover, scale, index): index for index in rest}
            await self._await(making, fields, answer, until, "made")
        return answer

    async def whole(self, cover: LandCover) -> bool:
        """Whether every zoom can be drawn without any worker."""
        scale = overview.top_scale(cover.grid)
        if await self._products.cover_all(cover):
            return True
        key = cover.blocks.overview_key(scale, BlockIndex(0, 0)).overview
        return scale > 0 and bool(await self._cache.exists(key))

    async def discard(self, cover: LandCover, scale: int, indices: Sequence[BlockIndex]) -> None:
        """Drop overviews that turned out to be damaged: they are made anew when next asked for."""
        if indices:
            await self._cache.delete(*_keys(cover, scale, indices))

    async def _await(
        self,
        tasks: dict[asyncio.Task[Fields | None], BlockIndex],
        fields: Sequence[str],
        answer: FoundOverviews,
        until: float,
        outcome: str,
    ) -> None:
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        for task in done:
            made = task.result()
            if made is not None and all(name in made for name in fields):
                answer.found[tasks[task]] = tuple(made[name] for name in fields)
                metrics.OVERVIEWS.labels(outcome).inc()
        answer.late |= {tasks[task] for task in late}

    async def _look(
        self, keys: Sequence[str], indices: Sequence[BlockIndex], fields: Sequence[str]
    ) -> dict[BlockIndex, tuple[bytes, ...]]:
        async with self._cache.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, list(fields))
            answers = await pipe.execute()
        return {
            index: tuple(values)
            for index, values in zip(indices, answers, strict=True)
            if all(value is not None for value in values)
        }

    def _make_once(self, cover: LandCover, scale: int, index: BlockIndex) -> asyncio.Task[Fields | None]:
        """The making of an overview, one for all who want it."""
        key = cover.blocks.overview_key(scale, index).overview
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(cover, scale, index, key), name=f"make {key}")
            self._making[key] = task
            task.add_done_callback(lambda done: forget(self._making, key, done))
        return task

    async def _make(self, cover: LandCover, scale: int, index: BlockIndex, key: str) -> Fields | None:
        """Make it if all that lies below is in the cache, overviews below it first."""
        now = time.monotonic()
        if self._lacking.get(key, 0.0) > now:
            return None
        below = overview.children(cover.grid, scale, index)
        parts = await self._below(cover, scale, below)
        if parts is None:
            self._lacking = {each: until for each, until in self._lacking.items() if until > now}
            self._lacking[key] = now + LACKING_S
            return None
        try:
            made = await asyncio.get_running_loop().run_in_executor(
                self._threads,
                overview.combine, parts, index, scale, cover.grid.block_px, cover.model.contract.max_value,
            )  # fmt: skip
        except BlockDamaged as error:
            logger.warning("below an overview: %s", error)
            await self._cache.delete(*_keys(cover, scale - 1, below))
            return None
        async with self._cache.pipeline(transaction=True) as pipe:
            pipe.hset(key, items=[part for pair in made.items() for part in pair])
            pipe.expire(key, self._cache_ttl_s)
            await pipe.execute()
        return made

    async def _below(
        self, cover: LandCover, scale: int, below: Sequence[BlockIndex]
    ) -> dict[BlockIndex, tuple[bytes, ...]] | None:
        """The parts of which an overview is made; None if one is not there and cannot be made."""
        keys = _keys(cover, scale - 1, below)
        if scale == 1:
            if await self._cache.exists(*keys) < len(below):
                return None
        else:
            async with self._cache.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hexists(key, HISTOGRAM_FIELD)  # what a product gave has none
                there = await pipe.execute()
            lacking = [index for index, known in zip(below, there, strict=True) if not known]
            if len(lacking) * overview.FANOUT ** (2 * (scale - 1)) > MOST_BLOCKS_BELOW:
                return None
            for index in lacking:
                if await self._make_once(cover, scale - 1, index) is None:
                    return None
        parts = await self._look(keys, below, overview.parts_needed(cover.grid.max_level))
        return parts if len(parts) == len(below) else None


def _keys(cover: LandCover, scale: int, indices: Sequence[BlockIndex]) -> list[str]:
    """Where the cache keeps overviews, or at scale 0 blocks."""
    blocks = cover.blocks
    if scale == 0:
        return [blocks.key(index).block for index in indices]
    return [blocks.overview_key(scale, index).overview for index in indices]
