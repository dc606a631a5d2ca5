"""Jobs over HTTP, in the words of OGC API – Processes: maps of whole areas, and statistics that take long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.exceptions import RedisError

from landcover.errors import LandcoverError, NotFound
from landcover.jobs import JobRecord
from landcover.mapping.job import MapResult
from landcover_api.answers import geojson_or_csv, wanted_type
from landcover_api.bodies import read_body
from landcover_api.changing import find_against
from landcover_api.cover import LandCover
from landcover_api.job_looks import desks, find_job
from landcover_api.job_request import JobRequest, read_job_request
from landcover_api.job_status import JobList, JobStatus, JobType, Link, job_status
from landcover_api.landcover import with_current_image
from landcover_api.polygon_statistics import PolygonStatistics, Question
from landcover_api.state import ApiState, State, get_land_cover

POLL_AFTER_S = 2
"""What clients are told to wait between looks."""

EVENTS_EVERY_S = 1.0
"""How often a job is looked at for those who follow its events."""

JobId = Annotated[str, Path(pattern="^[0-9a-f]{12,32}$", description="As in the Location of a 201 or 202.")]


def jobs_router() -> APIRouter:
    """The routes below /jobs."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    _offer_submission(router)
    _offer_looks(router)
    _offer_results(router)
    return router


def _offer_submission(router: APIRouter) -> None:
    @router.post(
        "",
        summary="Have an area mapped into a product, or measured, however large it is.",
        response_class=Response,
        responses={
            201: {"model": JobStatus, "description": "A new job; Location is where it is followed."},
            200: {"model": JobStatus, "description": "The same was asked before, and that job waits, runs or is done."},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": JobRequest.model_json_schema(),
                        "example": {"type": "map", "scene": "demo", "bbox": [140.054, 36.134, 140.06, 36.14]},
                    }
                },
            }
        },
    )
    async def submit_job(request: Request, state: State) -> Response:
        body = await read_body(
            request,
            most_bytes=state.settings.statistics_max_body_bytes,
            remedy="simplify the polygons or send them in parts",
        )
        wanted = await state.draw(read_job_request, body)
        cover = await get_land_cover(state, wanted.scene, wanted.model)

        async def answer(cover: LandCover) -> Response:
            if wanted.type == "statistics":
                return await accepted(request, state, await _submit_statistics(state, wanted, cover), status_code=201)
            asked = await state.draw(wanted.as_map, cover)
            job, new = await state.map_jobs.submit(state, asked, cover)
            return await accepted(request, state, job, status_code=201 if new else 200)

        return await with_current_image(state, cover, answer)

    @router.delete("/{job}", summary="End a job that nobody wants any more.")
    async def dismiss_job(request: Request, state: State, job: JobId) -> JobStatus:
        kind, _ = await find_job(state, job)
        if kind == "map":
            await state.map_jobs.dismiss(job)
        else:
            await asyncio.to_thread(state.jobs.desk.dismiss, job)
        return job_status(request, *(await find_job(state, job)))


def _offer_looks(router: APIRouter) -> None:
    @router.get("", summary="Jobs that wait, run, or ended lately; the newest first.")
    async def list_jobs(request: Request, state: State, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> JobList:
        found = [
            (kind, record)
            for kind, desk in desks(state).items()
            for record in await asyncio.to_thread(desk.newest, limit)
        ]
        found.sort(key=lambda each: -each[1].created_at)
        return JobList(
            jobs=[job_status(request, kind, record) for kind, record in found[:limit]],
            links=[Link(rel="self", href=str(request.url))],
        )

    @router.get("/{job}", summary="How far a job is.")
    async def show_job(request: Request, state: State, job: JobId, response: Response) -> JobStatus:
        kind, record = await find_job(state, job)
        response.headers["Cache-Control"] = "no-store"
        if not record.ended:
            response.headers["Retry-After"] = str(POLL_AFTER_S)
        return job_status(request, kind, record)

    @router.get(
        "/{job}/events",
        summary="How far a job is, as it goes on: server-sent events until it has ended.",
        response_class=EventSourceResponse,
    )
    async def job_events(
        request: Request, state: State, job: JobId, known: Annotated[tuple[JobType, JobRecord], Depends(_known)]
    ) -> AsyncIterator[ServerSentEvent]:
        kind, record = known
        told = None
        while True:
            status = job_status(request, kind, record)
            if status != told:
                yield ServerSentEvent(event=_event_of(record), data=status, id=f"{record.updated_at:.3f}", retry=2000)
                told = status
            if record.ended:
                return
            await asyncio.sleep(EVENTS_EVERY_S)
            try:
                kind, record = await state.looks.find(state, job)
            except RedisError:
                continue  # the job outlasts the broker; so does who follows it
            except NotFound:
                return  # its record has lapsed


def _offer_results(router: APIRouter) -> None:
    @router.get(
        "/{job}/results",
        summary="What came out of a job: a product's files, or the document that the request would have had at once.",
        response_class=Response,
        responses={200: {"content": {"application/json": {}, "application/geo+json": {}, "text/csv": {}}}},
    )
    async def job_results(request: Request, state: State, job: JobId) -> Response:
        kind, record = await find_job(state, job)
        _refuse_unfinished(record)
        if kind == "map":
            return JSONResponse(_product(request, job, await state.map_jobs.result(job)), headers=_FRESH)
        answer = await state.jobs.result(state, job)
        if answer is None and record.status == "failed":
            raise LandcoverError(record.message)
        if answer is None:
            raise NotFound(f"The result of job {job} is no longer kept; ask again: what it mapped may still be there.")
        return await state.draw(geojson_or_csv, answer, wanted_type(request.headers.get("accept")))

    @router.get(
        "/{job}/results/{name}",
        summary="One file of a product; parts of it may be asked for (Range).",
        response_class=FileResponse,
    )
    async def job_file(state: State, job: JobId, name: str) -> FileResponse:
        kind, record = await find_job(state, job)
        _refuse_unfinished(record)
        files = (await state.map_jobs.result(job)).files if kind == "map" else ()
        for each in files:
            if "://" not in each.location and FilePath(each.location).name == name:
                if not await asyncio.to_thread(FilePath(each.location).is_file):
                    raise NotFound(f"{name} of job {job} is no longer there; ask for the map again.")
                return FileResponse(each.location, media_type=each.media_type, filename=name)
        raise NotFound(f"Job {job} has no file '{name}'; GET /jobs/{job}/results lists its files.")


_FRESH = {"Cache-Control": "no-store"}


async def accepted(request: Request, state: ApiState, job: str, *, status_code: int = 202) -> Response:
    """The job that does what was asked, and where to follow it."""
    status = job_status(request, *(await find_job(state, job)))
    headers = {"Location": status.links[0].href, **_FRESH}
    if status.status in ("accepted", "running"):
        headers["Retry-After"] = str(POLL_AFTER_S)
    return JSONResponse(status.model_dump(mode="json"), status_code, headers)


async def _known(state: State, job: JobId) -> tuple[JobType, JobRecord]:
    """The job of the address, found before an answer begins: what is streamed has no other status than 200."""
    return await find_job(state, job)


def _event_of(record: JobRecord) -> str:
    return "end" if record.ended else "status"


def _refuse_unfinished(record: JobRecord) -> None:
    if record.status == "dismissed":
        raise NotFound(f"Job {record.id} was dismissed; it has no result.")
    if not record.ended:
        raise NotFound(f"Job {record.id} is {record.status}; its result is there when it is successful.")


def _product(request: Request, job: str, result: MapResult) -> dict[str, Any]:
    files = []
    for each in result.files:
        name = each.location.rpartition("/")[2]
        remote = "://" in each.location
        href = each.location if remote else str(request.url_for("job_file", job=job, name=name))
        files.append({"name": name, "href": href, **each.model_dump(mode="json", exclude={"location"})})
    return {
        "id": job,
        "files": files,
        "holes": [{"row": row, "col": col, "reason": reason} for row, col, reason in result.holes],
        "registered": result.registered,
    }


async def _submit_statistics(state: ApiState, wanted: JobRequest, cover: LandCover) -> str:
    other = None if wanted.against is None else await find_against(state, cover, wanted.against)
    question = Question(
        scene=cover.scene.id,
        model=cover.model.digest,
        crs=wanted.crs,
        min_confidence=wanted.min_confidence,
        against=None if other is None else (other.scene.id, other.model.digest),
        discount=wanted.discount,
    )
    body = await state.draw(wanted.polygons)
    await PolygonStatistics.begin(state, question, body, cover, other)  # refuses what cannot be counted
    return await state.jobs.submit(state, question, body)
