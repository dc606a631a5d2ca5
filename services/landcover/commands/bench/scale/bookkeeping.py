"""What a job of very many blocks costs in memory, disk and time, apart from making them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from landcover.commands.bench.processes import peak_mb
from landcover.commands.bench.scale.parts import (
    DIGEST,
    Stage,
    engine_of,
    indices,
    made_up_grid,
    milliseconds,
    open_stage,
)
from landcover.errors import LandcoverError
from landcover.grid import BlockIndex
from landcover.keys import WORKER_PREFIX
from landcover.mapping.engine import Fields
from landcover.products.spool import FIELDS, Spool

CACHE_MEMORY = "256mb"
SLOTS = 64
"""Of the worker that the finisher says it is."""

MARKS = 20
"""How often memory and rate are noted on the way."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How things stood on the way."""

    blocks: int
    seconds: float
    broker_mb: float
    broker_peak_mb: float
    broker_keys: int
    cache_mb: float
    cache_keys: int
    engine_peak_mb: float
    spool_mb: float


@dataclass(frozen=True, kw_only=True)
class Books:
    """A whole job's bookkeeping."""

    blocks: int
    block_px: int
    bytes_a_block: int
    """What the spool keeps of one."""
    seconds: float
    blocks_per_s: float
    evicted: int
    """Blocks that the cache dropped on the way, of whatever job; none was made again if they had passed on."""
    made: int
    """How often a block was finished."""
    cpu_ms: dict[str, float]
    """Processor time a block, by process."""
    marks: tuple[Mark, ...]


def keep_books(folder: Path, blocks: int, *, block_px: int, blobs: int, advance: Callable[[int], None]) -> Books:
    """Take `blocks` from claim to spool; the cache is far too small for them on purpose.

    Raises:
        LandcoverError: a block is not made, or the disk is full.
    """
    grid = made_up_grid(blocks, block_px)
    with open_stage(folder, cache_memory=CACHE_MEMORY) as stage:
        command = [sys.executable, "-m", "landcover.commands.bench.scale.finisher"]
        stage.service.add("finisher", [*command, "--block-px", str(block_px), "--blobs", str(blobs)], stage.env)
        _announce(stage.broker)
        engine = engine_of(stage, grid)
        marks: list[Mark] = []
        finished = size = 0
        with Spool(folder / "spool", "bench") as spool:
            begin, own, before = time.perf_counter(), time.process_time(), stage.used_s()

            def done(some: Sequence[tuple[BlockIndex, Fields]]) -> None:
                nonlocal finished, size
                spool.put(some)
                size = size or sum(len(some[0][1][name]) for name in FIELDS)
                finished += len(some)
                advance(len(some))
                if finished * MARKS >= blocks * (len(marks) + 1):
                    _announce(stage.broker)
                    marks.append(_mark(stage, finished, time.perf_counter() - begin))

            engine.run(indices(blocks), done=done, failed=_refuse, tick=lambda: None)
            seconds = time.perf_counter() - begin
            cpu_ms = milliseconds(before, stage.used_s(), blocks)
            cpu_ms["engine"] = (time.process_time() - own) * 1000 / blocks
            kept = spool.count()
        if kept != blocks:
            raise RuntimeError(f"the spool holds {kept} blocks, not {blocks}")
        stats: Any = stage.cache.info()
        commands: Any = stage.cache.info("commandstats")
    return Books(
        blocks=blocks,
        block_px=block_px,
        bytes_a_block=size,
        seconds=seconds,
        blocks_per_s=blocks / seconds,
        evicted=int(stats["evicted_keys"]),
        made=int(commands["cmdstat_hset"]["calls"]),
        cpu_ms=cpu_ms,
        marks=tuple(marks),
    )


def _announce(broker: redis.Redis) -> None:
    """Say, for an hour, that there is a worker of so many slots; without one the engine asks for little."""
    presence = {"id": "finisher", "provider": "none", "models": [DIGEST], "queues": ["bulk"], "bulk_slots": SLOTS}
    broker.set(WORKER_PREFIX + "finisher", json.dumps(presence), ex=3600)


def _mark(stage: Stage, blocks: int, seconds: float) -> Mark:
    import os

    broker: Any = stage.broker.info()
    cache: Any = stage.cache.info()
    spool = sum(path.stat().st_size for path in stage.folder.glob("spool*"))
    return Mark(
        blocks=blocks,
        seconds=seconds,
        broker_mb=broker["used_memory"] / 1e6,
        broker_peak_mb=broker["used_memory_peak"] / 1e6,
        broker_keys=stage.broker.dbsize(),
        cache_mb=cache["used_memory"] / 1e6,
        cache_keys=stage.cache.dbsize(),
        engine_peak_mb=peak_mb(os.getpid()),
        spool_mb=spool / 1e6,
    )


def _refuse(index: BlockIndex, error: LandcoverError) -> None:
    raise error
