"""Looking jobs up: of whatever kind, and once for all who follow the same."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from landcover.errors import NotFound
from landcover.jobs import JobDesk, JobRecord
from landcover_api.job_status import JobType

if TYPE_CHECKING:
    from landcover_api.state import ApiState

Found: TypeAlias = tuple[JobType, JobRecord]

SHARED_S = 0.8
"""So old may be what a follower is told."""


def desks(state: ApiState) -> dict[JobType, JobDesk]:
    """Where the jobs of each kind are kept."""
    return {"map": state.map_jobs.desk, "statistics": state.jobs.desk}


async def find_job(state: ApiState, job: str) -> Found:
    """A job as it is now.

    Raises:
        NotFound: there is none.
    """
    for kind, desk in desks(state).items():
        try:
            return kind, await asyncio.to_thread(desk.get, job)
        except NotFound:
            continue
    raise NotFound(f"There is no job {job}; GET /jobs lists them.")


@dataclass
class JobLooks:
    """Looks that those who follow a job share: hundreds of them cost the broker what one does."""

    _looks: dict[str, tuple[float, asyncio.Task[Found]]] = field(default_factory=dict)

    async def find(self, state: ApiState, job: str) -> Found:
        """A job as it was of late.

        Raises:
            NotFound: there is none.
        """
        now = time.monotonic()
        looked_at, task = self._looks.get(job, (0.0, None))
        if task is None or now - looked_at > SHARED_S:
            self._looks = {each: look for each, look in self._looks.items() if now - look[0] < SHARED_S}
            task = asyncio.create_task(find_job(state, job), name=f"look at job {job}")
            self._looks[job] = now, task
        return await asyncio.shield(task)
