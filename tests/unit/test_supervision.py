"""A block that hangs ends the process; one that is only slow keeps its lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import pytest
import redis

from landcover.grid import BlockIndex
from landcover.keys import BlockKey
from landcover_worker.supervision import EXIT_HUNG, BlocksInHand

KEY = BlockKey("scene", "v1", "sha256:" + "0" * 64, 1, BlockIndex(0, 0))
OTHER = BlockKey("scene", "v1", "sha256:" + "0" * 64, 1, BlockIndex(0, 1))


class Desk:
    """Notes what is renewed."""

    def __init__(self) -> None:
        self.renewed: list[BlockKey] = []
        self.uncounted: list[BlockKey] = []
        self.answer: Callable[[], bool] = lambda: True

    def uncount_attempts(self, keys: Iterable[BlockKey]) -> None:
        self.uncounted += keys

    def renew(self, key: BlockKey) -> bool:
        self.renewed.append(key)
        return self.answer()


class End:
    """Stands for the end of the process: the watching thread goes no further."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.called = threading.Event()

    def __call__(self, status: int) -> None:
        self.statuses.append(status)
        self.called.set()
        threading.Event().wait()


def watched(desk: Desk, end: End, hard_limit_s: float) -> BlocksInHand:
    return BlocksInHand(desk, hard_limit_s, period_s=0.02, end=end)  # type: ignore[arg-type]


def wait_until(condition: Callable[[], bool], timeout_s: float = 3) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_hung_block_ends_the_process() -> None:
    desk, end = Desk(), End()
    in_hand = watched(desk, end, 0.15)
    begin = time.monotonic()
    with in_hand.holding(KEY):
        assert end.called.wait(3)
    assert end.statuses == [EXIT_HUNG]
    assert EXIT_HUNG == 70  # EX_SOFTWARE: what supervisors and docs name
    assert time.monotonic() - begin >= 0.15


def test_many_short_blocks_are_no_hung_one() -> None:
    """Longer than the limit together, none of them alone; the same key again begins anew."""
    desk, end = Desk(), End()
    in_hand = watched(desk, end, 0.3)
    for _ in range(8):
        with in_hand.holding(KEY):
            time.sleep(0.06)
    assert not end.called.wait(0.1)


def test_one_hung_block_among_finished_ones() -> None:
    desk, end = Desk(), End()
    in_hand = watched(desk, end, 0.15)
    with in_hand.holding(OTHER):
        for _ in range(3):
            with in_hand.holding(KEY):
                time.sleep(0.02)
        assert end.called.wait(3)


def test_a_block_that_waits_is_not_hung_however_long() -> None:
    desk, end = Desk(), End()
    in_hand = watched(desk, end, 0.1)
    with in_hand.holding(KEY) as block:
        block.wait()
        assert not end.called.wait(0.3)
        block.enter("infer")
        assert end.called.wait(3)


def test_each_stage_has_the_whole_limit() -> None:
    desk, end = Desk(), End()
    in_hand = watched(desk, end, 0.3)
    with in_hand.holding(KEY) as block:
        for stage in ("describe", "read", "infer", "encode", "store", "end"):
            time.sleep(0.1)
            block.enter(stage)
    assert not end.called.is_set()


def test_only_what_hangs_keeps_its_attempt() -> None:
    """One waits behind it and one has only just begun: both are as they were before."""
    desk, end = Desk(), End()
    in_hand = watched(desk, end, 0.2)
    third = BlockKey("scene", "v1", "sha256:" + "0" * 64, 1, BlockIndex(0, 2))
    with in_hand.holding(KEY) as hung, in_hand.holding(OTHER) as waiting, in_hand.holding(third) as busy:
        hung.enter("infer")
        waiting.wait()
        while not end.called.wait(0.02):
            busy.enter("read")
    assert sorted(key.text for key in desk.uncounted) == sorted([OTHER.text, third.text])


def test_leases_are_renewed_while_a_block_is_in_hand_and_not_after() -> None:
    desk, end = Desk(), End()
    in_hand = watched(desk, end, 60)
    with in_hand.holding(KEY), in_hand.holding(OTHER):
        wait_until(lambda: desk.renewed.count(KEY) >= 2 and desk.renewed.count(OTHER) >= 2)
    time.sleep(0.05)
    before = len(desk.renewed)
    time.sleep(0.1)
    assert len(desk.renewed) == before


def test_an_error_in_the_body_lets_go() -> None:
    desk, end = Desk(), End()
    in_hand = watched(desk, end, 0.1)
    with pytest.raises(ValueError, match="broken"), in_hand.holding(KEY):
        raise ValueError("broken")
    assert not end.called.wait(0.3)


def lost_connection() -> bool:
    raise redis.ConnectionError("the server is away")


@pytest.mark.parametrize("trouble", [lost_connection, lambda: False], ids=["cache away", "lease lost"])
def test_the_watch_goes_on_when_leases_cannot_be_renewed(trouble: Callable[[], bool]) -> None:
    desk, end = Desk(), End()
    desk.answer = trouble
    in_hand = watched(desk, end, 0.3)
    with in_hand.holding(KEY):
        wait_until(lambda: len(desk.renewed) >= 3)
        assert end.called.wait(3)
