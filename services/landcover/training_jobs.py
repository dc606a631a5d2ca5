"""Rounds of fine-tuning as jobs, announced on the training queue.

A trainer acknowledges the task as soon as it has it; the record and its lease (`landcover.jobs`) keep the job from
being lost. The alternative, to acknowledge late and let the broker deliver again, ties the job to Redis'
`visibility_timeout`: a round takes hours, so the timeout would have to be days, and a killed trainer's round would wait
as long.

Whoever finds a job that should be under way and is not (`stray`) queues it anew. A task too many is harmless: `begin`
refuses what is taken or has ended.
"""

from __future__ import annotations

import redis

from landcover.jobs import NOW, JobDesk, JobRecord, Taken
from landcover.keys import TRAINING_JOBS
from landcover.queue import TRAIN_QUEUE

__all__ = ["STRAY_AFTER_S", "JobRecord", "Taken", "TrainingDesk"]

STRAY_AFTER_S = 10.0
"""Age at which an accepted job is taken for lost while the queue is empty: its task went down with a trainer."""

# KEYS: record, lease, queue. ARGV: age in seconds at which an accepted job is stray.
STRAY_SCRIPT = (
    NOW
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


class TrainingDesk(JobDesk):
    """The desk of rounds; a job's subject is its folder, an absolute path that submitter and trainer share."""

    what = "training job"
    listing = "landcover trainer --list shows them"
    buried = (
        "It ended its trainer {attempts} times and was set aside; the trainer's log has the reason (often too little "
        "memory: lower --batch or --crop)."
    )

    def __init__(self, broker: redis.Redis) -> None:
        super().__init__(broker, TRAINING_JOBS)
        self._stray = broker.register_script(STRAY_SCRIPT)

    def stray(self, *, after_s: float = STRAY_AFTER_S) -> list[JobRecord]:
        """The jobs that should be under way and are not; each is *accepted* now and to be queued by the caller."""
        records = [self.get(job) for job in self.open()]
        keys = TRAINING_JOBS
        return [
            record
            for record in records
            if self._stray(keys=[keys.record(record.id), keys.lease(record.id), TRAIN_QUEUE], args=[after_s])
        ]
