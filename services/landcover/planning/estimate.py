"""From a workload to bytes, hours and money. Every figure that was measured says where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from landcover.planning.workload import Workload

DEMO_MPX_PER_S = 1.4
"""The demonstration model on two CPU cores: a block of 512 px in 0.19 s (docs/benchmarks.md)."""

BLOCK_BYTES_PER_PX = 1.2
"""Of a finished block in the cache or a job's spool: 0.81 to 1.21, of which confidence is 93 % (docs/scale.md)."""

CLASS_BYTES_PER_PX = 0.08
"""Of a product's class map with its overviews (docs/scale.md)."""

CONFIDENCE_BYTES_PER_PX = 1.1
"""Of a product's confidence with its overviews (docs/scale.md)."""

JOB_BLOCKS_PER_S = 100.0
"""What one job's process can claim, fetch, check and keep, on one core and a common disk (docs/scale.md)."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the caller has to say."""

    mpx_per_s: float
    """Million pixels of finished map that one worker makes in a second."""
    basis: str
    """Where that comes from, for people."""
    price_per_hour: float | None = None
    """Of one worker."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """So many workers at once."""

    workers: int
    hours: float
    bound_by: str
    """What takes so long: `workers`, `imagery` (its server's pace) or `job` (the books of one job)."""
    cost: float | None
    """Of the workers, also while they wait for imagery."""


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
    fleets: tuple[Fleet, ...]


def estimate(workload: Workload, rates: Rates, workers: Sequence[int]) -> Estimate:
    """Work it out for each number of workers."""
    made_px = workload.blocks * workload.block_px**2
    seen_px = workload.blocks * workload.window_px**2
    of_imagery = workload.decimation**2 * workload.imagery.bytes_per_px
    requests, least_requests = _requests(workload)
    worker_hours = made_px / 1e6 / rates.mpx_per_s / 3600
    pace = workload.imagery.requests_per_s
    waiting_h = (least_requests or 0) / pace / 3600 if pace else 0.0
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
        fleets=tuple(_fleet(count, workload, worker_hours, waiting_h, rates.price_per_hour) for count in workers),
    )


def _fleet(
    workers: int, workload: Workload, worker_hours: float, waiting_h: float, price_per_hour: float | None
) -> Fleet:
    bounds = {
        "workers": worker_hours / workers,
        "imagery": waiting_h,
        "job": workload.blocks / JOB_BLOCKS_PER_S / 3600,
    }
    bound_by = max(bounds, key=lambda name: bounds[name])
    hours = bounds[bound_by]
    return Fleet(
        workers=workers,
        hours=hours,
        bound_by=bound_by,
        cost=None if price_per_hour is None else hours * workers * price_per_hour,
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
