"""What a message says beside its task: the queue it came through, when it was sent, and for which request."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from landcover import tracing
from landcover.correlation import TASK_HEADER, request_of, working_for
from landcover.queue import BULK_QUEUE, INTERACTIVE_QUEUE, SENT_AT, BlockTask
from landcover_worker import metrics


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """Of one message. Anybody may have sent it, so nothing of it is relied on."""

    queue: str
    sent_at: float | None
    """By the sender's clock, seconds since 1970."""
    headers: Mapping[str, object]

    @property
    def urgent(self) -> bool:
        """Whether a person waits."""
        return self.queue != BULK_QUEUE

    @contextmanager
    def working_on(self, task: BlockTask) -> Iterator[tracing.Span]:
        """What the body does is logged and traced as done for the request that sent the message."""
        if self.sent_at is not None and self.queue in (INTERACTIVE_QUEUE, BULK_QUEUE):
            metrics.TASK_WAIT.labels(self.queue).observe(max(0.0, time.time() - self.sent_at))
        about: dict[str, tracing.Attribute] = {
            "messaging.destination.name": self.queue,
            "landcover.scene": task.source.id,
            "landcover.model_digest": task.digest,
            "landcover.row": task.row,
            "landcover.col": task.col,
        }
        with (
            working_for(request_of(self.headers)),
            tracing.span("block", kind="consumer", attributes=about, parent=self.headers) as span,
        ):
            yield span


def envelope_of(request: Any) -> Envelope:
    """Of the message that Celery shows as a task's `request`."""
    sent_at = request.get(SENT_AT)
    return Envelope(
        queue=str((request.delivery_info or {}).get("routing_key", "")),
        sent_at=sent_at if isinstance(sent_at, float) else None,
        headers={name: request.get(name) for name in (TASK_HEADER, *tracing.CARRIER_HEADERS)},
    )
