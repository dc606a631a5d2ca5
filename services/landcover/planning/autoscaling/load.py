"""What is asked for in a day: views that people open, and jobs. Only blocks that no cache holds are load."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0
MORNING_S, EVENING_S = 6 * 3600.0, 22 * 3600.0
"""Between which people look at maps: sin² of the hour, highest in the middle; outside of it hardly anybody does."""
NIGHT_SHARE = 0.0002
"""Of the busiest moment's views, in the night: one in two hours, at the default."""


@dataclass(frozen=True, slots=True)
class Job:
    """Blocks that somebody wants, but does not look at while they are made."""

    start_s: float
    blocks: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """Tiles by the time at which they are asked for, and jobs."""

    tile_s: NDArray[np.float64]
    """When each tile is asked for, seconds from the start, rising."""
    tile_blocks: NDArray[np.int64]
    """Missing blocks that it waits for."""
    jobs: tuple[Job, ...]
    lasts_s: float
    """Workers are paid for until then at least."""

    @property
    def interactive_blocks(self) -> int:
        """Of all tiles."""
        return int(self.tile_blocks.sum())

    @property
    def bulk_blocks(self) -> int:
        """Of all jobs."""
        return sum(job.blocks for job in self.jobs)


JOBS = (Job(2 * 3600.0, 40_000), Job(10.5 * 3600.0, 15_000), Job(15 * 3600.0, 30_000), Job(15.2 * 3600.0, 5_000))
"""One at night, one in the morning, two that meet in the busiest hours."""


def a_day(
    *,
    seed: int,
    views_per_s: float = 0.8,
    tiles_per_view: int = 8,
    blocks_per_tile: int = 2,
    jobs: tuple[Job, ...] = JOBS,
) -> Load:
    """A day of people and jobs.

    Args:
        seed: the same gives the same day.
        views_per_s: opened at the busiest moment, a Poisson process; each asks for its tiles at once.
        tiles_per_view: of those that it shows, so many lack blocks.
        blocks_per_tile: that it lacks.
        jobs: beside the people.
    """
    random = np.random.default_rng(seed)
    candidates = np.sort(random.uniform(0, DAY_S, random.poisson(views_per_s * DAY_S)))
    views = candidates[random.uniform(size=candidates.size) < _busyness(candidates)]
    tiles = np.repeat(views, tiles_per_view)
    return Load(tile_s=tiles, tile_blocks=np.full(tiles.size, blocks_per_tile), jobs=jobs, lasts_s=DAY_S)


def _busyness(time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the busiest moment's views, 0 to 1."""
    through = (time_s - MORNING_S) / (EVENING_S - MORNING_S)
    day = np.where((through > 0) & (through < 1), np.sin(np.pi * through) ** 2, 0.0)
    return np.maximum(day, NIGHT_SHARE)
