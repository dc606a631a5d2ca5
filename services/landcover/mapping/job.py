"""A map job: what the broker keeps of it, and the process that does it.

    python -m landcover.mapping JOB

An API process starts one for each job that waits (`landcover_api.map_jobs`), so that what a product costs in memory and
processor is nobody else's. Its lease in the broker tells whether it lives; what it has finished lies in the spool.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import redis
from pydantic import BaseModel, ConfigDict

from landcover.catalog import load_models, load_scenes
from landcover.connections import connect
from landcover.errors import LandcoverError, NotFound, SceneChanged, Unavailable, from_code
from landcover.jobs import JobDesk, Taken
from landcover.keys import MAP_JOBS
from landcover.local import stop_signals
from landcover.mapping.lease import LEASE_S, Lease
from landcover.mapping.request import MapRequest, plan
from landcover.mapping.run import MapRun, Progress
from landcover.products.register import ProductRecord, ProductRegister
from landcover.products.spec import ProductSpec
from landcover.products.spool import remove_spool
from landcover.products.write import ProductFile
from landcover.queue import make_celery
from landcover.settings import BrokerSettings, CacheSettings, CatalogSettings, ReadSettings

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""Beginnings without a new block or an end, after which a job is set aside."""

SPOOL_NAME = "blocks.part"

EXIT_GIVEN_BACK = 75
"""Exit status (EX_TEMPFAIL): another process may take the job up."""


class MapTask(BaseModel):
    """What is kept with a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: MapRequest
    version: str
    """Of the scene, when it was asked for."""
    destination: str
    """Of the class map: a path or an s3 URL."""
    work_folder: str
    """For the spool."""

    @property
    def spool(self) -> Path:
        """The finished blocks of this job."""
        return Path(self.work_folder) / SPOOL_NAME


class MapResult(BaseModel):
    """What came of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[ProductFile, ...]
    holes: tuple[tuple[int, int, str], ...] = ()
    """Row, column and reason of the blocks that the product lacks."""
    registered: bool
    """Whether tiles and statistics come from it."""


class _Stopped(Exception):
    """The job is no longer this process's, or the process is to end."""


def run_job(job: str, *, keep_s: int) -> int:
    """Do one job, whose record is kept so long when it has ended, and return an exit status.

    Raises:
        LandcoverError: the settings cannot be used.
    """
    broker = connect(BrokerSettings().broker_url)
    desk = JobDesk(broker, MAP_JOBS, keep_s=keep_s)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
    if desk.begin(job, holder, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS) is not Taken.RUN:
        return 0
    logger.info("map job %s is taken up", job)
    request = desk.request(job)
    with stop_signals() as asked, Lease(desk, job, holder) as lease:
        try:
            if request is None:
                raise Unavailable("What was asked is no longer kept; ask again.")
            task = MapTask.model_validate_json(request)
            result, record = _map(broker, task, job, lease, asked)
            if not lease.end(lambda: _succeed(desk, job, holder, result, record)):
                raise _Stopped  # whoever has it now goes on with the spool
            remove_spool(task.spool)
        except _Stopped:
            if lease.lost:
                logger.info("map job %s was dismissed, or is another's now", job)
                clear_dismissed(desk, job, task)
                return 0
            lease.release("waits for another process")
            return EXIT_GIVEN_BACK
        except LandcoverError as error:
            failure = error
        except Exception:
            logger.exception("map job %s failed unexpectedly", job)
            failure = LandcoverError("The server failed on this job; its log has the reason.")
        else:
            return 0
        logger.warning("map job %s failed: %s", job, failure)
        lease.end(lambda: _fail(desk, job, holder, failure))
    return 0


def read_result(data: bytes | str) -> MapResult:
    """What `run_job` kept of a job that has ended.

    Raises:
        LandcoverError: why it failed.
    """
    document = json.loads(data)
    if "error" in document:
        raise from_code(document["error"], document["detail"])
    return MapResult.model_validate(document)


def clear_dismissed(desk: JobDesk, job: str, task: MapTask) -> None:
    """Delete what was mapped for a job that nobody wants any more."""
    try:
        dismissed = desk.get(job).status == "dismissed"
    except (NotFound, redis.RedisError):
        return
    if dismissed:
        shutil.rmtree(task.work_folder, ignore_errors=True)


def _succeed(desk: JobDesk, job: str, holder: str, result: MapResult, record: ProductRecord | None) -> None:
    """End a job well. Whatever of it is repeated, because the broker went away between, does no harm."""
    desk.broker.set(MAP_JOBS.result(job), result.model_dump_json(), ex=desk.keep_s or None)
    if record is not None:
        ProductRegister(desk.broker).add(record)
    desk.finish(job, holder, "successful", "done")
    logger.info("map job %s is done", job)


def _fail(desk: JobDesk, job: str, holder: str, error: LandcoverError) -> None:
    document = json.dumps({"error": error.code, "detail": str(error)})
    desk.broker.set(MAP_JOBS.result(job), document, ex=desk.keep_s or None)
    desk.finish(job, holder, "failed", str(error))


def _map(
    broker: redis.Redis, task: MapTask, job: str, lease: Lease, asked: Callable[[], bool]
) -> tuple[MapResult, ProductRecord | None]:
    read, catalog, cache_settings = ReadSettings(), CatalogSettings(), CacheSettings()
    scene = load_scenes(catalog, read).scene(task.request.scene)
    model = load_models(catalog).model(task.request.model)
    if scene.version != task.version:
        raise SceneChanged(f"Scene '{scene.id}' was replaced since this was asked; ask anew for its new version.")
    spec = plan(task.request, scene, model)
    celery = make_celery(BrokerSettings().broker_url)

    def check() -> None:
        if lease.lost or asked():
            raise _Stopped

    Path(task.work_folder).mkdir(parents=True, exist_ok=True)
    run = MapRun(
        spec,
        cache=connect(cache_settings.cache_url),
        broker=broker,
        celery=celery,
        spool=task.spool,
        read=read,
        check=check,
    )
    lease.tells(run.progress)
    outputs = task.request.outputs
    files = run.run(task.destination, outputs, allow_missing=task.request.allow_missing)
    record = record_of(spec, files, job, run.progress) if outputs.confidence != "none" else None
    result = MapResult(
        files=tuple(files),
        holes=tuple((index.row, index.col, reason) for index, reason in run.progress.failures.items()),
        registered=record is not None,
    )
    return result, record


def record_of(spec: ProductSpec, files: list[ProductFile], job: str, progress: Progress) -> ProductRecord | None:
    """The product as a source of blocks; None if pixels of its window were left out."""
    if spec.area.clipped:
        return None
    by_role = {each.role: each.location for each in files}
    band = "confidence" not in by_role
    return ProductRecord(
        id=job,
        scene=spec.scene.id,
        version=spec.scene.version,
        digest=spec.model.digest,
        decimation=spec.grid.decimation,
        row_px=spec.area.row_px,
        col_px=spec.area.col_px,
        height_px=spec.area.height_px,
        width_px=spec.area.width_px,
        classes=by_role["classes"],
        confidence=by_role["classes" if band else "confidence"],
        confidence_band=2 if band else 1,
        holes=tuple((index.row, index.col) for index in progress.failures),
        made_at=time.time(),
    )
