"""Rounds of fine-tuning as jobs: a record each in the broker, and who may work on it.

A job is *accepted*, *running*, *successful*, *failed* or *dismissed* (the words of OGC API – Processes). Its record
outlives the task that announces it. A trainer acknowledges the task as soon as it has it, and what keeps the job from
being lost or done twice is the record:

    submit ──▶ accepted ──begin──▶ running + lease ──finish──▶ successful | failed
                  ▲                     │
                  └──release / lease lapsed (the trainer died)

The alternative, to acknowledge late and let the broker deliver again, ties the job to Redis' `visibility_timeout`: a
round takes hours, so the timeout would have to be days, and a killed trainer's round would wait as long. A lease of
seconds, renewed while the work goes on, tells a dead trainer from a slow one.

- `begin` gives the lease to one trainer, and counts the attempt before the dangerous part: a job that was begun
  `max_attempts` times without an end is set *failed*.
- Whoever finds a job that should be under way and is not (`stray`) queues it anew. A task too many is harmless:
  `begin` refuses what is taken or has ended.

Each step is one Lua script, hence atomic, and reads the server's clock.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import redis
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from landcover.errors import Conflict, NotFound, Unavailable
from landcover.keys import TRAINING_JOBS, training_job, training_lease
from landcover.queue import TRAIN_QUEUE

Status = Literal["accepted", "running", "successful", "failed", "dismissed"]

STRAY_AFTER_S = 10.0
"""Age at which an accepted job is taken for lost while the queue is empty: its task went down with a trainer."""


class JobRecord(BaseModel):
    """What is known of a job."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    folder: str
    """Of the round, as an absolute path that submitter and trainer share."""
    status: Status
    progress: Annotated[int, Field(ge=0, le=100)] = 0
    """In percent."""
    message: str = ""
    attempts: int = 0
    """How often it was begun."""
    trainer: str = ""
    """Who has it, or had it last."""
    created_at: float
    """Seconds since 1970, by the broker's clock."""
    updated_at: float

    @property
    def updated(self) -> datetime:
        """When the record last changed."""
        return datetime.fromtimestamp(self.updated_at, UTC)


class Taken(StrEnum):
    """What a trainer learns when it takes up a job."""

    RUN = "run"
    TAKEN = "taken"
    """Another living trainer is at it."""
    ENDED = "ended"
    """It is over, or was never known."""
    BURIED = "buried"
    """It was begun too often without an end, and is failed now."""


_NOW = """
local time = redis.call('TIME')
local now = string.format('%.3f', time[1] + time[2] / 1000000)
"""

# KEYS: record, index. ARGV: id, folder.
SUBMIT_SCRIPT = (
    _NOW
    + """
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'folder', ARGV[2], 'status', 'accepted', 'progress', 0, 'attempts', 0,
  'message', 'waits for a trainer', 'trainer', '', 'created_at', now, 'updated_at', now)
redis.call('ZADD', KEYS[2], now, ARGV[1])
"""
)

# KEYS: record, lease. ARGV: trainer, lease ms, most attempts, message if there were too many.
BEGIN_SCRIPT = (
    _NOW
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'accepted' and status ~= 'running' then return 'ended' end
if redis.call('EXISTS', KEYS[2]) == 1 then return 'taken' end
if tonumber(redis.call('HGET', KEYS[1], 'attempts')) >= tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'status', 'failed', 'message', ARGV[4], 'updated_at', now)
  return 'buried'
end
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HSET', KEYS[1], 'status', 'running', 'trainer', ARGV[1], 'updated_at', now)
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 'run'
"""
)

# KEYS: record, lease. ARGV: trainer, lease ms, progress, message. A lease that was lost is not taken back.
RENEW_SCRIPT = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'status') ~= 'running' or redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'progress', ARGV[3], 'message', ARGV[4], 'updated_at', now)
return 1
"""
)

# KEYS: record, lease. ARGV: trainer, status, message, attempts to take back.
END_SCRIPT = (
    _NOW
    + """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if redis.call('HGET', KEYS[1], 'status') ~= 'running' then return 0 end
redis.call('HINCRBY', KEYS[1], 'attempts', -tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'message', ARGV[3], 'updated_at', now)
if ARGV[2] == 'successful' then redis.call('HSET', KEYS[1], 'progress', 100) end
return 1
"""
)

# KEYS: record. ARGV: message.
DISMISS_SCRIPT = (
    _NOW
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'accepted' or status == 'running' then
  redis.call('HSET', KEYS[1], 'status', 'dismissed', 'message', ARGV[1], 'updated_at', now)
  return 'now'
end
return status
"""
)

# KEYS: record, lease, queue. ARGV: age in seconds at which an accepted job is stray.
STRAY_SCRIPT = (
    _NOW
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if status == 'accepted' then
  if redis.call('LLEN', KEYS[3]) > 0 then return 0 end
  if now - redis.call('HGET', KEYS[1], 'updated_at') < tonumber(ARGV[1]) then return 0 end
end
if status ~= 'accepted' and status ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'status', 'accepted', 'updated_at', now)
return 1
"""
)


class JobDesk:
    """Every step of a job. Each method may raise `redis.RedisError`: the broker is away, and nothing has changed."""

    def __init__(self, broker: redis.Redis) -> None:
        self._broker = broker
        self._submit = broker.register_script(SUBMIT_SCRIPT)
        self._begin = broker.register_script(BEGIN_SCRIPT)
        self._renew = broker.register_script(RENEW_SCRIPT)
        self._end = broker.register_script(END_SCRIPT)
        self._dismiss = broker.register_script(DISMISS_SCRIPT)
        self._stray = broker.register_script(STRAY_SCRIPT)

    def submit(self, folder: str) -> str:
        """Record a new job and give its id; it is not queued yet."""
        job = secrets.token_hex(6)
        self._submit(keys=[training_job(job), TRAINING_JOBS], args=[job, folder])
        return job

    def begin(self, job: str, trainer: str, *, lease_s: float, max_attempts: int) -> Taken:
        """Take the job's lease if it is free and the job is to be done."""
        message = (
            f"It ended its trainer {max_attempts} times and was set aside; the trainer's log has the reason "
            "(often too little memory: lower --batch or --crop)."
        )
        keys = [training_job(job), training_lease(job)]
        return Taken(_text(self._begin(keys=keys, args=[trainer, int(lease_s * 1000), max_attempts, message])))

    def renew(self, job: str, trainer: str, *, lease_s: float, progress: int, message: str) -> bool:
        """Prolong the lease and tell how far it is; False if it was lost, or the job dismissed."""
        keys = [training_job(job), training_lease(job)]
        return bool(self._renew(keys=keys, args=[trainer, int(lease_s * 1000), progress, message]))

    def finish(self, job: str, trainer: str, status: Literal["successful", "failed"], message: str) -> bool:
        """End the job; False if it is not this trainer's any more."""
        return self._ended(job, trainer, status, message, 0)

    def release(self, job: str, trainer: str, message: str, *, blameless: bool) -> bool:
        """Give the job back for another try; `blameless` takes the attempt back, too."""
        return self._ended(job, trainer, "accepted", message, int(blameless))

    def dismiss(self, job: str) -> None:
        """End a job that nobody wants any more; its trainer stops at the next renewal.

        Raises:
            NotFound: there is no such job.
            Conflict: it has ended.
        """
        answer = self._dismiss(keys=[training_job(job)], args=["dismissed by hand"])
        if answer is None:
            raise _unknown(job)
        if _text(answer) != "now":
            raise Conflict(f"Job {job} is {_text(answer)} already.")

    def get(self, job: str) -> JobRecord:
        """One job.

        Raises:
            NotFound: there is none.
            Unavailable: its record is damaged.
        """
        fields = self._fields(job)
        if not fields:
            raise _unknown(job)
        try:
            return JobRecord.model_validate(fields)
        except ValidationError as error:
            raise Unavailable(f"The record of job {job} is damaged ({json.dumps(fields)[:200]}).") from error

    def all(self) -> list[JobRecord]:
        """Every job, the oldest first."""
        ids = [_text(each) for each in self._list()]
        return [self.get(job) for job in ids if self._fields(job)]

    def stray(self, *, after_s: float = STRAY_AFTER_S) -> list[JobRecord]:
        """The jobs that should be under way and are not; each is *accepted* now and to be queued by the caller."""
        return [
            record
            for record in self.all()
            if record.status in ("accepted", "running")
            and self._stray(keys=[training_job(record.id), training_lease(record.id), TRAIN_QUEUE], args=[after_s])
        ]

    def _ended(self, job: str, trainer: str, status: Status, message: str, taken_back: int) -> bool:
        keys = [training_job(job), training_lease(job)]
        return bool(self._end(keys=keys, args=[trainer, status, message, taken_back]))

    def _fields(self, job: str) -> dict[str, str]:
        found: Any = self._broker.hgetall(training_job(job))
        return {_text(name): _text(value) for name, value in found.items()}

    def _list(self) -> list[object]:
        found: Any = self._broker.zrange(TRAINING_JOBS, 0, -1)
        return list(found)


def _unknown(job: str) -> NotFound:
    return NotFound(f"There is no training job {job}; landcover trainer --list shows them.")


def _text(answer: object) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
