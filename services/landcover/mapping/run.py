"""One map from its first block to its last file, by whoever has the time: a job's process or the command line.

Everything that was finished is in the spool beside the product, so that a run that was killed at any moment goes on
where it was: no block that is there is asked for again, and files appear whole or not at all.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis
from celery import Celery

from landcover import __version__
from landcover.block_set import BlockSet
from landcover.errors import BlockFailed, LandcoverError, SceneChanged
from landcover.grid import GRID_VERSION, BlockIndex
from landcover.mapping.engine import BulkEngine, Fields
from landcover.mapping.request import count_blocks
from landcover.products.spec import Outputs, ProductSpec
from landcover.products.spool import Spool
from landcover.products.write import ProductFile, check_installed, write_products
from landcover.scene import current_version, public_location
from landcover.settings import ReadSettings

logger = logging.getLogger(__name__)

RATE_OVER_S = 60.0
MOST_FAILURES = 100
"""Without leave to have holes, a run ends early when so many blocks cannot be had: the image is broken, or away."""

MAPPING_SHARE = 0.9
"""Of the progress; the rest is the writing of files."""


@dataclass
class Progress:
    """How far a run is."""

    total: int = 0
    """Blocks that the product needs."""
    done: int = 0
    found: int = 0
    """Of these, there when the run began."""
    failures: dict[BlockIndex, str] = field(default_factory=dict)
    """Blocks that cannot be had, and why."""
    stage: str = "mapping"
    stage_share: float = 0.0
    """Of a stage after the mapping, 0..1."""
    trouble: str | None = None
    """Why nothing goes on at the moment."""
    _percent: int = 0
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, count: int) -> None:
        """So many blocks more are finished."""
        self.done += count
        self._marks.append((time.monotonic(), self.done))

    @property
    def percent(self) -> int:
        """Never 100: that is for what has ended. Never less than before: files are written one after the other."""
        mapped = self.done / max(self.total, 1)
        written = self.stage_share if self.stage != "mapping" else 0.0
        now = min(99, int(100 * (MAPPING_SHARE * mapped + (1 - MAPPING_SHARE) * written)))
        self._percent = max(self._percent, now)
        return self._percent

    @property
    def rate(self) -> float | None:
        """Blocks a second over the last minute."""
        now = time.monotonic()
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_OVER_S:
            self._marks.popleft()
        if len(self._marks) < 2:
            return None
        (begin, before), (_, after) = self._marks[0], self._marks[-1]
        return (after - before) / max(now - begin, 1e-3)

    @property
    def eta_s(self) -> float | None:
        """Seconds until all blocks are there, by the measured rate; None while there is none."""
        left = self.total - self.done - len(self.failures)
        rate = self.rate
        return round(left / rate, 1) if rate else None

    @property
    def message(self) -> str:
        """A sentence."""
        if self.stage != "mapping":
            return f"{self.stage} ({self.stage_share:.0%})"
        text = f"{self.done} of {self.total} blocks"
        if self.failures:
            text += f", {len(self.failures)} cannot be had"
        return f"{text}; {self.trouble}" if self.trouble else text


class MapRun:
    """Maps one product's blocks into its spool, and writes its files."""

    def __init__(
        self,
        spec: ProductSpec,
        *,
        cache: redis.Redis,
        broker: redis.Redis,
        celery: Celery,
        spool: Path,
        read: ReadSettings,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare a run.

        Args:
            spec: what is to be made.
            cache: where finished blocks are.
            broker: where tasks are queued.
            celery: the application that sends them.
            spool: file for the finished blocks of this product.
            read: for the last look at the image's version.
            check: called several times a second; what it raises ends the run, with everything kept.
        """
        self._spec = spec
        self._read = read
        self._check = check
        blocks = BlockSet.of(spec.scene, spec.model, spec.grid)
        self._engine = BulkEngine(cache, broker, celery, blocks, spec.grid.block_px)
        self._spool_path = spool
        self.progress = Progress()

    def run(self, destination: str, outputs: Outputs, *, allow_missing: bool) -> list[ProductFile]:
        """Map what is missing and write the product. The spool stays, to be removed when the product is known of.

        Raises:
            SceneChanged: the image was replaced meanwhile.
            BlockFailed: blocks cannot be had (`progress.failures`), and there is no leave for holes.
            DestinationUnwritable: there is no room, or no permission.
            InvalidConfiguration: a package that writes what is asked for is not installed.
        """
        check_installed(outputs)
        spec = self._spec
        identity = f"g{GRID_VERSION}:{spec.scene.id}:{spec.scene.version}:{spec.model.digest}:{spec.grid.decimation}"
        with Spool(self._spool_path, identity) as spool:
            self._map(spool, allow_missing)
            if current_version(spec.scene.source, self._read) != spec.scene.version:
                raise SceneChanged(
                    f"{public_location(spec.scene.source)} was replaced while it was mapped; begin anew for its new "
                    "version: no file mixes the two."
                )
            return write_products(
                spec,
                spool,
                destination,
                outputs,
                holes=self.progress.failures,
                provenance={"software": f"landcover-tiles {__version__}"},
                work_folder=self._spool_path.parent,
                on_progress=self._write_progress,
            )

    def _map(self, spool: Spool, allow_missing: bool) -> None:
        progress = self.progress
        spool.forget_failures()  # they are tried again
        progress.total = count_blocks(self._spec)

        def keep(blocks: Sequence[tuple[BlockIndex, Fields]]) -> None:
            spool.put(blocks)
            progress.add(len(blocks))

        def note(index: BlockIndex, error: LandcoverError) -> None:
            spool.fail(index, str(error))
            progress.failures[index] = str(error)
            logger.warning("block %d/%d cannot be had: %s", index.row, index.col, error)
            if len(progress.failures) >= MOST_FAILURES and not allow_missing:
                raise self._failed()

        self._engine.run(self._wanted(spool), done=keep, failed=note, tick=self._tick)
        if progress.failures and not allow_missing:
            raise self._failed()
        if len(progress.failures) == progress.total:
            raise self._failed()

    def _wanted(self, spool: Spool) -> Iterator[BlockIndex]:
        """The blocks that are not in the spool yet, row by row."""
        area, grid = self._spec.area, self._spec.grid
        for row in area.block_rows(grid):
            kept = spool.cols_of_row(row)
            for index in area.blocks_of_row(grid, row):
                if index.col in kept:
                    self.progress.found += 1
                    self.progress.done += 1
                else:
                    yield index

    def _failed(self) -> BlockFailed:
        failures = self.progress.failures
        first = next(iter(failures))
        return BlockFailed(
            f"{len(failures)} of {self.progress.total} blocks cannot be had; the first is {first.row}/{first.col}: "
            f"{failures[first]} What was mapped is kept: ask again once that is mended, or with allow_missing for a "
            "map with holes."
        )

    def _tick(self) -> None:
        engine = self._engine
        if engine.away:
            self.progress.trouble = "the cache or the broker is away"
        elif not engine.workers.count:
            self.progress.trouble = "waits for a worker that has the model and takes from the queue 'bulk'"
        else:
            self.progress.trouble = None
        self._check()

    def _write_progress(self, stage: str, share: float) -> None:
        self.progress.stage, self.progress.stage_share = stage, share
        self._check()
