"""Is the process alive, can it serve, and what has it done: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError

from landcover.keys import WORKER_PREFIX
from landcover.presence import WorkerPresence, parse_presence
from landcover_api.state import ApiState, State

router = APIRouter(tags=["operations"])


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
async def metrics() -> Response:
    """In Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def living_workers(state: ApiState) -> list[WorkerPresence]:
    """Every worker that is warm and takes tasks."""
    keys = [key async for key in state.broker.scan_iter(match=f"{WORKER_PREFIX}*", count=500)]
    return parse_presence(await state.broker.mget(keys)) if keys else []


async def _answers(client: Any) -> bool:
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
