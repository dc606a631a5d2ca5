"""Blocks in hand: their leases are renewed, and a process that hangs on one is ended.

Threads cannot be stopped from outside, and Celery's time limits reach prefork pools only. So when one stage of
a block takes longer than the hard limit the whole process exits; its supervisor (Kubernetes, `landcover up`)
starts it again, the leases lapse, and the attempt counter keeps the same block from killing it for ever.

The clock stands still while a block waits behind others, and only the blocks over the limit keep their counted
attempt: else the neighbours of a block that hangs would be set aside with it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from landcover.coordination import LEASE_S, BlockDesk
from landcover.correlation import request_id
from landcover.keys import BlockKey
from landcover_worker import metrics

logger = logging.getLogger(__name__)

EXIT_HUNG = 70
"""Exit status of a process that ended itself (EX_SOFTWARE of sysexits.h)."""


def end_process(status: int) -> None:
    """End at once, whatever other threads are at; the log is written out first."""
    logging.shutdown()
    os._exit(status)


class BlockInHand:
    """One block that is being made, and how long its present stage has taken."""

    def __init__(self, key: BlockKey) -> None:
        self.key = key
        self.request = request_id()
        """The id of the request that asked for it first."""
        self.advanced: float
        """When it last went on to another stage (monotonic)."""
        self._stage: tuple[str, float | None]  # one tuple, so that the watch never sees half a change
        self.enter("begin")

    def enter(self, stage: str) -> None:
        """Work on it begins: the clock starts anew."""
        self.advanced = time.monotonic()
        self._stage = stage, self.advanced

    def wait(self) -> None:
        """Others are worked on first: the clock stands still until `enter`."""
        self.advanced = time.monotonic()
        self._stage = "wait", None

    def stage(self) -> tuple[str, float]:
        """The stage and the seconds it has taken so far; 0 while it waits."""
        name, since = self._stage
        return name, 0.0 if since is None else time.monotonic() - since


class BlocksInHand:
    """Registry of the blocks that are being made, and the thread that watches over them."""

    def __init__(
        self,
        desk: BlockDesk,
        hard_limit_s: float,
        *,
        period_s: float | None = None,
        end: Callable[[int], None] = end_process,
    ) -> None:
        self._desk = desk
        self._hard_limit_s = hard_limit_s
        self._period_s = period_s or min(LEASE_S, hard_limit_s) / 4
        self._end = end
        self._held: set[BlockInHand] = set()
        self._released = time.monotonic()
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, name="blocks-in-hand", daemon=True).start()

    @contextmanager
    def holding(self, key: BlockKey) -> Iterator[BlockInHand]:
        """Keep the lease of `key` while the body runs, which says what it is at."""
        block = BlockInHand(key)
        with self._lock:
            self._held.add(block)
        metrics.RUNNING.inc()
        try:
            yield block
        finally:
            metrics.RUNNING.dec()
            with self._lock:
                self._held.discard(block)
                self._released = time.monotonic()

    def since_progress_s(self) -> float:
        """For how long no block in hand has advanced; 0 if there is none."""
        with self._lock:
            if not self._held:
                return 0.0
            return time.monotonic() - max(self._released, *(block.advanced for block in self._held))

    def stalled(self) -> str:
        """What is amiss if nothing advances any more though blocks are in hand; empty if all is well.

        A stage that takes too long ends the process before. This also sees a network whose thread has died, for which
        every block waits.
        """
        since_s = self.since_progress_s()
        if since_s <= self._hard_limit_s + 2 * self._period_s:
            return ""
        return f"no block in hand has advanced for {since_s:.0f} s"

    def _watch(self) -> None:
        while True:
            time.sleep(self._period_s)
            with self._lock:
                held = list(self._held)
            if hung := {block for block in held if self._is_hung(block)}:
                self._desk.uncount_attempts(block.key for block in held if block not in hung)
                self._end(EXIT_HUNG)
            for block in held:
                try:
                    # A block that is being stored has given its lease up, or will in a moment.
                    if not self._desk.renew(block.key) and block in self._held and block.stage()[0] != "store":
                        logger.warning(
                            "the lease of block %s was lost; it may be made twice",
                            block.key.text,
                            extra={"request_id": block.request},
                        )
                except redis.RedisError as error:
                    logger.warning("leases cannot be renewed: %s", error)
                    break

    def _is_hung(self, block: BlockInHand) -> bool:
        stage, seconds = block.stage()
        if seconds <= self._hard_limit_s:
            return False
        logger.critical(
            "block %s is at '%s' for %.1f s, more than the limit of %g s: this process ends",
            block.key.text,
            stage,
            seconds,
            self._hard_limit_s,
            extra={"request_id": block.request},
        )
        return True
