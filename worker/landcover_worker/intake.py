"""How much a worker takes in hand from each queue, and the guard that ends one whose consumer has fallen silent.

A job's blocks never occupy more than a share of the threads (`slots`), so that one that a person waits for always
finds a free one. Celery has one limit for all queues (`worker_disable_prefetch`); so while that share is taken up the
consumer asks the broker for the other queue only, and asks again every `FULL_POLL_S`, since a question that waits at
the broker cannot be changed.

After a broker's restart Celery's consumer can be left waiting on a connection that nobody listens to any more: it
happens when every thread was busy at the moment, since the consumer then asks for nothing and does not notice. The
worker lives, renews its presence, and takes no task again. Its supervisor starts a new one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis

from landcover.queue import BULK_QUEUE
from landcover_worker.supervision import end_process

logger = logging.getLogger(__name__)

EXIT_SILENT = 75
"""Exit status (EX_TEMPFAIL of sysexits.h)."""
SILENT_AFTER_S = 10.0
"""Room, tasks in the queue, and none taken for so long: the consumer has fallen silent."""

POLL_S = 1
"""How long a question to the broker waits for a task; kombu's own default."""
FULL_POLL_S = 0.02
"""The same, while it leaves out the bulk queue: less than a batch takes, so that the network never waits for it.

A broker with little to do looks at such limits only ten times a second; a network for which that is too seldom makes it
busy.
"""


class Intake:
    """Counts the tasks in hand: from the moment the consumer takes one until it is acknowledged."""

    def __init__(self, slots: int, queues: Sequence[str]) -> None:
        """`slots` tasks of one queue can always be in hand, whatever is of the others."""
        self.slots = slots
        self.threads = slots * len(queues)
        """Tasks of all queues that can be in hand at once."""
        self.taken = 0
        self._in_hand = 0
        self._bulk = 0
        self._closed = False
        self._lock = threading.Lock()

    def has_room_for(self, queue: str) -> bool:
        """Whether another task of `queue` may be taken."""
        return not self._closed and self._in_hand < self.threads and (queue != BULK_QUEUE or self._bulk < self.slots)

    def close(self) -> None:
        """No more is taken: what is in hand is ended, however long that takes, and its worker is not silent."""
        self._closed = True

    def take(self, queue: str, channel: Any) -> Callable[[], None]:
        """A task of `queue` came through `channel` (kombu's); returns what is to be called when it has ended."""
        with self._lock:
            self.taken += 1
            self._count(queue, 1, channel)
        ended = False

        def end() -> None:
            nonlocal ended
            with self._lock:
                if not ended:
                    ended = True
                    self._count(queue, -1, channel)

        return end

    def _count(self, queue: str, change: int, channel: Any) -> None:
        self._in_hand += change
        if queue == BULK_QUEUE:
            self._bulk += change
        channel.brpop_timeout = POLL_S if self._bulk < self.slots else FULL_POLL_S


class RoomCycle:
    """kombu's `queue_order_strategy`: interactive before bulk, and bulk only while there is room for it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._queues: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        """These are the queues now."""
        self._queues = sorted(queues, key=lambda queue: queue == BULK_QUEUE)

    def consume(self, n: int) -> list[str]:
        """The queues that the next question to the broker names."""
        return [queue for queue in self._queues[:n] if queue != BULK_QUEUE or self._intake.has_room_for(queue)]

    def rotate(self, last_used: str) -> str:
        """The order does not depend on what came last."""
        return last_used


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
            if self._intake.taken != taken or not self._could_take():
                taken, since = self._intake.taken, time.monotonic()
            elif time.monotonic() - since > self._after_s:
                logger.critical(
                    "tasks wait and there is room for them, but none was taken for %.0f s: this process ends",
                    self._after_s,
                )
                self._end(EXIT_SILENT)
                return

    def _could_take(self) -> bool:
        """Whether a task waits for which there is room."""
        try:
            return any(self._broker.llen(queue) for queue in self._queues if self._intake.has_room_for(queue))
        except redis.RedisError:
            return False  # the broker is away: there is nothing to take
