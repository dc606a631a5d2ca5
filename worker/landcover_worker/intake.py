"""What the consumer takes from its queues, and the guard that ends a process whose consumer has fallen silent.

After a broker's restart Celery's consumer can be left waiting on a connection that nobody listens to any more: it
happens when every thread was busy at the moment, since the consumer then asks for nothing (`worker_disable_prefetch`)
and does not notice. The worker lives, renews its presence, and takes no task again. Its supervisor starts a new one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import redis

from landcover_worker.supervision import end_process

logger = logging.getLogger(__name__)

EXIT_SILENT = 75
"""Exit status (EX_TEMPFAIL of sysexits.h)."""
SILENT_AFTER_S = 10.0
"""Free threads, tasks in the queue, and none taken for so long: the consumer has fallen silent."""


class Intake:
    """Counts the tasks that were taken and those that are in hand."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self.taken = 0
        self.in_hand = 0

    @property
    def has_room(self) -> bool:
        """Whether a thread is free for another task."""
        return self.in_hand < self._threads

    @contextmanager
    def task(self) -> Iterator[None]:
        """A task is in hand while the body runs."""
        with self._lock:
            self.taken += 1
            self.in_hand += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_hand -= 1


class SilenceGuard:
    """Compares what waits in the queues with what is taken from them."""

    def __init__(
        self,
        broker: redis.Redis,
        queues: Sequence[str],
        intake: Intake,
        *,
        after_s: float = SILENT_AFTER_S,
        end: Callable[[int], None] = end_process,
    ) -> None:
        self._broker = broker
        self._queues = queues
        self._intake = intake
        self._after_s = after_s
        self._end = end

    def start(self) -> None:
        """Watch in a thread of its own, from the moment the consumer is ready."""
        threading.Thread(target=self._watch, name="silence-guard", daemon=True).start()

    def _watch(self) -> None:
        taken, since = -1, time.monotonic()
        while True:
            time.sleep(self._after_s / 5)
            if self._intake.taken != taken or not self._intake.has_room or not self._tasks_wait():
                taken, since = self._intake.taken, time.monotonic()
            elif time.monotonic() - since > self._after_s:
                logger.critical(
                    "tasks wait and threads are free, but none was taken for %.0f s: this process ends", self._after_s
                )
                self._end(EXIT_SILENT)

    def _tasks_wait(self) -> bool:
        try:
            return any(self._broker.llen(queue) for queue in self._queues)
        except redis.RedisError:
            return False  # the broker is away: there is nothing to take
