"""One thread owns the network: whatever waits is batched, and nothing waits for a batch.

Windows that a person waits for (`urgent`) go first, so that however much a job has in hand it delays them by the
batch that runs, and no more. While they keep every batch full, jobs stand still: that is meant.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from landcover import tracing
from landcover_worker import metrics
from landcover_worker.runtimes.base import UInt8Array

Run = Callable[[Sequence[UInt8Array]], tuple[UInt8Array, UInt8Array]]
"""n windows `(height, width, 3)` → class values and confidence, `(n, height, width)` each."""


@dataclass(eq=False)
class _Waiting:
    image: UInt8Array
    on_start: Callable[[], None]
    alone: bool
    step: Any
    """Of the trace of the block whose window it is."""
    since: float = field(default_factory=time.perf_counter)
    result: Future[tuple[UInt8Array, UInt8Array]] = field(default_factory=Future)


class Batcher:
    """Runs windows through one model, the urgent first, else in the order they came, up to `max_batch` at a time."""

    def __init__(self, run: Run, max_batch: int, name: str) -> None:
        self._run = run
        self._max_batch = max_batch
        self._urgent: deque[_Waiting] = deque()
        self._others: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name=f"batcher-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many windows wait for their turn."""
        return len(self._urgent) + len(self._others)

    def infer(
        self,
        image: UInt8Array,
        *,
        on_start: Callable[[], None] = lambda: None,
        alone: bool = False,
        urgent: bool = True,
    ) -> tuple[UInt8Array, UInt8Array]:
        """Class values and confidence `(height, width)` of one window `(height, width, 3)`; waits for its turn.

        `on_start` is called when its turn comes, by the thread that all wait for: let it be cheap. A window that is
        run `alone` shares its batch, and what may become of it, with no other.

        Without a limit of its own: a network that hangs is ended with its process (`supervision`).
        """
        waiting = _Waiting(image, on_start, alone, tracing.here())
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            (self._urgent if urgent else self._others).append(waiting)
            self._changed.notify()
        return waiting.result.result()

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _next(self) -> list[_Waiting]:
        with self._changed:
            self._changed.wait_for(lambda: self.waiting or self._closed)
            batch: list[_Waiting] = []
            while (line := self._urgent or self._others) and len(batch) < self._max_batch:
                if batch and (batch[0].alone or line[0].alone):
                    break
                batch.append(line.popleft())
            return batch

    def _loop(self) -> None:
        while batch := self._next():
            begin = time.perf_counter()
            metrics.BATCH_SIZE.observe(len(batch))
            for each in batch:
                metrics.BATCH_WAIT.observe(begin - each.since)
                each.on_start()
            about = {"landcover.windows": len(batch)}
            try:
                with tracing.span("batch", attributes=about, parent={}, links=[each.step for each in batch]):
                    classes, confidence = self._run([each.image for each in batch])
            except BaseException as error:
                for each in batch:
                    each.result.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                metrics.STAGE_SECONDS.labels("infer").observe(time.perf_counter() - begin)
                for i, each in enumerate(batch):
                    each.result.set_result((classes[i], confidence[i]))
