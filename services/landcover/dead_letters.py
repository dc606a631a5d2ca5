"""Dead letters: blocks that were set aside after too many attempts, each with its task, and what to do with them.

Workers write them (`coordination.BlockDesk.bury`), and take one away when its block is made after all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import BaseModel, ConfigDict, ValidationError

from landcover.coordination import CLAIM_SCRIPT, REQUEUE_AFTER_S, Claim
from landcover.errors import Unavailable
from landcover.keys import DEAD_LETTERS
from landcover.queue import TASK_EXPIRES_S, BlockTask, send_blocks

_STEP = 500
"""Letters that are queued again in one trip."""


class DeadLetter(BaseModel):
    """One block that was set aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: BlockTask
    error: str
    """The error's class."""
    detail: str
    """Why, in a sentence."""
    at: float
    """When, seconds since 1970 by the worker's clock."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """What became of dead letters that were to be queued again."""

    queued: int
    pending: int
    """Somebody has asked for the block meanwhile: it waits, or is being made."""
    ready: int
    """The block had been made meanwhile."""


def read_dead_letters(broker: redis.Redis) -> dict[str, DeadLetter | None]:
    """All of them by their blocks' `BlockKey.text`, the newest first; None for one that cannot be read.

    Raises:
        redis.RedisError: the broker is away.
    """
    records = cast("dict[bytes, bytes]", broker.hgetall(DEAD_LETTERS))
    letters = {key.decode(): _read(record) for key, record in records.items()}
    return dict(sorted(letters.items(), key=lambda each: -each[1].at if each[1] else 0.0))


def requeue(
    letters: Iterable[DeadLetter], broker: redis.Redis, cache: redis.Redis, celery: Celery, *, queue: str
) -> Requeued:
    """Queue blocks again, as if they had never failed, and forget their letters.

    Nobody needs to wait for them: they stay wanted until their tasks expire.

    Raises:
        redis.RedisError, Unavailable: the broker or the cache is away; letters of what is not queued stay.
    """
    found = dict.fromkeys(Claim, 0)
    rest = iter(letters)
    while some := [letter.task for letter in islice(rest, _STEP)]:
        broker.delete(*(task.key.attempts for task in some))
        claims = _claim(cache, some, queue)
        _send([task for task, claim in zip(some, claims, strict=True) if claim is Claim.CLAIMED], cache, celery, queue)
        broker.hdel(DEAD_LETTERS, *(task.key.text for task in some))
        for claim in claims:
            found[claim] += 1
    return Requeued(queued=found[Claim.CLAIMED], pending=found[Claim.PENDING], ready=found[Claim.READY])


def forget(keys: Sequence[str], broker: redis.Redis) -> int:
    """Drop letters; returns how many there were. A block that is still refused stays so until that lapses.

    Raises:
        redis.RedisError: the broker is away.
    """
    return broker.hdel(DEAD_LETTERS, *keys)


def age_s(letter: DeadLetter) -> float:
    """How long ago it was set aside."""
    return max(0.0, time.time() - letter.at)


def _read(record: bytes) -> DeadLetter | None:
    try:
        return DeadLetter.model_validate_json(record)
    except ValidationError:
        return None


def _claim(cache: redis.Redis, tasks: Sequence[BlockTask], queue: str) -> list[Claim]:
    """Claim blocks as a waiter does, with the failure that would have it refused taken away in the same step."""
    script = cache.register_script(CLAIM_SCRIPT)
    with cache.pipeline(transaction=True) as pipe:
        for key in (task.key for task in tasks):
            pipe.delete(key.failure)
            script(
                keys=[key.block, key.marker, key.lease, key.failure],
                args=[TASK_EXPIRES_S * 1000, REQUEUE_AFTER_S * 1000, queue],
                client=pipe,
            )
        answers = pipe.execute()[1::2]
    return [Claim(answer.decode()) for answer in answers]


def _send(tasks: Sequence[BlockTask], cache: redis.Redis, celery: Celery, queue: str) -> None:
    if not tasks:
        return
    try:
        send_blocks(celery, tasks, queue=queue)
    except OperationalError as error:
        cache.delete(*(task.key.marker for task in tasks))  # the claims are given back
        raise Unavailable(f"Dead letters cannot be queued: the broker is not reachable ({error}).") from error
