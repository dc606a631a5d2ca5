"""From a workload to bytes, hours and money. Every figure that was measured says where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from landcover.planning.workload import Workload

DEMO_MPX_PER_S = 1.4
"""The demonstration model on two CPU cores: a block of 512 px in 0.19 s (docs/benchmarks.md)."""

BLOCK_BYTES_PER_PX = 1.2
"""Of a finished block in the cache or a job's spool: 0.81 to 1.21, of which confidence is 93 % (docs/scale.md)."""

CLASS_BYTES_PER_PX = 0.065
"""Of a product's class map with its overviews (docs/scale.md)."""

CONFIDENCE_BYTES_PER_PX = 1.05
"""Of a product's confidence with its overviews (docs/scale.md)."""

JOB_BLOCKS_PER_S = 100.0
"""What one job's process can claim, fetch, check and keep, on one core and a common disk (docs/scale.md)."""

SERVERS_BLOCKS_PER_S = 1400.0
"""What one cache gets through at 0.7 ms of processor time a block; one broker gets through more (docs/scale.md)."""

WRITER_MPX_PER_S = 20.0
"""What one job's process writes of a class map, on one core; with confidence less than half (docs/scale.md)."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the caller has to say."""

    mpx_per_s: float
    """Million pixels of finished map that one worker makes in a second."""
    basis: str
    """Where that comes from, for people."""
    price_per_hour: float | None = None
    """Of one worker."""
    jobs: int = 1
    """Into how many it is cut, each with a process of its own."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """So many workers at once."""

    workers: int
    mapping_hours: float
    """Until the last block is there; then files are written, and workers are free."""
    bound_by: str
    """What takes so long: `workers`, `imagery` (its server), `job` (the jobs' books) or `servers` (the cache)."""
    hours: float
    """With the writing of files."""
    cost: float | None
    """Of the workers while it is mapped, also when they wait for imagery."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a workload takes."""

    workload: Workload
    rates: Rates
    network_pixels: int
    """That networks see: with halos."""
    read_bytes: float
    """Read at most: nothing of a halo is kept for the neighbour."""
    least_read_bytes: float
    """Read at least: every pixel once."""
    requests: int | None
    """Tiles fetched at most, and …"""
    least_requests: int | None
    """… if each is kept for its neighbours (`LANDCOVER_ORIGIN_CACHE`)."""
    block_bytes: float
    """All finished blocks: a job's spool, and a cache that is to hold the whole map."""
    class_bytes: float
    """The product."""
    confidence_bytes: float
    """The confidence beside it, by option."""
    worker_hours: float
    writing_hours: float
    """Of the class maps of all jobs, after the last block."""
    fleets: tuple[Fleet, ...]


def estimate(workload: Workload, rates: Rates, workers: Sequence[int]) -> Estimate:
    """Work it out for each number of workers."""
    made_px = workload.blocks * workload.block_px**2
    seen_px = workload.blocks * workload.window_px**2
    of_imagery = workload.decimation**2 * workload.imagery.bytes_per_px
    requests, least_requests = _requests(workload)
    worker_hours = made_px / 1e6 / rates.mpx_per_s / 3600
    pace = workload.imagery.requests_per_s
    bounds = {
        "imagery": (least_requests or 0) / pace / 3600 if pace else 0.0,
        "job": workload.blocks / JOB_BLOCKS_PER_S / 3600 / rates.jobs,
        "servers": workload.blocks / SERVERS_BLOCKS_PER_S / 3600,
    }
    writing_hours = workload.pixels / 1e6 / WRITER_MPX_PER_S / 3600 / rates.jobs
    return Estimate(
        workload=workload,
        rates=rates,
        network_pixels=seen_px,
        read_bytes=seen_px * of_imagery,
        least_read_bytes=made_px * of_imagery,
        requests=requests,
        least_requests=least_requests,
        block_bytes=made_px * BLOCK_BYTES_PER_PX,
        class_bytes=workload.pixels * CLASS_BYTES_PER_PX,
        confidence_bytes=workload.pixels * CONFIDENCE_BYTES_PER_PX,
        worker_hours=worker_hours,
        writing_hours=writing_hours,
        fleets=tuple(
            _fleet(count, bounds | {"workers": worker_hours / count}, writing_hours, rates) for count in workers
        ),
    )


def _fleet(workers: int, bounds: Mapping[str, float], writing_hours: float, rates: Rates) -> Fleet:
    """`bounds`: how many hours each thing takes by itself; they go on side by side."""
    bound_by = max(bounds, key=lambda name: bounds[name])
    hours = bounds[bound_by]
    return Fleet(
        workers=workers,
        mapping_hours=hours,
        bound_by=bound_by,
        hours=hours + writing_hours,
        cost=None if rates.price_per_hour is None else hours * workers * rates.price_per_hour,
    )


def _requests(workload: Workload) -> tuple[int | None, int | None]:
    """Tiles fetched for all blocks, if none is kept and if all are; None for imagery that has no tiles."""
    tile_px = workload.imagery.tile_px
    if tile_px is None:
        return None, None
    block, halo = workload.block_px * workload.decimation, workload.halo_px * workload.decimation
    if block % tile_px == 0:  # every block lies alike on the tiles
        side = math.ceil((block + halo) / tile_px) - math.floor(-halo / tile_px)
        most = float(side**2)
    else:
        most = ((block + 2 * halo) / tile_px + 1) ** 2
    return round(workload.blocks * most), round(workload.blocks * (block / tile_px) ** 2)
