"""Does the process live, can it serve, what has it done, what waits: `/healthz`, `/readyz`, `/metrics`, `/queues`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

from landcover.errors import Unavailable
from landcover.keys import WORKER_PREFIX
from landcover.presence import WorkerPresence, parse_presence
from landcover.queue_state import QueueReport, read_queues_async
from landcover_api.scrape import StateCollector, exposition
from landcover_api.state import ApiState, State

logger = logging.getLogger(__name__)

router = APIRouter(tags=["operations"])

LOOK_S = 1.0
"""How long broker and cache have to answer a scrape: it shall be late for neither."""


@router.get("/healthz", summary="The process answers.")
async def healthz() -> dict[str, str]:
    """Always 200."""
    return {"status": "alive"}


@router.get("/readyz", summary="Cache and broker answer; which workers there are.")
async def readyz(state: State, response: Response) -> dict[str, Any]:
    """503 while the cache or the broker is away.

    Without the database of annotations there are no annotations, but every map: it is reported only.
    Absent workers do not make the API unready: cached tiles are served without any, and an autoscaler that
    starts workers from zero needs the requests that wait for them.
    """
    checks = {"cache": await _answers(state.cache), "broker": await _answers(state.broker)}
    ready = all(checks.values())
    response.status_code = 200 if ready else 503
    workers = await living_workers(state) if checks["broker"] else []
    return {
        "status": "ready" if ready else "not ready",
        **{name: "ok" if good else "not reachable" for name, good in checks.items()},
        "database": "ok" if await state.database_answers() else "not reachable",
        "workers": [
            {"id": each.id, "provider": each.provider, "models": each.models, "queues": each.queues} for each in workers
        ],
    }


@router.get("/metrics", summary="For Prometheus.")
async def metrics(state: State) -> Response:
    """In Prometheus' text format. While the broker is away it says so, and nothing of the queues."""
    report, cache_up = await asyncio.gather(_queues_in_time(state), _answers_in_time(state.cache))
    found = StateCollector(report, cache_up=cache_up, models=state.models.models, default=state.models.default.digest)
    return Response(await asyncio.to_thread(exposition, found), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/queues",
    summary="What waits for workers, for autoscalers.",
    responses={503: {"description": "The broker is not reachable."}},
)
async def queues(state: State, response: Response) -> dict[str, Any]:
    """By queue: `waiting`, `in_flight`, `oldest_s` in seconds; beside them `dead_letters` and `workers`."""
    response.headers["Cache-Control"] = "no-store"
    report = await _queues_in_time(state)
    if report is None:
        raise Unavailable("The broker is not reachable at the moment; try again in a few seconds.")
    return {
        "queues": {
            name: {"waiting": each.waiting, "in_flight": each.in_flight, "oldest_s": each.oldest_s}
            for name, each in report.queues.items()
        },
        "dead_letters": report.dead_letters,
        "workers": report.workers,
    }


async def living_workers(state: ApiState) -> list[WorkerPresence]:
    """Every worker that is warm and takes tasks."""
    keys = [key async for key in state.broker.scan_iter(match=f"{WORKER_PREFIX}*", count=500)]
    return parse_presence(await state.broker.mget(keys)) if keys else []


async def _queues_in_time(state: ApiState) -> QueueReport | None:
    try:
        async with asyncio.timeout(LOOK_S):
            return await read_queues_async(state.broker)
    except (RedisError, OSError) as error:  # TimeoutError is one
        logger.debug("the queues cannot be looked at: %s", error)
        return None


async def _answers_in_time(client: Any) -> bool:
    try:
        async with asyncio.timeout(LOOK_S):
            return await _answers(client)
    except TimeoutError:
        return False


async def _answers(client: Any) -> bool:
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
