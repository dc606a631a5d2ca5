"""Jobs over HTTP, in the words of OGC API – Processes."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from landcover.errors import LandcoverError, NotFound
from landcover.jobs import JobRecord, Status
from landcover_api.answers import geojson_or_csv, wanted_type
from landcover_api.state import State

POLL_AFTER_S = 2
"""What clients are told to wait between looks."""

JobId = Annotated[str, Path(pattern="^[0-9a-f]{12,32}$", description="As in the Location of a 202.")]


class BlockCount(BaseModel):
    """How far a job is, in blocks."""

    total: int = 0
    done: int = 0
    failed: int = 0


class Link(BaseModel):
    """Where to go from here."""

    rel: str
    href: str
    type: str = "application/json"


class JobStatus(BaseModel):
    """A job as clients see it."""

    id: str
    type: str = "statistics"
    title: str
    status: Status
    progress: int
    message: str
    blocks: BlockCount
    eta_s: float | None
    """Seconds to go at the rate so far; null when there is none yet."""
    created: datetime
    started: datetime | None
    updated: datetime
    links: list[Link]


class JobList(BaseModel):
    """The jobs that are kept, the newest first."""

    jobs: list[JobStatus]
    links: list[Link]


def jobs_router() -> APIRouter:
    """The routes below /jobs."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.get("", summary="Jobs that wait, run, or ended lately; the newest first.")
    async def list_jobs(request: Request, state: State, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> JobList:
        records = await asyncio.to_thread(state.jobs.desk.newest, limit)
        return JobList(
            jobs=[_status(request, each) for each in records],
            links=[Link(rel="self", href=str(request.url))],
        )

    @router.get("/{job}", summary="How far a job is.")
    async def show_job(request: Request, state: State, job: JobId, response: Response) -> JobStatus:
        record = await asyncio.to_thread(state.jobs.desk.get, job)
        response.headers["Cache-Control"] = "no-store"
        if not record.ended:
            response.headers["Retry-After"] = str(POLL_AFTER_S)
        return _status(request, record)

    @router.delete("/{job}", summary="End a job that nobody wants any more.")
    async def dismiss_job(request: Request, state: State, job: JobId) -> JobStatus:
        await asyncio.to_thread(state.jobs.desk.dismiss, job)
        return _status(request, await asyncio.to_thread(state.jobs.desk.get, job))

    @router.get(
        "/{job}/results",
        summary="What came out of a job: the same document as if the request had been answered at once.",
        response_class=Response,
        responses={200: {"content": {"application/geo+json": {}, "text/csv": {}}}},
    )
    async def job_results(request: Request, state: State, job: JobId) -> Response:
        record = await asyncio.to_thread(state.jobs.desk.get, job)
        if record.status == "dismissed":
            raise NotFound(f"Job {job} was dismissed; it has no result.")
        if not record.ended:
            raise NotFound(f"Job {job} is {record.status}; its result is there when it is successful.")
        answer = await state.jobs.result(state, job)
        if answer is None and record.status == "failed":
            raise LandcoverError(record.message)
        if answer is None:
            raise NotFound(f"The result of job {job} is no longer kept; ask again: what it mapped may still be there.")
        return await state.draw(geojson_or_csv, answer, wanted_type(request.headers.get("accept")))

    return router


async def accepted(request: Request, state: State, job: str) -> Response:
    """202: the job that does what was asked."""
    status = _status(request, await asyncio.to_thread(state.jobs.desk.get, job))
    headers = {"Location": status.links[0].href, "Retry-After": str(POLL_AFTER_S), "Cache-Control": "no-store"}
    return JSONResponse(status.model_dump(mode="json"), 202, headers)


def _status(request: Request, record: JobRecord) -> JobStatus:
    address = str(request.url_for("show_job", job=record.id))
    links = [Link(rel="self", href=address)]
    if record.status == "successful":
        links.append(
            Link(
                rel="http://www.opengis.net/def/rel/ogc/1.0/results",
                href=f"{address}/results",
                type="application/geo+json",
            )
        )
    detail: dict[str, int] = json.loads(record.detail) if record.detail else {}
    blocks = BlockCount.model_validate(detail)
    if record.status == "successful":
        blocks.done = blocks.total
    return JobStatus(
        id=record.id,
        title=record.subject,
        status=record.status,
        progress=record.progress,
        message=record.message,
        blocks=blocks,
        eta_s=_eta_s(record, blocks.total - blocks.done, blocks.done - detail.get("found", 0)),
        created=_time(record.created_at),
        started=_time(record.started_at) if record.started_at else None,
        updated=record.updated,
        links=links,
    )


def _eta_s(record: JobRecord, left: int, made: int) -> float | None:
    if record.status != "running" or made <= 0:
        return None
    return round(max(0.0, record.updated_at - record.started_at) * left / made, 1)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
