"""How much waits in the queues and for how long, and how much is being made: what autoscalers and operators look at.

Everything is read from the broker, at a cost that does not grow with what waits. kombu keeps a queue as a list, new
tasks on the left, the next on the right; and what workers took and have not acknowledged in the hash `unacked`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio

from landcover.keys import DEAD_LETTERS, WORKER_PREFIX
from landcover.queue import BULK_QUEUE, INTERACTIVE_QUEUE, SENT_AT, TRAIN_QUEUE

QUEUES = (INTERACTIVE_QUEUE, BULK_QUEUE, TRAIN_QUEUE)
_UNACKED = "unacked"
_SAMPLE = 100
"""Of more tasks in flight than these, a sample tells how many are of each queue."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue at one moment."""

    waiting: int
    """Tasks that no worker has taken."""
    in_flight: int
    """Tasks that workers have taken and not ended; those of a killed worker, too, until they are delivered again."""
    oldest_s: float
    """How long ago the next task to be taken was sent, seconds; 0 where none waits.

    By the clocks of who sent it and of who asks. A queue is taken in order, so none waits longer, but for a task that
    was taken by a worker since killed.
    """


@dataclass(frozen=True, slots=True)
class QueueReport:
    """All queues at one moment."""

    queues: Mapping[str, QueueState]
    """By name, every one of `QUEUES`."""
    dead_letters: int
    """Blocks that were set aside after too many attempts."""
    workers: int
    """Processes that are warm and take tasks."""


def read_queues(broker: redis.Redis) -> QueueReport:
    """Ask the broker.

    Raises:
        redis.RedisError: it is away.
    """
    with broker.pipeline(transaction=False) as pipe:
        _ask(pipe)
        answers = pipe.execute()
    return _report(answers, len(list(broker.scan_iter(match=f"{WORKER_PREFIX}*", count=1000))))


async def read_queues_async(broker: redis.asyncio.Redis) -> QueueReport:
    """The same from an event loop."""
    async with broker.pipeline(transaction=False) as pipe:
        _ask(pipe)
        answers = await pipe.execute()
    return _report(answers, len([key async for key in broker.scan_iter(match=f"{WORKER_PREFIX}*", count=1000)]))


def _ask(pipe: Any) -> None:
    for queue in QUEUES:
        pipe.llen(queue)
        pipe.lindex(queue, -1)
    pipe.hlen(_UNACKED)
    pipe.hrandfield(_UNACKED, _SAMPLE, withvalues=True)
    pipe.hlen(DEAD_LETTERS)


def _report(answers: Sequence[Any], workers: int) -> QueueReport:
    *looks, taken, sample, dead_letters = answers
    shares = Counter(map(_queue_of, sample[1::2]))
    scale = taken / shares.total() if shares else 0.0
    return QueueReport(
        queues={
            queue: QueueState(
                waiting=looks[2 * i],
                in_flight=round(shares[queue] * scale),
                oldest_s=_age_s(looks[2 * i + 1]),
            )
            for i, queue in enumerate(QUEUES)
        },
        dead_letters=dead_letters,
        workers=workers,
    )


def _queue_of(taken: bytes) -> str:
    """The queue of what kombu notes of a message that was taken; none if somebody else wrote it."""
    try:
        return str(json.loads(taken)[2])
    except (ValueError, LookupError, TypeError):
        return ""


def _age_s(message: bytes | None) -> float:
    """0 of what is no task of ours, too: the next worker drops it."""
    try:
        return 0.0 if message is None else max(0.0, time.time() - json.loads(message)["headers"][SENT_AT])
    except (ValueError, LookupError, TypeError):
        return 0.0
