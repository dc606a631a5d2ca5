"""Who makes a block: the three steps that keep it being inferred once, whoever asks and whoever dies.

A block that is not in the cache passes through these states, all in the cache server:

    nothing ──claim (API)──▶ marker "queued" ──begin (worker)──▶ marker "running" + lease ──finish──▶ block
                                                                                       └──fail────▶ failure

- The *marker* lives as long as somebody waits: each waiter prolongs it again and again. A
  worker that finds no marker skips the task, so nothing is computed for a map that was panned away.
- The *lease* lives a few seconds and is renewed by the worker that runs the block. A running marker without a
  lease means that its worker died: the next claim takes it over.
- A queued marker older than `REQUEUE_AFTER_S` is claimed anew, for the case that the broker lost the task. If it
  did not, two tasks are queued, and whichever comes second finds the block taken or ready. While the queue is
  empty, `LOST_AFTER_S` is enough: a task that is neither queued nor begun went down with a worker that had just
  taken it.
- What a job has queued is not what a person waits for behind that job's other blocks: an interactive claim of a
  block that waits in the bulk queue is granted, too. Its task comes first, and the other finds the block ready.
- A *failure* is remembered for a few seconds, so that a broken image is not read once for every waiter.

Each step is one Lua script, hence atomic. They read the server's clock, so clocks of hosts do not matter.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import redis

from landcover.errors import LandcoverError, from_code
from landcover.keys import DEAD_LETTERS, DONE_CHANNEL, BlockKey

logger = logging.getLogger(__name__)

REQUEUE_AFTER_S = 60
"""Age at which a queued task is taken for lost and may be queued again."""

LOST_AFTER_S = 2
"""Age at which a queued task is taken for lost when its queue is empty."""

INTEREST_S = 15
"""How long a block stays wanted after somebody last waited for it: map clients come back for it."""

LEASE_S = 8
"""A lease not renewed for so long belongs to a dead worker."""

FAILURE_TTL_S = 3
"""A failed block may be tried again after this."""

DEAD_TTL_S = 600
"""A dead-lettered block may be tried again after this."""

ATTEMPTS_TTL_S = 3600


class Claim(StrEnum):
    """What a waiter learns when it claims a block."""

    READY = "ready"
    """It is in the cache."""
    CLAIMED = "claimed"
    """It is the caller's to queue."""
    PENDING = "pending"
    """Another was first; wait."""
    FAILED = "failed"
    """It could not be made; the reason is under `BlockKey.failure`."""


class Begin(StrEnum):
    """What a worker learns when it takes up a task."""

    RUN = "run"
    READY = "ready"
    """It was finished meanwhile."""
    TAKEN = "taken"
    """Another living worker is at it."""
    UNWANTED = "unwanted"
    """Nobody waits for it any more."""


# KEYS: block, marker, lease, failure. ARGV: interest ms, requeue ms, queue ("interactive" if it is left out).
CLAIM_SCRIPT = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 'ready' end
if redis.call('EXISTS', KEYS[4]) == 1 then return 'failed' end
local marker = redis.call('GET', KEYS[2])
local mine = ARGV[3] == 'bulk' and 'bulk' or 'queued'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if marker then
  local state, since = string.match(marker, '(%a+) (%d+)')
  local lost = (state == 'running' and redis.call('EXISTS', KEYS[3]) == 0)
    or (state ~= 'running' and now - tonumber(since) > tonumber(ARGV[2]))
  local behind = state == 'bulk' and mine == 'queued'
  if not lost and not behind then
    if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[2], ARGV[1]) end
    return 'pending'
  end
end
redis.call('SET', KEYS[2], mine .. ' ' .. string.format('%.0f', now), 'PX', ARGV[1])
return 'claimed'
"""

# KEYS: marker. ARGV: queue. A task was taken out of that queue: what is running, or queued elsewhere, stays so.
UNCLAIM_SCRIPT = """
local marker = redis.call('GET', KEYS[1])
local mine = ARGV[1] == 'bulk' and 'bulk' or 'queued'
if marker and string.match(marker, '%a+') == mine then return redis.call('DEL', KEYS[1]) end
return 0
"""

# KEYS: block, marker, lease. ARGV: worker, lease ms.
BEGIN_SCRIPT = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 'ready' end
local interest = redis.call('PTTL', KEYS[2])
if interest < 0 then return 'unwanted' end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'taken' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[2], 'running ' .. string.format('%.0f', now), 'PX', math.max(interest, ARGV[2] * 2))
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return 'run'
"""

# KEYS: lease, marker. ARGV: worker, lease ms. A lease that was lost is not taken back.
RENEW_SCRIPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if redis.call('PTTL', KEYS[2]) < ARGV[2] * 2 then redis.call('PEXPIRE', KEYS[2], ARGV[2] * 2) end
return 1
"""

# KEYS: lease, marker, failure. ARGV: worker, failure, failure ttl ms, channel, text.
# Who lost the lease says nothing: its heir may well succeed.
FAIL_SCRIPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
"""

# KEYS: attempts. A counter that has lapsed does not come back as -1.
UNCOUNT_SCRIPT = """
if redis.call('DECR', KEYS[1]) <= 0 then redis.call('DEL', KEYS[1]) end
"""


class BlockDesk:
    """The worker's side: takes up tasks, stores what they make, and keeps count of what fails."""

    def __init__(
        self,
        cache: redis.Redis,
        broker: redis.Redis,
        *,
        worker: str,
        block_ttl_s: int,
        lease_s: float = LEASE_S,
    ) -> None:
        self._cache = cache
        self._broker = broker
        self._worker = worker
        self._block_ttl_s = block_ttl_s
        self._lease_ms = int(lease_s * 1000)
        self._begin = cache.register_script(BEGIN_SCRIPT)
        self._renew = cache.register_script(RENEW_SCRIPT)
        self._fail = cache.register_script(FAIL_SCRIPT)
        self._uncount = broker.register_script(UNCOUNT_SCRIPT)

    def begin(self, key: BlockKey) -> Begin:
        """Take the block's lease if it is still wanted, missing and free."""
        answer = self._begin(keys=[key.block, key.marker, key.lease], args=[self._worker, self._lease_ms])
        return Begin(_text(answer))

    def renew(self, key: BlockKey) -> bool:
        """Prolong the lease; False if it was lost."""
        return bool(self._renew(keys=[key.lease, key.marker], args=[self._worker, self._lease_ms]))

    def count_attempt(self, key: BlockKey) -> int:
        """Count a beginning, before the dangerous part: a crash leaves the count standing."""
        with self._broker.pipeline() as pipe:
            pipe.incr(key.attempts)
            pipe.expire(key.attempts, ATTEMPTS_TTL_S)
            return int(pipe.execute()[0])

    def uncount_attempts(self, keys: Iterable[BlockKey]) -> None:
        """Take one attempt of each block back: what ended it was not its fault.

        Not `forget_attempts`: two blocks that hang, each in hand while the other runs, would save each other for
        ever. What cannot be taken back lapses by itself.
        """
        try:
            for key in keys:
                self._uncount(keys=[key.attempts])
        except redis.RedisError as error:
            logger.warning("attempts cannot be taken back: %s", error)

    def finish(self, key: BlockKey, fields: Mapping[str, bytes]) -> None:
        """Store the block, drop marker and lease, and wake whoever waits: all at once.

        Raises:
            RedisError: the cache is away or full; nothing was stored.
        """
        with self._cache.pipeline(transaction=True) as pipe:
            pipe.hset(key.block, items=[part for pair in fields.items() for part in pair])
            pipe.expire(key.block, self._block_ttl_s)
            pipe.delete(key.marker, key.lease, key.failure)
            pipe.publish(DONE_CHANNEL, key.text)
            pipe.execute()
        self._forget(key, letter=True)

    def fail(self, key: BlockKey, error: LandcoverError) -> None:
        """Tell whoever waits why there is no block; it may be tried again a few seconds later.

        The attempt stays counted: what fails again and again is set aside, unless `forget_attempts` follows.
        """
        self._report_failure(key, error, FAILURE_TTL_S)

    def forget_attempts(self, key: BlockKey) -> None:
        """Begin counting anew: the block itself did nothing wrong. What is not forgotten lapses by itself."""
        self._forget(key, letter=False)

    def _forget(self, key: BlockKey, *, letter: bool) -> None:
        try:
            with self._broker.pipeline(transaction=False) as pipe:
                pipe.delete(key.attempts)
                if letter:  # it was set aside once, and made after all
                    pipe.hdel(DEAD_LETTERS, key.text)
                pipe.execute()
        except redis.RedisError as error:
            logger.warning("attempts cannot be forgotten: %s", error)

    def bury(self, key: BlockKey, task: Mapping[str, Any], error: LandcoverError) -> None:
        """Set a block aside that failed too often: recorded for operators with its task, refused for a while."""
        letter = {"task": task, "error": error.code, "detail": str(error), "at": time.time()}
        self._broker.hset(DEAD_LETTERS, key.text, json.dumps(letter))
        self._report_failure(key, error, DEAD_TTL_S)
        self.forget_attempts(key)

    def _report_failure(self, key: BlockKey, error: LandcoverError, ttl_s: int) -> None:
        self._fail(
            keys=[key.lease, key.marker, key.failure],
            args=[self._worker, _failure(error), ttl_s * 1000, DONE_CHANNEL, key.text],
        )


def read_failure(data: bytes | str) -> LandcoverError:
    """The error a worker stored under `BlockKey.failure`."""
    record = json.loads(data)
    return from_code(record["error"], record["detail"])


def _failure(error: LandcoverError) -> str:
    return json.dumps({"error": error.code, "detail": str(error)})


def _text(answer: object) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
