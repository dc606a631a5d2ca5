"""Windows are batched the urgent first, else in the order they came; each gets its own answer, and one failure harms
no other batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from landcover_worker.batching import Batcher


class Network:
    """Answers each window with its own first pixel; holds its first run until told."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.began = threading.Event()
        self.fail_on: int | None = None

    def __call__(self, windows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        images = np.stack(windows)
        batch = images[:, 0, 0, 0].tolist()
        self.batches.append(batch)
        self.began.set()
        assert self.go.wait(10)
        if self.fail_on in batch:
            raise ValueError(f"cannot do {self.fail_on}")
        return images[..., 0], 255 - images[..., 0]


def window(value: int, side: int = 4) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


@contextmanager
def batcher_of(network: Network, max_batch: int) -> Iterator[Batcher]:
    batcher = Batcher(network, max_batch, "test")
    yield batcher
    network.go.set()
    batcher.close()


def wait_for(batcher: Batcher, count: int) -> None:
    """Until so many windows wait for the network."""
    pause = threading.Event()
    for _ in range(1000):
        if batcher.waiting == count:
            return
        pause.wait(0.005)
    raise AssertionError(f"{batcher.waiting} wait, not {count}")


@pytest.mark.parametrize(
    ("max_batch", "expected"),
    [
        pytest.param(1, [[0], [1], [2], [3], [4], [5]], id="one at a time"),
        pytest.param(2, [[0], [1, 2], [3, 4], [5]], id="two"),
        pytest.param(4, [[0], [1, 2, 3, 4], [5]], id="four"),
        pytest.param(8, [[0], [1, 2, 3, 4, 5]], id="more than there are"),
    ],
)
def test_batches_are_what_waits_in_order(max_batch: int, expected: list[list[int]]) -> None:
    """The first never waits for company; the rest gather while it runs."""
    network = Network()
    with batcher_of(network, max_batch) as batcher, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(batcher.infer, window(0))]
        assert network.began.wait(5)
        for i in range(1, 6):
            answers.append(pool.submit(batcher.infer, window(i)))
            wait_for(batcher, i)
        network.go.set()
        for i, answer in enumerate(answers):
            classes, confidence = answer.result()
            assert classes.tolist() == np.full((4, 4), i).tolist()
            assert confidence.tolist() == np.full((4, 4), 255 - i).tolist()
    assert network.batches == expected


@pytest.mark.parametrize("max_batch", [1, 3, 8])
def test_a_storm_is_answered_rightly_in_batches_never_too_large(max_batch: int) -> None:
    network = Network()
    network.go.set()
    with batcher_of(network, max_batch) as batcher, ThreadPoolExecutor(20) as pool:
        values = [int(i) for i in np.random.default_rng(0).integers(0, 256, 300)]
        answers = list(pool.map(lambda value: batcher.infer(window(value)), values))
    assert [int(classes[0, 0]) for classes, _ in answers] == values
    assert max(map(len, network.batches)) <= max_batch
    assert sorted(value for batch in network.batches for value in batch) == sorted(values)


def test_a_failure_reaches_those_it_concerns_only() -> None:
    network = Network()
    network.fail_on = 2
    with batcher_of(network, 2) as batcher, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(batcher.infer, window(0))]
        assert network.began.wait(5)
        for i in range(1, 5):
            answers.append(pool.submit(batcher.infer, window(i)))
            wait_for(batcher, i)
        network.go.set()
        errors = [answer.exception() for answer in answers]
    assert network.batches == [[0], [1, 2], [3, 4]]
    assert [type(error) for error in errors] == [type(None), ValueError, ValueError, type(None), type(None)]


def test_windows_of_another_size_fail_and_the_thread_lives() -> None:
    network = Network()
    with batcher_of(network, 2) as batcher, ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.infer, window(0))
        assert network.began.wait(5)
        odd = []
        for i, side in enumerate((4, 8), 1):
            odd.append(pool.submit(batcher.infer, window(i, side)))
            wait_for(batcher, i)
        network.go.set()
        assert first.result()
        assert all(isinstance(each.exception(), ValueError) for each in odd)
        assert batcher.infer(window(7))[0][0, 0] == 7


def test_close_finishes_what_waits_and_takes_no_more() -> None:
    network = Network()
    batcher = Batcher(network, 4, "test")
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(batcher.infer, window(0))]
        assert network.began.wait(5)
        answers.append(pool.submit(batcher.infer, window(1)))
        wait_for(batcher, 1)
        closing = pool.submit(batcher.close)
        network.go.set()
        closing.result(5)
        assert [int(answer.result()[0][0, 0]) for answer in answers] == [0, 1]
    with pytest.raises(RuntimeError, match="closed"):
        batcher.infer(window(2))


def test_what_runs_alone_shares_no_batch_and_keeps_its_turn() -> None:
    network = Network()
    with batcher_of(network, 4) as batcher, ThreadPoolExecutor(8) as pool:
        pool.submit(batcher.infer, window(0))
        assert network.began.wait(5)
        for i in range(1, 7):
            pool.submit(batcher.infer, window(i), alone=i in (3, 4))
            wait_for(batcher, i)
        network.go.set()
    assert network.batches == [[0], [1, 2], [3], [4], [5, 6]]


def test_each_is_told_when_its_turn_comes() -> None:
    """Before the run, and not while another's goes on."""
    network = Network()
    started: list[int] = []
    with batcher_of(network, 1) as batcher, ThreadPoolExecutor(8) as pool:
        pool.submit(batcher.infer, window(0), on_start=lambda: started.append(0))
        assert network.began.wait(5)
        pool.submit(batcher.infer, window(1), on_start=lambda: started.append(1))
        wait_for(batcher, 1)
        assert started == [0]
        network.go.set()
    assert started == [0, 1]


@pytest.mark.parametrize(
    ("max_batch", "urgent", "alone", "expected"),
    [
        pytest.param(1, {5, 6}, set(), [[0], [5], [6], [1], [2], [3], [4]], id="one at a time"),
        pytest.param(2, {6}, set(), [[0], [6, 1], [2, 3], [4, 5]], id="a batch that it does not fill"),
        pytest.param(2, {4, 5, 6}, set(), [[0], [4, 5], [6, 1], [2, 3]], id="more than a batch"),
        pytest.param(4, {5}, {5}, [[0], [5], [1, 2, 3, 4], [6]], id="urgent and alone"),
        pytest.param(4, {6}, {1}, [[0], [6], [1], [2, 3, 4, 5]], id="not with one that is to be alone"),
    ],
)
def test_what_is_urgent_is_in_the_next_batch(
    max_batch: int, urgent: set[int], alone: set[int], expected: list[list[int]]
) -> None:
    """Whatever else came before it."""
    network = Network()
    with batcher_of(network, max_batch) as batcher, ThreadPoolExecutor(8) as pool:
        pool.submit(batcher.infer, window(0), urgent=False)
        assert network.began.wait(5)
        for i in range(1, 7):
            pool.submit(batcher.infer, window(i), urgent=i in urgent, alone=i in alone)
            wait_for(batcher, i)
        network.go.set()
    assert network.batches == expected
