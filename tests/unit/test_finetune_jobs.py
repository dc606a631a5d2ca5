"""Training jobs in a real broker: one trainer each, none lost, and a job that ends its trainers is set aside."""

from __future__ import annotations

import time

import pytest

from landcover.errors import Conflict, NotFound
from landcover.keys import TRAINING_JOBS
from landcover.queue import BULK_QUEUE, INTERACTIVE_QUEUE, TRAIN_QUEUE, FinetuneTask, make_celery, send_finetune
from landcover.training_jobs import Taken, TrainingDesk
from landcover_worker.settings import WorkerSettings
from servers import Servers

LEASE_S = 30.0


@pytest.fixture
def desk(servers: Servers) -> TrainingDesk:
    return TrainingDesk(servers.broker)


def begin(
    desk: TrainingDesk, job: str, trainer: str = "a", *, lease_s: float = LEASE_S, max_attempts: int = 3
) -> Taken:
    return desk.begin(job, trainer, lease_s=lease_s, max_attempts=max_attempts)


def lapse(servers: Servers, job: str) -> None:
    """The trainer died, and its lease has run out."""
    servers.broker.delete(TRAINING_JOBS.lease(job))


def test_a_job_from_submission_to_its_end(desk: TrainingDesk) -> None:
    job = desk.submit("/shared/runs/round1")
    record = desk.get(job)
    assert (record.status, record.progress, record.attempts) == ("accepted", 0, 0)
    assert record.subject == "/shared/runs/round1"
    assert begin(desk, job) is Taken.RUN
    assert desk.renew(job, "a", lease_s=LEASE_S, progress=40, message="epoch 2 of 5")
    record = desk.get(job)
    assert (record.status, record.progress, record.message) == ("running", 40, "epoch 2 of 5")
    assert (record.holder, record.attempts) == ("a", 1)
    assert desk.finish(job, "a", "successful", "promoted")
    record = desk.get(job)
    assert (record.status, record.progress, record.message) == ("successful", 100, "promoted")
    assert record.updated_at >= record.created_at > time.time() - 60
    assert begin(desk, job, "b") is Taken.ENDED


def test_two_trainers_never_have_one_job(desk: TrainingDesk, servers: Servers) -> None:
    job = desk.submit("/x")
    assert begin(desk, job, "a") is Taken.RUN
    assert begin(desk, job, "b") is Taken.TAKEN
    lapse(servers, job)
    assert begin(desk, job, "b") is Taken.RUN
    assert not desk.renew(job, "a", lease_s=LEASE_S, progress=99, message="late")  # cut off, not dead
    assert not desk.finish(job, "a", "failed", "late")
    assert (desk.get(job).holder, desk.get(job).progress) == ("b", 0)
    assert desk.renew(job, "b", lease_s=LEASE_S, progress=10, message="")


def test_a_job_that_ends_its_trainers_is_failed_with_a_reason(desk: TrainingDesk, servers: Servers) -> None:
    job = desk.submit("/x")
    for _ in range(2):
        assert begin(desk, job, max_attempts=2) is Taken.RUN
        lapse(servers, job)
    assert begin(desk, job, max_attempts=2) is Taken.BURIED
    assert desk.get(job).status == "failed"
    assert "ended its trainer 2 times" in desk.get(job).message
    assert begin(desk, job, max_attempts=2) is Taken.ENDED


def test_an_orderly_stop_is_no_attempt(desk: TrainingDesk) -> None:
    job = desk.submit("/x")
    for _ in range(5):
        assert begin(desk, job, max_attempts=1) is Taken.RUN
        assert desk.release(job, "a", "stopped", blameless=True)
    assert (desk.get(job).status, desk.get(job).attempts) == ("accepted", 0)
    assert begin(desk, job, max_attempts=1) is Taken.RUN
    assert desk.release(job, "a", "out of memory", blameless=False)
    assert begin(desk, job, max_attempts=1) is Taken.BURIED


def test_strays_are_found_once_and_only_when_nobody_is_at_them(desk: TrainingDesk, servers: Servers) -> None:
    waiting, running, dead, done = (desk.submit(f"/{name}") for name in ("waiting", "running", "dead", "done"))
    for job in (running, dead, done):
        begin(desk, job)
    desk.finish(done, "a", "failed", "")
    lapse(servers, dead)
    assert [each.id for each in desk.stray(after_s=60)] == [dead]
    assert desk.get(dead).status == "accepted"
    assert desk.stray(after_s=60) == []
    servers.broker.rpush(TRAIN_QUEUE, "a task")
    assert desk.stray(after_s=0) == []  # what waits in the queue is not lost
    servers.broker.delete(TRAIN_QUEUE)
    assert {each.id for each in desk.stray(after_s=0)} == {waiting, dead}  # submitted within the same second


def test_a_dismissed_job_is_not_gone_on_with(desk: TrainingDesk) -> None:
    job = desk.submit("/x")
    begin(desk, job)
    desk.dismiss(job)
    assert not desk.renew(job, "a", lease_s=LEASE_S, progress=10, message="")
    assert not desk.finish(job, "a", "successful", "")
    assert begin(desk, job, "b") is Taken.ENDED
    assert desk.get(job).status == "dismissed"
    with pytest.raises(Conflict, match="is dismissed already"):
        desk.dismiss(job)


def test_an_unknown_job_is_said_to_be_unknown(desk: TrainingDesk) -> None:
    for ask in (desk.get, desk.dismiss):
        with pytest.raises(NotFound, match="no training job 0123456789ab"):
            ask("0123456789ab")
    assert begin(desk, "0123456789ab") is Taken.ENDED
    assert desk.all() == []


def test_training_tasks_go_where_no_worker_of_blocks_takes_them(servers: Servers) -> None:
    url = "redis://{host}:{port}/{db}".format(**servers.broker.connection_pool.connection_kwargs)
    app = make_celery(url)
    send_finetune(app, FinetuneTask(job="0123456789ab"))
    app.close()
    assert servers.broker.llen(TRAIN_QUEUE) == 1
    assert servers.broker.llen(INTERACTIVE_QUEUE) == servers.broker.llen(BULK_QUEUE) == 0
    assert TRAIN_QUEUE not in WorkerSettings().queues
    with pytest.raises(ValueError, match="interactive"):
        WorkerSettings(queues=("train",))
