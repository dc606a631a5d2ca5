"""A job as clients see it, in the words of OGC API – Processes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel

from landcover.jobs import JobRecord, Status

JobType = Literal["map", "statistics"]


class BlockCount(BaseModel):
    """How far a job is, in blocks."""

    total: int = 0
    done: int = 0
    failed: int = 0


class BlockFailure(BaseModel):
    """A block that cannot be had."""

    row: int
    col: int
    reason: str


class Link(BaseModel):
    """Where to go from here."""

    rel: str
    href: str
    type: str = "application/json"


class JobStatus(BaseModel):
    """A job as clients see it."""

    id: str
    type: JobType
    title: str
    scene: str
    model: str
    """Its name."""
    status: Status
    progress: int
    message: str
    blocks: BlockCount
    failures: list[BlockFailure] = []
    """The first of the blocks that cannot be had."""
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


def job_status(request: Request, kind: JobType, record: JobRecord) -> JobStatus:
    """What is told of a job."""
    address = str(request.url_for("show_job", job=record.id))
    links = [Link(rel="self", href=address)]
    if not record.ended:
        links.append(Link(rel="monitor", href=f"{address}/events", type="text/event-stream"))
    if record.status == "successful":
        links.append(
            Link(
                rel="http://www.opengis.net/def/rel/ogc/1.0/results",
                href=f"{address}/results",
                type="application/json" if kind == "map" else "application/geo+json",
            )
        )
    detail: dict[str, Any] = json.loads(record.detail) if record.detail else {}
    blocks = BlockCount.model_validate(detail)
    if record.status == "successful":
        blocks.done = blocks.total - blocks.failed
    return JobStatus(
        id=record.id,
        type=kind,
        title=record.subject,
        scene=record.scene,
        model=record.model,
        status=record.status,
        progress=record.progress,
        message=record.message,
        blocks=blocks,
        failures=detail.get("failures", []),
        eta_s=_eta_s(record, detail, blocks),
        created=_time(record.created_at),
        started=_time(record.started_at) if record.started_at else None,
        updated=record.updated,
        links=links,
    )


def _eta_s(record: JobRecord, detail: dict[str, Any], blocks: BlockCount) -> float | None:
    if record.status != "running":
        return None
    if "eta_s" in detail:  # whoever is at it has measured a rate
        eta_s: float | None = detail["eta_s"]
        return eta_s
    left, made = blocks.total - blocks.done, blocks.done - detail.get("found", 0)
    return round(max(0.0, record.updated_at - record.started_at) * left / made, 1) if made > 0 else None


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
