"""Maps of whole areas: jobs that are taken in here, and done by processes that this one starts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path

from redis.exceptions import RedisError

from landcover.errors import Busy, InvalidRequest, NotFound, RequestTooLarge
from landcover.jobs import JobDesk, JobRecord
from landcover.keys import MAP_JOBS
from landcover.local import end_with_parent
from landcover.mapping.job import SPOOL_NAME, MapResult, MapTask, read_result
from landcover.mapping.request import MapRequest, count_blocks, plan
from landcover.products.destination import check_folder
from landcover.products.write import check_installed
from landcover.settings import ProductSettings
from landcover_api.cover import LandCover
from landcover_api.state import ApiState

logger = logging.getLogger(__name__)

POLL_S = 1.0
STOP_S = 10.0
PAUSE_AFTER_FAILURE_S = 5.0
"""Before another process is started for jobs, when one ended badly."""

SWEEP_EVERY_S = 3600.0


class MapJobs:
    """Takes jobs in, and sees to it that a process is at work on them."""

    def __init__(self, desk: JobDesk, settings: ProductSettings, *, at_once: int) -> None:
        """Do so many jobs `at_once`; with 0 others do them."""
        self.desk = desk
        self._settings = settings
        self._at_once = at_once
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._swept = 0.0

    async def submit(self, state: ApiState, request: MapRequest, cover: LandCover) -> tuple[str, bool]:
        """Take a job in and give its id, and whether it is new: equal jobs are one, as long as its product is there.

        Raises:
            InvalidRequest: this service has no place for products, or the area is none.
            RequestTooLarge: it needs more blocks than a job may.
            DestinationUnwritable: products cannot be written.
            Busy: too many jobs wait already.
            InvalidConfiguration: a package that writes what is asked for is not installed.
        """
        check_installed(request.outputs)
        task = self._task_of(request, cover)
        job = Path(task.work_folder).name
        record = await asyncio.to_thread(self._known, job)
        if record is not None and not record.ended:
            return job, False
        if record is not None and record.status == "successful" and await asyncio.to_thread(self._serves, job, request):
            return job, False
        blocks = await state.draw(lambda: count_blocks(plan(request, cover.scene, cover.model)))
        if blocks > state.settings.map_max_blocks:
            raise RequestTooLarge(
                f"This needs {blocks} blocks; at most {state.settings.map_max_blocks} are mapped by one job. Ask for "
                "parts (bbox), or have the limit raised (LANDCOVER_API_MAP_MAX_BLOCKS)."
            )
        if len(await asyncio.to_thread(self.desk.open)) >= state.settings.max_jobs:
            raise Busy(f"{state.settings.max_jobs} jobs wait or run already; try again when some have ended.")
        await asyncio.to_thread(check_folder, Path(task.work_folder).parent)

        def submit() -> None:
            self.desk.submit(
                f"map of {request.scene}",
                request=task.model_dump_json().encode(),
                message="waits for its turn",
                scene=request.scene,
                model=cover.model.name,
                detail=json.dumps({"total": blocks}),
                job=job,
            )

        await asyncio.to_thread(submit)
        self._wake.set()
        return job, True

    async def result(self, job: str) -> MapResult:
        """What came of a job that has ended.

        Raises:
            NotFound: it is no longer kept.
            LandcoverError: why the job failed.
        """
        data = await asyncio.to_thread(self.desk.broker.get, MAP_JOBS.result(job))
        if data is None:
            raise NotFound(f"The result of job {job} is no longer kept; ask again: its blocks may still be there.")
        return read_result(data)

    async def dismiss(self, job: str) -> None:
        """End a job that nobody wants any more; what was mapped for it goes.

        Raises:
            NotFound, Conflict: there is no such job, or it has ended.
        """

        def dismiss() -> None:
            request = self.desk.request(job)
            self.desk.dismiss(job)
            if request is not None and not self.desk.held(job):  # else its process does
                shutil.rmtree(MapTask.model_validate_json(request).work_folder, ignore_errors=True)

        await asyncio.to_thread(dismiss)

    def start(self) -> None:
        """Begin to have jobs done."""
        if self._at_once:
            self._task = asyncio.create_task(self._work(), name="map jobs")

    async def stop(self) -> None:
        """Have the processes give their jobs back to others."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for running in self._running.values():
            running.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _task_of(self, request: MapRequest, cover: LandCover) -> MapTask:
        products = self._settings.products
        if products is None:
            raise InvalidRequest(
                "This service has no place for products: set LANDCOVER_PRODUCTS to a folder or s3://bucket/prefix."
            )
        version = cover.scene.version
        job = request.job_id(version)
        name = f"{request.scene}.tif"
        if products.startswith("s3://"):
            destination = f"{products.rstrip('/')}/{job}/{name}"
            folder = self._settings.products_work.resolve() / job
        else:
            folder = Path(products).expanduser().resolve() / job
            destination = str(folder / name)
        return MapTask(request=request, version=version, destination=destination, work_folder=str(folder))

    def _known(self, job: str) -> JobRecord | None:
        try:
            return self.desk.get(job)
        except NotFound:
            return None

    def _serves(self, job: str, request: MapRequest) -> bool:
        """Whether the files of a job that ended well are there, and are what is asked for now."""
        data = self.desk.broker.get(MAP_JOBS.result(job))
        if data is None:
            return False
        result = read_result(data)
        if result.holes and not request.allow_missing:
            return False
        return all("://" in each.location or Path(each.location).exists() for each in result.files)

    async def _work(self) -> None:
        while True:
            pause_s = POLL_S
            try:
                self._running = {job: task for job, task in self._running.items() if not task.done()}
                if len(self._running) < self._at_once:
                    for job in await asyncio.to_thread(self._waiting):
                        if job not in self._running and len(self._running) < self._at_once:
                            self._running[job] = asyncio.create_task(self._do(job), name=f"map job {job}")
                await asyncio.to_thread(self._sweep)
            except (RedisError, OSError) as error:
                logger.warning("map jobs cannot be looked at: %s", error)
                pause_s = PAUSE_AFTER_FAILURE_S
            except Exception:
                logger.exception("map jobs cannot be looked at")
                pause_s = PAUSE_AFTER_FAILURE_S
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause_s)

    def _waiting(self) -> list[str]:
        return [job for job in self.desk.open() if not self.desk.held(job)]

    async def _do(self, job: str) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "landcover.mapping",
            job,
            "--keep-s",
            str(self.desk.keep_s),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_polite_child,
        )
        try:
            if await process.wait() != 0:
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
            raise
        finally:
            self._wake.set()

    def _sweep(self) -> None:
        """Delete what jobs left unfinished that nobody has taken up again for as long as their records are kept."""
        now = time.monotonic()
        if now - self._swept < SWEEP_EVERY_S and self._swept:
            return
        self._swept = now
        products = self._settings.products
        root = self._settings.products_work if products is None or "://" in products else Path(products).expanduser()
        open_jobs = set(self.desk.open())
        for spool in root.glob(f"*/{SPOOL_NAME}"):
            age_s = time.time() - spool.stat().st_mtime
            if spool.parent.name not in open_jobs and age_s > self.desk.keep_s:
                logger.info("what was left of job %s is deleted", spool.parent.name)
                shutil.rmtree(spool.parent, ignore_errors=True)


def _polite_child() -> None:
    """Ends with us, and leaves the processor to whoever answers requests."""
    end_with_parent()
    os.nice(10)
