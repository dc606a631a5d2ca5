"""Long work as jobs: a record each in the broker, and who may work on it.

A job is *accepted*, *running*, *successful*, *failed* or *dismissed* (the words of OGC API – Processes). What keeps it
from being lost or done twice is its record and a lease:

    submit ──▶ accepted ──begin──▶ running + lease ──finish──▶ successful | failed
                  ▲                     │
                  └──release / lease lapsed (who had it died)

- `begin` gives the lease to one worker, and counts the attempt before the dangerous part: a job that was begun
  `max_attempts` times without an end is set *failed*.
- A lease of seconds, renewed while the work goes on, tells a dead worker from a slow one.

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
from landcover.keys import JobKeys

Status = Literal["accepted", "running", "successful", "failed", "dismissed"]


class JobRecord(BaseModel):
    """What is known of a job."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    subject: str
    """What it is about: a round's folder, or the address that was asked."""
    scene: str = ""
    """The scene it is about, if it is about one."""
    model: str = ""
    """The name of the model that maps it."""
    status: Status
    progress: Annotated[int, Field(ge=0, le=100)] = 0
    """In percent."""
    message: str = ""
    detail: str = ""
    """More about how far it is, for programs."""
    attempts: int = 0
    """How often it was begun."""
    holder: str = ""
    """Who has it, or had it last."""
    created_at: float
    """Seconds since 1970, by the broker's clock."""
    started_at: float = 0
    """Of the last attempt; 0 before the first."""
    updated_at: float

    @property
    def updated(self) -> datetime:
        """When the record last changed."""
        return datetime.fromtimestamp(self.updated_at, UTC)

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status not in ("accepted", "running")


class Taken(StrEnum):
    """What a worker learns when it takes up a job."""

    RUN = "run"
    TAKEN = "taken"
    """Another living worker is at it."""
    ENDED = "ended"
    """It is over, or was never known."""
    BURIED = "buried"
    """It was begun too often without an end, and is failed now."""


NOW = """
local time = redis.call('TIME')
local now = string.format('%.3f', time[1] + time[2] / 1000000)
"""

# KEYS: record, open, …, request. ARGV: id, seconds to keep the record, or 0 for ever. The request comes
# and goes with the record: in a step of its own it could be that of the same job, submitted anew meanwhile.
_ENDED = """
local function ended()
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('DEL', KEYS[#KEYS])
  if tonumber(ARGV[2]) > 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
end
"""

# KEYS: record, open, index, request. ARGV: id, subject, message, scene, model, detail, request if any. Open ones stay.
SUBMIT_SCRIPT = (
    NOW
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'accepted' or status == 'running' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'subject', ARGV[2], 'status', 'accepted', 'progress', 0, 'attempts', 0,
  'message', ARGV[3], 'scene', ARGV[4], 'model', ARGV[5], 'detail', ARGV[6], 'holder', '', 'created_at', now,
  'started_at', 0, 'updated_at', now)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
if ARGV[7] then redis.call('SET', KEYS[4], ARGV[7]) end
return 1
"""
)

# KEYS: record, open, lease, request. ARGV: id, keep s, holder, lease ms, most attempts, message if there were too many.
BEGIN_SCRIPT = (
    NOW
    + _ENDED
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'accepted' and status ~= 'running' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 'ended'
end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'taken' end
if tonumber(redis.call('HGET', KEYS[1], 'attempts')) >= tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'status', 'failed', 'message', ARGV[6], 'updated_at', now)
  ended()
  return 'buried'
end
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HSET', KEYS[1], 'status', 'running', 'holder', ARGV[3], 'started_at', now, 'updated_at', now)
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
return 'run'
"""
)

# KEYS: record, lease. ARGV: holder, lease ms, progress, message, detail. A lease that was lost is not taken back.
RENEW_SCRIPT = (
    NOW
    + """
if redis.call('HGET', KEYS[1], 'status') ~= 'running' or redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'progress', ARGV[3], 'message', ARGV[4], 'detail', ARGV[5], 'updated_at', now)
return 1
"""
)

# KEYS: record, open, lease, request. ARGV: id, keep s, holder, status, message, attempts to take back.
END_SCRIPT = (
    NOW
    + _ENDED
    + """
if redis.call('GET', KEYS[3]) ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[3])
if redis.call('HGET', KEYS[1], 'status') ~= 'running' then return 0 end
redis.call('HINCRBY', KEYS[1], 'attempts', -tonumber(ARGV[6]))
redis.call('HSET', KEYS[1], 'status', ARGV[4], 'message', ARGV[5], 'updated_at', now)
if ARGV[4] == 'successful' then redis.call('HSET', KEYS[1], 'progress', 100) end
if ARGV[4] ~= 'accepted' then ended() end
return 1
"""
)

# KEYS: record, open, request. ARGV: id, keep s, message.
DISMISS_SCRIPT = (
    NOW
    + _ENDED
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'accepted' or status == 'running' then
  redis.call('HSET', KEYS[1], 'status', 'dismissed', 'message', ARGV[3], 'updated_at', now)
  ended()
  return 'now'
end
return status
"""
)


# KEYS: record, lease. ARGV: holder.
FORGIVE_SCRIPT = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'attempts', 1)
return 1
"""


class JobDesk:
    """Every step of a job. Each method may raise `redis.RedisError`: the broker is away, and nothing has changed."""

    what = "job"
    """As messages call it."""
    listing = "GET /jobs lists them"
    buried = "It ended whoever worked on it {attempts} times and was set aside; the log has the reason."

    def __init__(self, broker: redis.Redis, keys: JobKeys, *, keep_s: int = 0) -> None:
        self.broker = broker
        self._keys = keys
        self.keep_s = keep_s
        """How long a job that has ended is kept; 0 for ever."""
        self._submit = broker.register_script(SUBMIT_SCRIPT)
        self._begin = broker.register_script(BEGIN_SCRIPT)
        self._renew = broker.register_script(RENEW_SCRIPT)
        self._end = broker.register_script(END_SCRIPT)
        self._dismiss = broker.register_script(DISMISS_SCRIPT)
        self._forgive = broker.register_script(FORGIVE_SCRIPT)

    def submit(
        self,
        subject: str,
        *,
        request: bytes | None = None,
        message: str = "waits to be begun",
        scene: str = "",
        model: str = "",
        detail: str = "",
        job: str | None = None,
    ) -> str:
        """Record a new job, with what it needs to be done, and give its id; `job` if that is open already."""
        job = job or secrets.token_hex(6)
        keys = [self._keys.record(job), self._keys.open, self._keys.index, self._keys.request(job)]
        args: list[str | bytes] = [job, subject, message, scene, model, detail]
        self._submit(keys=keys, args=args if request is None else [*args, request])
        return job

    def begin(self, job: str, holder: str, *, lease_s: float, max_attempts: int) -> Taken:
        """Take the job's lease if it is free and the job is to be done."""
        keys = [self._keys.record(job), self._keys.open, self._keys.lease(job), self._keys.request(job)]
        message = self.buried.format(attempts=max_attempts)
        args: list[str | int] = [job, self.keep_s, holder, int(lease_s * 1000), max_attempts, message]
        return Taken(_text(self._begin(keys=keys, args=args)))

    def renew(self, job: str, holder: str, *, lease_s: float, progress: int, message: str, detail: str = "") -> bool:
        """Prolong the lease and tell how far it is; False if it was lost, or the job dismissed."""
        keys = [self._keys.record(job), self._keys.lease(job)]
        return bool(self._renew(keys=keys, args=[holder, int(lease_s * 1000), progress, message, detail]))

    def forgive(self, job: str, holder: str) -> None:
        """Count attempts anew: this one has got on, so that the job is not what ended those before."""
        self._forgive(keys=[self._keys.record(job), self._keys.lease(job)], args=[holder])

    def finish(self, job: str, holder: str, status: Literal["successful", "failed"], message: str) -> bool:
        """End the job; False if it is not this worker's any more."""
        return self._ended(job, holder, status, message, 0)

    def release(self, job: str, holder: str, message: str, *, blameless: bool) -> bool:
        """Give the job back for another try; `blameless` takes the attempt back, too."""
        return self._ended(job, holder, "accepted", message, int(blameless))

    def dismiss(self, job: str) -> None:
        """End a job that nobody wants any more; who works on it stops at the next renewal.

        Raises:
            NotFound: there is no such job.
            Conflict: it has ended.
        """
        keys = [self._keys.record(job), self._keys.open, self._keys.request(job)]
        args: list[str | int] = [job, self.keep_s, "dismissed by hand"]
        answer = self._dismiss(keys=keys, args=args)
        if answer is None:
            raise self._unknown(job)
        if _text(answer) != "now":
            raise Conflict(f"Job {job} is {_text(answer)} already.")

    def get(self, job: str) -> JobRecord:
        """One job.

        Raises:
            NotFound: there is none.
            Unavailable: its record is damaged.
        """
        record = self._record(job)
        if record is None:
            raise self._unknown(job)
        return record

    def request(self, job: str) -> bytes | None:
        """What was handed in with the job; None if that is gone."""
        found: Any = self.broker.get(self._keys.request(job))
        return None if found is None else bytes(found)

    def all(self) -> list[JobRecord]:
        """Every job, the oldest first."""
        return self._records(self._listed(self._keys.index))

    def newest(self, count: int) -> list[JobRecord]:
        """So many jobs at most, the newest first."""
        found: Any = self.broker.zrevrange(self._keys.index, 0, count - 1)
        return self._records([_text(each) for each in found])

    def _records(self, jobs: list[str]) -> list[JobRecord]:
        found = []
        for job in jobs:
            if (record := self._record(job)) is not None:
                found.append(record)
            else:  # it has lapsed
                self.broker.zrem(self._keys.index, job)
        return found

    def held(self, job: str) -> bool:
        """Whether somebody is at work on it."""
        return bool(self.broker.exists(self._keys.lease(job)))

    def open(self) -> list[str]:
        """The ids of the jobs that have not ended, the oldest first."""
        return self._listed(self._keys.open)

    def _ended(self, job: str, holder: str, status: Status, message: str, taken_back: int) -> bool:
        keys = [self._keys.record(job), self._keys.open, self._keys.lease(job), self._keys.request(job)]
        return bool(self._end(keys=keys, args=[job, self.keep_s, holder, status, message, taken_back]))

    def _record(self, job: str) -> JobRecord | None:
        found: Any = self.broker.hgetall(self._keys.record(job))
        fields = {_text(name): _text(value) for name, value in found.items()}
        if not fields:
            return None
        try:
            return JobRecord.model_validate(fields)
        except ValidationError as error:
            raise Unavailable(f"The record of job {job} is damaged ({json.dumps(fields)[:200]}).") from error

    def _listed(self, key: str) -> list[str]:
        found: Any = self.broker.zrange(key, 0, -1)
        return [_text(each) for each in found]

    def _unknown(self, job: str) -> NotFound:
        return NotFound(f"There is no {self.what} {job}; {self.listing}.")


def _text(answer: object) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
