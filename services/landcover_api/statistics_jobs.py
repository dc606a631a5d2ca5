"""Statistics that are too much for one request: jobs that any API process takes up, one at a time each.

A job lives in the broker (`landcover.jobs`), so that it outlasts every process; what it has mapped lies in the cache,
so that whoever takes it up again goes on from there. Its blocks go through the bulk queue, behind those of maps.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import zstandard
from redis.exceptions import RedisError

from landcover import block
from landcover.coordination import FAILURE_TTL_S
from landcover.errors import BlockDamaged, Busy, LandcoverError, SceneChanged, Unavailable, from_code
from landcover.grid import BlockIndex
from landcover.jobs import JobDesk, Taken
from landcover.keys import STATISTICS_JOBS
from landcover.queue import BULK_QUEUE
from landcover_api.cover import LandCover
from landcover_api.polygon_statistics import PolygonStatistics, Question
from landcover_api.state import ApiState, get_land_cover

logger = logging.getLogger(__name__)

LEASE_S = 15.0
RENEW_S = 1.0
"""How often the lease is prolonged, progress told, and a dismissal noticed."""

POLL_S = 2.0
MADE_AT_ONCE = 256
"""Blocks that are made before they are counted: far fewer than a cache holds."""

IN_FLIGHT = 16
"""Blocks of one job that are asked for at a time: enough for some workers, few enough for the queue."""

WAIT_S = 30.0
TRIES = 3
"""Of a block that fails, and of a job whose image is replaced."""

ROUNDS = 4
"""Of mapping what is missing without getting on: the cache drops blocks meanwhile."""

MAX_ATTEMPTS = 5


@dataclass
class Progress:
    """How far a job is, in blocks."""

    total: int = 0
    done: int = 0
    """Counted."""
    found: int = 0
    """Of these, counted at once, since they were mapped before."""

    @property
    def percent(self) -> int:
        """Never 100: that is for jobs that have ended."""
        return min(99, 100 * self.done // max(self.total, 1))

    @property
    def detail(self) -> str:
        """As the record keeps it."""
        return json.dumps({"total": self.total, "done": self.done, "failed": 0, "found": self.found})


class StatisticsJobs:
    """Takes jobs in, and works on them."""

    def __init__(self, desk: JobDesk) -> None:
        self.desk = desk
        self._name = f"{socket.gethostname()}:{secrets.token_hex(3)}"
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, state: ApiState, question: Question, body: bytes) -> str:
        """Keep a question for later and give its job's id; who asks the same while it is open gets the same job.

        Raises:
            Busy: too many jobs wait already.
        """
        document = {"question": question.model_dump(mode="json"), "body": body.decode("utf-8", "replace")}
        job = hashlib.sha256(orjson.dumps(document)).hexdigest()[:32]
        jobs = await asyncio.to_thread(self.desk.open)
        if job not in jobs and len(jobs) >= state.settings.max_jobs:
            raise Busy(f"{state.settings.max_jobs} jobs wait or run already; try again when some have ended.")

        def submit() -> str:
            return self.desk.submit(
                f"statistics of {question.scene}",
                request=_packed(document),
                message="waits for its turn",
                scene=question.scene,
                model=state.models.model(question.model).name,
                job=job,
            )

        await asyncio.to_thread(submit)
        self._wake.set()
        return job

    async def result(self, state: ApiState, job: str) -> Any:
        """What came out of an ended job; None if it is no longer kept.

        Raises:
            LandcoverError: why the job failed.
        """
        data = await state.cache.get(STATISTICS_JOBS.result(job))
        if data is None:
            return None
        found = _unpacked(data if isinstance(data, bytes) else data.encode())
        if "error" in found:
            raise from_code(found["error"], found["detail"])
        return found["answer"]

    def start(self, state: ApiState) -> None:
        """Begin to take up jobs."""
        self._task = asyncio.create_task(self._work(state), name="statistics jobs")

    async def stop(self) -> None:
        """Give the job in hand back to others."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _work(self, state: ApiState) -> None:
        while True:
            try:
                for job in await asyncio.to_thread(self.desk.open):
                    await self._take(state, job)
            except (RedisError, OSError) as error:
                logger.warning("jobs cannot be looked at: %s", error)
            except Exception:
                logger.exception("a job ended unexpectedly; the next are taken up")
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_S)

    async def _take(self, state: ApiState, job: str) -> None:
        taken = await asyncio.to_thread(
            lambda: self.desk.begin(job, self._name, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS)
        )
        if taken is not Taken.RUN:
            return
        logger.info("job %s is taken up", job)
        progress = Progress()
        work = asyncio.create_task(self._do(state, job, progress))
        try:
            while not (await asyncio.wait({work}, timeout=RENEW_S))[0]:
                if not await self._renewed(job, progress):
                    work.cancel()
                    logger.info("job %s was dismissed, or is another's now", job)
                    break
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            await self._release(job, "waits for another process")
            raise

    async def _release(self, job: str, message: str) -> None:
        with suppress(RedisError, OSError):
            await asyncio.to_thread(self.desk.release, job, self._name, message, blameless=True)

    async def _renewed(self, job: str, progress: Progress) -> bool:
        def renew() -> bool:
            message = f"{progress.done} of {progress.total} blocks"
            return self.desk.renew(
                job, self._name, lease_s=LEASE_S, progress=progress.percent, message=message, detail=progress.detail
            )

        try:
            return await asyncio.to_thread(renew)
        except (RedisError, OSError) as error:
            logger.warning("job %s: its lease cannot be prolonged now: %s", job, error)
            return True  # the lease decides, not this attempt

    async def _do(self, state: ApiState, job: str, progress: Progress) -> None:
        """Work on a job to its end; whatever is only away for a while gives it back for another try."""
        try:
            request = await asyncio.to_thread(self.desk.request, job)
            if request is None:
                raise Unavailable("What was asked is no longer kept; ask again.")
            kept = _unpacked(request)
            question = Question.model_validate(kept["question"])
            found: dict[str, Any] = {"answer": await _answer(state, question, kept["body"].encode(), progress)}
            message = "done"
        except (RedisError, OSError) as error:
            logger.warning("job %s is given back: %s", job, error)
            await asyncio.sleep(POLL_S)
            await self._release(job, "the cache was away; waits for another try")
            return
        except LandcoverError as error:
            found, message = {"error": error.code, "detail": str(error)}, str(error)
        except Exception:
            logger.exception("job %s failed unexpectedly", job)
            message = "The server failed on this job; its log has the reason."
            found = {"error": LandcoverError.__name__, "detail": message}
        await state.cache.set(STATISTICS_JOBS.result(job), _packed(found), ex=state.settings.job_keep_s)
        await self._renewed(job, progress)
        status: Literal["successful", "failed"] = "successful" if "answer" in found else "failed"
        await asyncio.to_thread(self.desk.finish, job, self._name, status, message)
        logger.info("job %s: %s", job, message)


async def _answer(state: ApiState, question: Question, body: bytes, progress: Progress) -> dict[str, Any]:
    """Map what is missing and count all of it, anew if the image is replaced meanwhile."""
    for attempt in range(1, TRIES + 1):
        cover = await get_land_cover(state, question.scene, question.model)
        against = await get_land_cover(state, *question.against) if question.against else None
        try:
            work = await PolygonStatistics.begin(state, question, body, cover, against)
            await _complete(state, work, cover, against, progress)
            return await state.draw(work.answer)
        except SceneChanged:
            if attempt == TRIES:
                raise
            for each in (cover, against):
                if each is not None:
                    state.scenes.forget(each.scene.id)
    raise AssertionError("the last attempt returns or raises")


async def _complete(
    state: ApiState, work: PolygonStatistics, cover: LandCover, against: LandCover | None, progress: Progress
) -> None:
    """Count everything.

    Raises:
        LandcoverError: a block cannot be made, or the cache drops blocks faster than they are counted.
    """
    progress.total = work.total
    stuck, stuck_at = 0, -1
    while not work.complete:
        try:
            await work.counting.advance(most_missing=MADE_AT_ONCE)
            missing, others = set(work.counting.missing), set[BlockIndex]()
            if work.counting.complete and work.changing is not None:
                await work.changing.advance(most_missing=MADE_AT_ONCE)
                missing, others = set(work.changing.missing_after), set(work.changing.missing_before)
        except BlockDamaged:  # it is dropped, and made again
            missing, others = set(), set()
        progress.done = work.done
        if stuck_at < 0:
            progress.found = progress.done
        if progress.done == stuck_at:
            stuck += 1
            if stuck == ROUNDS:
                raise Unavailable("The cache drops blocks before they are counted: it is too small. Ask for parts.")
        else:
            stuck, stuck_at = 0, progress.done
        await _make(state, cover, sorted(missing))
        if against is not None:
            await _make(state, against, sorted(others))


async def _make(state: ApiState, cover: LandCover, indices: Sequence[BlockIndex]) -> None:
    """Have blocks made, a few at a time."""
    rest = iter(indices)

    async def one_after_another() -> None:
        for index in rest:
            await _make_one(state, cover, index)

    tasks = [asyncio.create_task(one_after_another()) for _ in range(min(IN_FLIGHT, len(indices)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _make_one(state: ApiState, cover: LandCover, index: BlockIndex) -> None:
    failures = 0
    while True:
        fetched = await state.blocks.fetch(
            cover, [index], [block.HISTOGRAM_FIELD, block.JOINT_FIELD], wait_s=WAIT_S, queue=BULK_QUEUE
        )
        if index in fetched.found:
            return
        if index in fetched.failed:
            failures += 1
            if failures == TRIES or isinstance(fetched.failed[index], SceneChanged):
                raise fetched.failed[index]
            await asyncio.sleep(math.ceil(FAILURE_TTL_S) + 1)


def _packed(document: object) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(orjson.dumps(document))


def _unpacked(data: bytes) -> Any:
    return orjson.loads(zstandard.ZstdDecompressor().decompress(data))
