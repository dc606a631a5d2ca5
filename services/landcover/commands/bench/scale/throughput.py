"""Does a worker do as much among many as alone? Real workers whose network sleeps, a real job's engine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from landcover.commands.bench.scale.parts import (
    DIGEST,
    engine_of,
    indices,
    made_up_grid,
    milliseconds,
    open_stage,
    slope,
)
from landcover.errors import LandcoverError
from landcover.grid import BlockIndex
from landcover.keys import WORKER_PREFIX
from landcover.mapping.engine import Fields

BATCH = 8
SLOTS_A_WORKER = 16
BLOCK_PX = 512
START_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """So many workers, each a process."""

    workers: int
    slots: int
    """Blocks in hand at once, of all of them."""
    blocks: int
    blocks_per_s: float
    """Of all of them."""
    share: float
    """A worker's rate, over what its network could do if it never waited."""
    cpu_ms: dict[str, float]
    """Processor time a block, by kind of process."""


def measure_throughput(
    folder: Path, workers: int, *, run_s: float, seconds: float, advance: Callable[[int], None]
) -> Throughput:
    """Have `workers` make blocks for about `seconds`; one run of a network, of up to 8 blocks, takes `run_s`.

    Raises:
        LandcoverError: a worker does not start, or a block is not made.
    """
    blocks = round(workers * BATCH * seconds / run_s)
    command = [sys.executable, "-m", "landcover_worker.simulation", "--digest", DIGEST]
    command += ["--batch", str(BATCH), "--seconds", str(run_s), "--block-px", str(BLOCK_PX)]
    with open_stage(folder) as stage:
        for number in range(workers):
            stage.service.add(f"worker {number}", command, stage.env)
        stage.service.wait_until(lambda: len(stage.broker.keys(WORKER_PREFIX + "*")) == workers, timeout_s=START_S)
        engine = engine_of(stage, made_up_grid(blocks, BLOCK_PX))
        times: list[float] = []

        def done(some: Sequence[tuple[BlockIndex, Fields]]) -> None:
            times.extend([time.perf_counter()] * len(some))
            advance(len(some))

        before, own = stage.used_s(), time.process_time()
        engine.run(indices(blocks), done=done, failed=_refuse, tick=lambda: None)
        cpu_ms = milliseconds(before, stage.used_s(), blocks)
        cpu_ms["engine"] = (time.process_time() - own) * 1000 / blocks
    rate = slope(times)
    return Throughput(
        workers=workers,
        slots=workers * SLOTS_A_WORKER,
        blocks=blocks,
        blocks_per_s=rate,
        share=rate * run_s / BATCH / workers,
        cpu_ms=cpu_ms,
    )


def _refuse(index: BlockIndex, error: LandcoverError) -> None:
    raise error
