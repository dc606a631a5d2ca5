"""The guard ends a worker that takes nothing although it could, and no other."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from landcover_worker.intake import EXIT_SILENT, Intake, SilenceGuard
from servers import Servers

AFTER_S = 0.2


def ended(servers: Servers, intake: Intake) -> list[int]:
    """With what status the guard ended the process within five times its patience."""
    ends: list[int] = []
    SilenceGuard(servers.broker, ["interactive"], intake, after_s=AFTER_S, end=ends.append).start()
    until_s = time.monotonic() + 5 * AFTER_S
    while not ends and time.monotonic() < until_s:
        time.sleep(AFTER_S / 10)
    return ends[:1]


@pytest.mark.parametrize(
    ("waiting", "in_hand", "expected"),
    [(1, 0, [EXIT_SILENT]), (1, 1, [EXIT_SILENT]), (1, 2, []), (0, 0, [])],
    ids=["silent", "silent with a thread left", "all threads busy", "nothing to take"],
)
def test_silence(servers: Servers, waiting: int, in_hand: int, expected: list[int]) -> None:
    for _ in range(waiting):
        servers.broker.lpush("interactive", "task")
    intake = Intake(threads=2)
    with ExitStack() as tasks:
        for _ in range(in_hand):
            tasks.enter_context(intake.task())
        assert ended(servers, intake) == expected


def test_a_worker_that_takes_tasks_is_not_silent(servers: Servers) -> None:
    servers.broker.lpush("interactive", "task")
    intake = Intake(threads=2)
    ends: list[int] = []
    SilenceGuard(servers.broker, ["interactive"], intake, after_s=AFTER_S, end=ends.append).start()
    until_s = time.monotonic() + 5 * AFTER_S
    while time.monotonic() < until_s:
        with intake.task():
            time.sleep(AFTER_S / 10)
    assert not ends
