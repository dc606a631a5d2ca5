"""A worker for measuring everything but work: tasks, leases, batches, broker and cache are real, the network sleeps.

    python -m landcover_worker.simulation --digest sha256:… [--batch 8] [--seconds 1]

`landcover bench scale` starts it. No image is read; the blocks that it makes are all the same and say nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from landcover import block
from landcover.coordination import BlockDesk
from landcover.logs import configure_logging
from landcover.queue import BlockTask
from landcover.settings import ReadSettings
from landcover_worker.batching import Batcher
from landcover_worker.maker import BlockMaker, Made
from landcover_worker.probes import open_probes
from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.service import serve, slots_for
from landcover_worker.settings import WorkerSettings
from landcover_worker.supervision import BlockInHand, BlocksInHand

_WINDOW = np.zeros((1, 1, 3), np.uint8)


class SleepingMaker(BlockMaker):
    """Takes blocks up, batches and stores them as a worker does; its network sleeps."""

    def __init__(self, desk: BlockDesk, in_hand: BlocksInHand, *, batch: int, seconds: float, block_px: int) -> None:
        super().__init__(desk=desk, in_hand=in_hand, network_of=lambda _: None, read=ReadSettings(), max_attempts=3)
        self._seconds = seconds
        self._batcher = Batcher(self._run, batch, "sleep")
        flat = np.ones((block_px, block_px), np.uint8)
        self._made = Made(block.encode(flat, flat, 1), flat.size)

    def _run(self, windows: Sequence[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        time.sleep(self._seconds)
        pixels = np.stack(windows)[..., 0]
        return pixels, pixels

    def _compute(self, task: BlockTask, held: BlockInHand, *, alone: bool, urgent: bool) -> Made:
        held.wait()
        self._batcher.infer(_WINDOW, on_start=partial(held.enter, "infer"), alone=alone, urgent=urgent)
        return self._made


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="A worker whose network sleeps, to measure coordination.")
    parser.add_argument("--digest", required=True, help="of the model that it says it has")
    parser.add_argument("--batch", type=int, default=8, help="windows in one run of the network (default: 8)")
    parser.add_argument("--seconds", type=float, default=1.0, help="one run takes so long (default: 1)")
    parser.add_argument("--block-px", type=int, default=512, help="side of a block (default: 512)")
    arguments = parser.parse_args()
    configure_logging("WARNING")
    settings = WorkerSettings()
    serve(
        settings,
        partial(SleepingMaker, batch=arguments.batch, seconds=arguments.seconds, block_px=arguments.block_px),
        open_probes(settings),
        models=(arguments.digest,),
        provider="sleep",
        slots=slots_for(arguments.batch),
    )


if __name__ == "__main__":
    main()
