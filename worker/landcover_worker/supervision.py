"""Blocks in hand: their leases are renewed, and a process that hangs on one is ended.

Threads cannot be stopped from outside, and Celery's time limits reach prefork pools only. So when a block is
in hand for longer than the hard limit the whole process exits; its supervisor (Kubernetes, `landcover up`)
starts it again, the leases lapse, and the attempt counter keeps the same block from killing it for ever.
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
from landcover.keys import BlockKey
from landcover_worker import metrics

logger = logging.getLogger(__name__)

EXIT_HUNG = 70
"""Exit status of a process that ended itself (EX_SOFTWARE of sysexits.h)."""


def _exit(status: int) -> None:
    logging.shutdown()
    os._exit(status)


class BlocksInHand:
    """Registry of the blocks that are being made, and the thread that watches over them."""

    def __init__(
        self, desk: BlockDesk, hard_limit_s: float, *, period_s: float = LEASE_S / 4, end: Callable[[int], None] = _exit
    ) -> None:
        self._desk = desk
        self._hard_limit_s = hard_limit_s
        self._period_s = period_s
        self._end = end
        self._since: dict[BlockKey, float] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, name="blocks-in-hand", daemon=True).start()

    @contextmanager
    def holding(self, key: BlockKey) -> Iterator[None]:
        """Keep the lease of `key` while the body runs."""
        with self._lock:
            self._since[key] = time.monotonic()
        metrics.RUNNING.inc()
        try:
            yield
        finally:
            metrics.RUNNING.dec()
            with self._lock:
                self._since.pop(key, None)

    def _watch(self) -> None:
        while True:
            time.sleep(self._period_s)
            with self._lock:
                held = dict(self._since)
            now = time.monotonic()
            for key, since in held.items():
                if now - since > self._hard_limit_s:
                    logger.critical(
                        "block %s is in hand for %.1f s, more than the limit of %g s: this process ends",
                        key.text,
                        now - since,
                        self._hard_limit_s,
                    )
                    self._end(EXIT_HUNG)
            for key in held:
                try:
                    if not self._desk.renew(key):
                        logger.warning("the lease of block %s was lost; it may be made twice", key.text)
                except redis.RedisError as error:
                    logger.warning("leases cannot be renewed: %s", error)
                    break
