"""What both measurements stand on: a broker, a cache, a job's engine, and what each process has used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from affine import Affine
from pyproj import CRS

from landcover import local
from landcover.block_set import BlockSet
from landcover.commands.bench.processes import processor_s
from landcover.connections import connect
from landcover.grid import BlockIndex, Grid
from landcover.mapping.engine import BulkEngine
from landcover.queue import make_celery
from landcover.scene import SceneSource

DIGEST = "sha256:" + "0" * 64
"""Of the model that nobody has."""

VERSION = "0" * 16
COLS = 1000
"""Of the made-up scene."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A broker and a cache of this machine."""

    service: local.LocalService
    folder: Path
    env: Mapping[str, str]
    broker: redis.Redis
    cache: redis.Redis

    def used_s(self) -> dict[str, float]:
        """Processor time of every process so far, seconds, by name."""
        return {child.name: processor_s(child.process.pid) for child in self.service.children if child.process}


@contextmanager
def open_stage(folder: Path, *, cache_memory: str = "1gb") -> Iterator[Stage]:
    """The servers, with nothing in them; every process ends with the body."""
    folder.mkdir()
    kept = {"maxmemory": cache_memory, "maxmemory-policy": "allkeys-lru", "save": "", "appendonly": "no"}
    service = local.LocalService()
    try:
        env = {
            "LANDCOVER_BROKER_URL": local.start_broker(service, folder),
            "LANDCOVER_CACHE_URL": local.start_valkey(service, "cache", folder / "cache", kept),
        }
        broker, cache = connect(env["LANDCOVER_BROKER_URL"]), connect(env["LANDCOVER_CACHE_URL"])
        yield Stage(service=service, folder=folder, env=env, broker=broker, cache=cache)
    finally:
        service.stop()


def engine_of(stage: Stage, grid: Grid) -> BulkEngine:
    """The engine of a job that maps the made-up scene."""
    source = SceneSource(id="nowhere", location="/nowhere.tif")
    blocks = BlockSet(source=source, version=VERSION, digest=DIGEST, decimation=1)
    return BulkEngine(stage.cache, stage.broker, make_celery(stage.env["LANDCOVER_BROKER_URL"]), blocks, grid.block_px)


def made_up_grid(blocks: int, block_px: int, *, cols: int = COLS) -> Grid:
    """A grid of so many blocks, or a few more."""
    return Grid(
        crs=CRS.from_epsg(3857).to_wkt(),
        transform=Affine(0.5, 0, 0, 0, -0.5, 0),
        width_px=cols * block_px,
        height_px=-(-blocks // cols) * block_px,
        decimation=1,
        block_px=block_px,
        gsd_m=0.5,
    )


def indices(count: int, *, cols: int = COLS) -> Iterator[BlockIndex]:
    """The first blocks of it, row by row."""
    return (BlockIndex(number // cols, number % cols) for number in range(count))


def milliseconds(before: Mapping[str, float], after: Mapping[str, float], blocks: int) -> dict[str, float]:
    """Processor time a block of each process, milliseconds; of processes of one kind (`worker 1`, …) together."""
    sums: dict[str, float] = {}
    for name, used in after.items():
        kind = name.split(" ")[0]
        sums[kind] = sums.get(kind, 0.0) + (used - before[name]) * 1000 / blocks
    return sums


def slope(times: Sequence[float]) -> float:
    """Events a second, of the middle three fifths of them: the least-squares slope of their count over time."""
    import numpy as np

    skip = len(times) // 5
    middle = np.array(times[skip : len(times) - skip])
    return float(np.polyfit(middle - middle[0], np.arange(len(middle)), 1)[0])
