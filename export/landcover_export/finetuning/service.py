"""The trainer: takes rounds from the queue `train`, one at a time, and does each in a process of its own.

Celery's `solo` pool runs the task in the consumer's thread, so that nothing more is taken while a round is under way.
The round itself is a child process, `landcover finetune --resume`: it gives its memory back when it ends, and one that
is killed for its memory does not take the trainer with it. While it runs, the trainer renews the job's lease, tells how
far it is, and listens for the wish to stop.

The task is acknowledged before the round begins; why, and what keeps a round from being lost or done twice, is told
in `landcover.training_jobs`. On top of the lease, the child holds a lock on the round's folder (`run._alone`) and is
ended with its trainer, so that a trainer that was merely cut off from the broker does not write beside its heir: it
stops its child when the lease could not be renewed in time.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import redis
from celery import Celery, signals
from celery.exceptions import SecurityWarning
from kombu.exceptions import OperationalError
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from landcover.connections import connect
from landcover.local import end_with_parent, landcover_command
from landcover.queue import FINETUNE_TASK, TRAIN_QUEUE, FinetuneTask, make_celery, send_finetune
from landcover.settings import BrokerSettings
from landcover.training_jobs import JobRecord, Taken, TrainingDesk
from landcover_export.finetuning.names import NOT_PROMOTED, PROGRESS, VERDICT

logger = logging.getLogger(__name__)

LOG = "trainer.log"
"""In the round's folder: what its process printed."""

_STOP_PATIENCE_S = 20.0


class TrainerSettings(BaseSettings):
    """How one trainer gives up; from `LANDCOVER_TRAINER_*`."""

    model_config = SettingsConfigDict(env_prefix="LANDCOVER_TRAINER_", extra="ignore")

    lease_s: Annotated[float, Field(ge=1)] = 15.0
    """A round whose trainer has not been heard of for so long is resumed by another."""
    max_attempts: Annotated[int, Field(ge=1)] = 3
    """A round that was begun so often without an end is set aside."""


def run() -> int:
    """Work until SIGTERM or SIGINT; the round in hand goes back to the queue. Returns the exit status."""
    settings, url = TrainerSettings(), BrokerSettings().broker_url
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    app = make_celery(url)
    trainer = Trainer(TrainingDesk(connect(url)), app, name, settings)
    register(app, trainer)

    @signals.worker_ready.connect(weak=False)
    def watch(**_: Any) -> None:
        threading.Thread(target=trainer.requeue_strays, name="strays", daemon=True).start()

    @signals.worker_shutting_down.connect(weak=False)
    def stop(**_: Any) -> None:
        trainer.stopping.set()

    logger.info("trainer %s takes rounds from the queue '%s'", name, TRAIN_QUEUE)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # as landcover_worker.service: JSON only
    consumer = app.Worker(
        hostname=f"trainer@{name}",
        pool="solo",
        concurrency=1,
        queues=[TRAIN_QUEUE],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    consumer.start()
    return int(consumer.exitcode or 0)


def register(app: Celery, trainer: Trainer) -> None:
    """Give `app` the training task, acknowledged as soon as it is taken."""

    @app.task(name=FINETUNE_TASK, ignore_result=True, acks_late=False)
    def finetune(**message: Any) -> None:
        try:
            task = FinetuneTask.model_validate(message)
        except ValidationError:
            logger.error("dropped a task that is none")
            return
        trainer.take_up(task.job)


class Trainer:
    """One trainer's work on jobs."""

    def __init__(self, desk: TrainingDesk, app: Celery, name: str, settings: TrainerSettings) -> None:
        self._desk = desk
        self._app = app
        self._name = name
        self._settings = settings
        self.stopping = threading.Event()

    def take_up(self, job: str) -> None:
        """Do the job if it is to be done and nobody else is at it."""
        try:
            taken = self._desk.begin(
                job, self._name, lease_s=self._settings.lease_s, max_attempts=self._settings.max_attempts
            )
            if taken is not Taken.RUN:
                logger.info("job %s is not taken up: %s", job, taken.value)
                return
            record = self._desk.get(job)
        except redis.RedisError as error:
            logger.warning("job %s cannot be taken up: %s", job, error)
            return
        logger.info("job %s: attempt %d in %s", job, record.attempts, record.subject)
        try:
            self._do(record)
        except (redis.RedisError, OperationalError) as error:  # the lease lapses, and the job is found to be stray
            logger.warning("the end of job %s cannot be told: %s", job, error)

    def requeue_strays(self) -> None:
        """Queue anew, again and again, the jobs that were left behind."""
        while not self.stopping.wait(self._settings.lease_s / 2):
            try:
                for record in self._desk.stray():
                    logger.warning("job %s was left by %s and is queued anew", record.id, record.holder or "nobody")
                    send_finetune(self._app, FinetuneTask(job=record.id))
            except (redis.RedisError, OperationalError) as error:
                logger.warning("the jobs cannot be looked through: %s", error)

    def _do(self, record: JobRecord) -> None:
        folder = Path(record.subject)
        if not folder.is_dir():
            self._desk.finish(
                record.id,
                self._name,
                "failed",
                f"The trainer on {socket.gethostname()} sees no folder {folder}; put rounds on a disk that it shares.",
            )
            return
        with (folder / LOG).open("ab") as log:
            child = subprocess.Popen(
                landcover_command("finetune", "--resume", "--out", str(folder)),
                env={**os.environ, "LANDCOVER_LOG_LEVEL": "ERROR"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - async-signal-safe enough: one system call
            )
            try:
                ended = self._attend(record, child, folder)
            finally:
                _end(child)
        if ended:
            self._conclude(record, child.returncode, folder)

    def _attend(self, record: JobRecord, child: subprocess.Popen[bytes], folder: Path) -> bool:
        """Keep the lease while the child works; False if it is to be stopped before its end."""
        heard = time.monotonic()
        while child.poll() is None:
            if self.stopping.wait(min(1.0, self._settings.lease_s / 4)):
                _end(child)
                self._again(record, "its trainer was stopped; waits for another", blameless=True)
                return False
            progress, message = _progress(folder)
            try:
                kept = self._desk.renew(
                    record.id, self._name, lease_s=self._settings.lease_s, progress=progress, message=message
                )
            except redis.RedisError as error:
                logger.warning("the lease of job %s cannot be renewed: %s", record.id, error)
                kept = time.monotonic() - heard < self._settings.lease_s
            else:
                heard = time.monotonic()
            if not kept:
                logger.warning("job %s was dismissed or is another trainer's: it is stopped here", record.id)
                return False
        return True

    def _conclude(self, record: JobRecord, status: int, folder: Path) -> None:
        """Tell how the child ended."""
        verdict = _read(folder / VERDICT)
        if status in (0, NOT_PROMOTED) and verdict:
            word = "promoted" if verdict["promoted"] else "not promoted"
            self._desk.finish(record.id, self._name, "successful", f"{word}: {' '.join(verdict['reasons'])}")
        elif status in (1, 2):
            self._desk.finish(record.id, self._name, "failed", _last_words(folder / LOG))
        else:
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
            logger.warning("the process of job %s ended by %s", record.id, how)
            self._again(record, f"its process ended by {how}; waits for another attempt", blameless=False)

    def _again(self, record: JobRecord, message: str, *, blameless: bool) -> None:
        if self._desk.release(record.id, self._name, message, blameless=blameless):
            send_finetune(self._app, FinetuneTask(job=record.id))


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the child to stop, which it does between two steps; end it when it does not."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _progress(folder: Path) -> tuple[int, str]:
    found = _read(folder / PROGRESS)
    return int(found.get("progress", 0)), str(found.get("message", "starts"))


def _read(path: Path) -> dict[str, Any]:
    """A JSON document of the round; empty while there is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document


def _last_words(log: Path) -> str:
    """The sentence with which the round's process gave up."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("landcover: ") for line in lines if line.startswith("landcover: ")]
    return said[-1] if said else f"It failed; {log} has the reason ({lines[-1] if lines else 'empty'})."
