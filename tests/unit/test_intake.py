"""What a worker takes in hand, and the guard that ends one that takes nothing although it could."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from landcover_worker.intake import EXIT_SILENT, FULL_POLL_S, POLL_S, Intake, RoomCycle, SilenceGuard
from servers import Servers

AFTER_S = 0.2
BOTH = ("interactive", "bulk")


def channel() -> SimpleNamespace:
    """As much of kombu's channel as the intake sees."""
    return SimpleNamespace(brpop_timeout=POLL_S)


def test_bulk_leaves_room_for_interactive_and_interactive_none_for_bulk() -> None:
    """Two slots a queue, four threads: bulk may fill two of them, interactive all."""
    intake, at = Intake(2, BOTH), channel()
    cycle = RoomCycle(intake)
    cycle.update(["bulk", "interactive"])
    ends = [intake.take("bulk", at)]
    assert (cycle.consume(2), at.brpop_timeout) == (["interactive", "bulk"], POLL_S)
    ends.append(intake.take("bulk", at))
    assert (cycle.consume(2), at.brpop_timeout) == (["interactive"], FULL_POLL_S)
    ends[0]()
    ends[0]()  # counted once, however often it is told
    assert (cycle.consume(2), at.brpop_timeout) == (["interactive", "bulk"], POLL_S)
    for _ in range(3):
        intake.take("interactive", at)
    assert not intake.has_room_for("interactive")
    assert cycle.consume(2) == ["interactive"]
    ends[1]()
    assert intake.has_room_for("interactive")
    assert cycle.consume(2) == ["interactive", "bulk"]


def test_a_worker_of_one_queue_has_the_slots_of_one() -> None:
    intake = Intake(3, ["bulk"])
    for _ in range(3):
        assert intake.has_room_for("bulk")
        intake.take("bulk", channel())
    assert intake.threads == 3
    assert not intake.has_room_for("bulk")


def ended(servers: Servers, intake: Intake) -> list[int]:
    """With what status the guard ended the process within five times its patience."""
    ends: list[int] = []
    SilenceGuard(servers.broker, BOTH, intake, after_s=AFTER_S, end=ends.append).start()
    until_s = time.monotonic() + 5 * AFTER_S
    while not ends and time.monotonic() < until_s:
        time.sleep(AFTER_S / 10)
    return ends[:1]


@pytest.mark.parametrize(
    ("queue", "in_hand", "expected"),
    [
        ("interactive", {}, [EXIT_SILENT]),
        ("interactive", {"interactive": 1, "bulk": 2}, [EXIT_SILENT]),
        ("interactive", {"interactive": 4}, []),
        ("bulk", {"bulk": 1}, [EXIT_SILENT]),
        ("bulk", {"bulk": 2}, []),
        (None, {}, []),
    ],
    ids=["silent", "a thread left", "all threads busy", "room for bulk", "no room for bulk", "nothing to take"],
)
def test_silence(servers: Servers, queue: str | None, in_hand: dict[str, int], expected: list[int]) -> None:
    if queue:
        servers.broker.lpush(queue, "task")
    intake = Intake(2, BOTH)
    for name, count in in_hand.items():
        for _ in range(count):
            intake.take(name, channel())
    assert ended(servers, intake) == expected


def test_a_worker_that_takes_tasks_is_not_silent(servers: Servers) -> None:
    servers.broker.lpush("interactive", "task")
    intake = Intake(2, ["interactive"])
    ends: list[int] = []
    SilenceGuard(servers.broker, ["interactive"], intake, after_s=AFTER_S, end=ends.append).start()
    until_s = time.monotonic() + 5 * AFTER_S
    while time.monotonic() < until_s:
        end = intake.take("interactive", channel())
        time.sleep(AFTER_S / 10)
        end()
    assert not ends


def test_a_worker_that_drains_is_not_silent(servers: Servers) -> None:
    """Told to stop, it takes nothing more; what it has in hand may take longer than the guard's patience."""
    servers.broker.lpush("interactive", "task")
    intake = Intake(2, BOTH)
    intake.take("interactive", channel())
    intake.close()
    assert ended(servers, intake) == []
