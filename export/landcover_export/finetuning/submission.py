"""Leaving a round to a trainer, and asking how it gets on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis
from kombu.exceptions import OperationalError
from rich.console import Console
from rich.table import Table

from landcover.connections import connect
from landcover.errors import Conflict, Unavailable
from landcover.queue import FinetuneTask, make_celery, send_finetune
from landcover.settings import BrokerSettings
from landcover.training_jobs import JobRecord, TrainingDesk
from landcover_export.finetuning.config import read_round


def submit(out: Path) -> str:
    """Queue the round that was begun in `out`, and give its job's id.

    Raises:
        InvalidConfiguration: no round was begun there.
        Conflict: a job for this folder is under way.
        Unavailable: the broker is away.
    """
    read_round(out)
    folder = str(out.expanduser().absolute())
    url = BrokerSettings().broker_url
    with _desk() as desk:
        for other in desk.all():
            if other.subject == folder and other.status in ("accepted", "running"):
                raise Conflict(f"The round in {folder} is job {other.id} already ({other.status}).")
        job = desk.submit(folder, message="waits for a trainer")
        send_finetune(make_celery(url), FinetuneTask(job=job))
    return job


def show(job: str, console: Console) -> None:
    """Print one job.

    Raises:
        NotFound: there is no such job.
        Unavailable: the broker is away.
    """
    with _desk() as desk:
        record = desk.get(job)
    _print([record], console)
    console.print(record.message, markup=False, highlight=False)


def list_jobs(console: Console) -> None:
    """Print every job, the oldest first.

    Raises:
        Unavailable: the broker is away.
    """
    with _desk() as desk:
        _print(desk.all(), console)


def dismiss(job: str) -> None:
    """End a job for good.

    Raises:
        NotFound: there is no such job.
        Conflict: it has ended.
        Unavailable: the broker is away.
    """
    with _desk() as desk:
        desk.dismiss(job)


@contextmanager
def _desk() -> Iterator[TrainingDesk]:
    broker = connect(BrokerSettings().broker_url)
    try:
        yield TrainingDesk(broker)
    except (redis.RedisError, OperationalError) as error:
        raise Unavailable(
            f"The broker does not answer ({error}); set LANDCOVER_BROKER_URL to the one that trainers use."
        ) from error
    finally:
        broker.close()


def _print(records: Sequence[JobRecord], console: Console) -> None:
    table = Table()
    for name in ("job", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("progress", "attempts"):
        table.add_column(name, justify="right")
    for name in ("updated", "trainer", "folder"):
        table.add_column(name, overflow="fold")
    for each in records:
        when = f"{each.updated:%Y-%m-%d %H:%M:%S} UTC"
        table.add_row(each.id, each.status, f"{each.progress} %", str(each.attempts), when, each.holder, each.subject)
    console.print(table)
