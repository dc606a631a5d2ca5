"""Tasks of blocks that wait in a queue: dropped by an operator, without a trace that would hold up who still waits."""

from __future__ import annotations

import base64
import json
from typing import cast

import redis
from pydantic import ValidationError

from landcover.coordination import UNCLAIM_SCRIPT
from landcover.keys import BlockKey
from landcover.queue import BlockTask

_STEP = 1000
"""Tasks that are dropped in one trip."""


def drop_waiting(queue: str, broker: redis.Redis, cache: redis.Redis) -> int:
    """Drop as many tasks as wait in `queue` now, the oldest first, and their claims; returns how many.

    What workers have taken is not touched. Whoever still waits for a dropped block asks anew within moments.

    Raises:
        redis.RedisError: the broker or the cache is away; what was dropped by then is asked anew by
            who waits for it, at the latest when its claim counts as lost.
    """
    unclaim = cache.register_script(UNCLAIM_SCRIPT)
    dropped, todo = 0, broker.llen(queue)
    while dropped < todo and (messages := cast("list[bytes] | None", broker.rpop(queue, min(_STEP, todo - dropped)))):
        dropped += len(messages)
        with cache.pipeline(transaction=False) as pipe:
            for key in filter(None, map(_key_of, messages)):
                unclaim(keys=[key.marker], args=[queue], client=pipe)
            pipe.execute()
    return dropped


def _key_of(message: bytes) -> BlockKey | None:
    """The block of a message as Celery has kombu write it; None if it is no task of ours."""
    try:
        _, task, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
        return BlockTask.model_validate(task).key
    except (ValueError, TypeError, KeyError, ValidationError):
        return None
