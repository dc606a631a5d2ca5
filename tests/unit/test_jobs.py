"""The desk of jobs in a real broker: what was handed in with a job goes when the job ends, however it ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from landcover.errors import NotFound
from landcover.jobs import JobDesk, Taken
from landcover.keys import STATISTICS_JOBS
from servers import Servers

LEASE_S = 30.0


@pytest.fixture
def desk(servers: Servers) -> JobDesk:
    return JobDesk(servers.broker, STATISTICS_JOBS, keep_s=60)


def begin(desk: JobDesk, job: str, *, max_attempts: int = 3) -> Taken:
    return desk.begin(job, "a", lease_s=LEASE_S, max_attempts=max_attempts)


def finished(desk: JobDesk, job: str) -> None:
    begin(desk, job)
    assert desk.finish(job, "a", "successful", "done")


def dismissed(desk: JobDesk, job: str) -> None:
    desk.dismiss(job)


def buried(desk: JobDesk, job: str) -> None:
    assert begin(desk, job, max_attempts=0) is Taken.BURIED


@pytest.mark.parametrize("end", [finished, dismissed, buried])
def test_a_request_is_kept_until_the_job_has_ended(desk: JobDesk, end: Callable[[JobDesk, str], None]) -> None:
    job = desk.submit("something", request=b"polygons")
    assert desk.request(job) == b"polygons"
    end(desk, job)
    assert desk.get(job).ended
    assert desk.request(job) is None


def test_a_job_that_is_given_back_keeps_its_request(desk: JobDesk) -> None:
    job = desk.submit("something", request=b"polygons")
    begin(desk, job)
    assert desk.release(job, "a", "stopped", blameless=True)
    assert desk.request(job) == b"polygons"


def test_who_submits_an_ended_job_anew_keeps_the_request(desk: JobDesk) -> None:
    job = desk.submit("something", request=b"polygons", job="0123456789ab")
    finished(desk, job)
    assert desk.submit("something", request=b"polygons", job=job) == job
    assert not desk.finish(job, "a", "successful", "late")  # of the first time
    assert (desk.get(job).status, desk.request(job)) == ("accepted", b"polygons")


def test_records_that_have_lapsed_are_no_longer_listed(desk: JobDesk, servers: Servers) -> None:
    lapsed, kept = desk.submit("one"), desk.submit("two")
    servers.broker.delete(STATISTICS_JOBS.record(lapsed))
    assert [each.id for each in desk.all()] == [kept]
    assert servers.broker.zrange(STATISTICS_JOBS.index, 0, -1) == [kept.encode()]
    with pytest.raises(NotFound, match=f"no job {lapsed}"):
        desk.get(lapsed)


def test_the_newest_come_first(desk: JobDesk, servers: Servers) -> None:
    jobs = []
    for number in range(4):
        jobs.append(desk.submit(f"number {number}"))
        time.sleep(0.002)  # submissions within a millisecond have no order
    servers.broker.delete(STATISTICS_JOBS.record(jobs[2]))
    assert [each.subject for each in desk.newest(3)] == ["number 3", "number 1"]
    assert [each.subject for each in desk.newest(3)] == ["number 3", "number 1", "number 0"]  # the lapsed one is gone
