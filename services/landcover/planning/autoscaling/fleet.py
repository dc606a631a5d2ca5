"""The queues and the workers: tasks wait in two lists, workers take them in hand, networks run batches of them.

Events in order of time. A worker takes people's blocks first, from the list and into its batch, has `threads` blocks of
each queue in hand at most, and told to stop it takes no more and ends when its hands are empty: as the real one does.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from landcover.planning.autoscaling.load import Job, Load
from landcover.planning.autoscaling.rules import QUEUES, SYNC_S, Autoscaler, Figures, Policy, Queue

LEAST_IN_FLIGHT = 16
IN_FLIGHT_PER_SLOT = 2
"""A job keeps so many blocks asked for, for each that a worker can hold (`landcover.mapping.engine`)."""
LOOK_S = 2.0
"""How often a job looks at how many workers there are."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What one worker does."""

    batch: int = 8
    """Windows in a run of the network, at most."""
    run_s: float = 0.2
    """Of each run, and …"""
    window_s: float = 0.1
    """… of each window in it: eight blocks a second in full batches, at the default."""
    threads: int = 16
    """Blocks of each queue in hand at once."""
    cold_start_s: float = 240.0
    """From the decision for a pod to its first block: a node, the image, the models."""


@dataclass(kw_only=True)
class Course:
    """What a day went like."""

    policy: str
    wait_s: NDArray[np.float64]
    """Of each tile, from being asked for to its last block, in the load's order."""
    job_s: list[float]
    """Of each job, from its start to its last block, in the load's order."""
    served: dict[Queue, int]
    """Blocks."""
    worker_s: float = 0.0
    """Of all workers together, from the decision for each to its end: what is paid for."""
    busy_s: float = 0.0
    """Of that, running the network."""
    started: int = 0
    """Workers."""
    drains_s: list[float] = field(default_factory=list)
    """How long each worker that was told to stop went on with what it had in hand."""
    pods: list[tuple[float, int]] = field(default_factory=list)
    """Time and number of pods, whenever it changed."""


class _Running:
    """One worker's state."""

    __slots__ = ("born_s", "busy", "hands", "held", "ready", "told_s")

    def __init__(self, born_s: float) -> None:
        self.born_s = born_s
        self.ready = False
        self.busy = False
        self.held: dict[Queue, int] = dict.fromkeys(QUEUES, 0)
        self.hands: dict[Queue, deque[int]] = {queue: deque() for queue in QUEUES}
        self.told_s: float | None = None


def run(load: Load, policy: Policy, worker: Worker) -> Course:
    """The whole day, and what it takes to finish what is left of it."""
    return _Day(load, policy, worker).run()


class _Day:
    """Everything that changes in the course of one."""

    def __init__(self, load: Load, policy: Policy, worker: Worker) -> None:
        self._load, self._policy, self._spec = load, policy, worker
        self._now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._lists: dict[Queue, deque[tuple[float, int]]] = {queue: deque() for queue in QUEUES}
        self._in_flight: dict[Queue, int] = dict.fromkeys(QUEUES, 0)
        self._workers: list[_Running] = []
        self._tile_s: list[float] = load.tile_s.tolist()
        self._tile_left: list[int] = load.tile_blocks.tolist()
        self._wait_s = [0.0] * len(self._tile_s)
        self._next_tile = 0
        self._jobs = [_JobState(job) for job in load.jobs]
        self._left = load.interactive_blocks + load.bulk_blocks
        self._autoscaler = Autoscaler(policy)
        self._told = self._figures()
        self._course = Course(
            policy=policy.name,
            wait_s=np.empty(0),
            job_s=[0.0] * len(load.jobs),
            served=dict.fromkeys(QUEUES, 0),
        )

    def run(self) -> Course:
        self._scale(self._policy.least)
        if self._policy.triggers:
            if self._policy.scrape_s:
                self._every(self._policy.scrape_s, self._scrape, first_s=self._policy.scrape_s / 2)
            self._every(self._policy.polling_s, self._poll)
            self._every(SYNC_S, self._sync)
        for worker in self._workers:  # those that are there when the day begins
            worker.ready = True
        if self._tile_s:
            self._at(self._tile_s[0], self._ask)
        for number, state in enumerate(self._jobs):
            self._at(state.job.start_s, lambda number=number: self._top_up(number, again=True))  # type: ignore[misc]
        while self._left or (self._events and self._events[0][0] <= self._load.lasts_s):
            self._now, _, act = heapq.heappop(self._events)
            act()
        self._now = max(self._now, self._load.lasts_s)
        for worker in self._workers:
            self._course.worker_s += self._now - worker.born_s
        self._course.wait_s = np.array(self._wait_s)
        return self._course

    def _at(self, when_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), act))

    def _every(self, period_s: float, act: Callable[[], None], *, first_s: float | None = None) -> None:
        def again() -> None:
            act()
            self._at(self._now + period_s, again)

        self._at(period_s if first_s is None else first_s, again)

    # What is asked for.

    def _ask(self) -> None:
        """All tiles of this moment."""
        times = self._tile_s
        waiting = self._lists["interactive"]
        while self._next_tile < len(times) and times[self._next_tile] <= self._now:
            waiting.extend([(self._now, self._next_tile)] * self._tile_left[self._next_tile])
            self._next_tile += 1
        if self._next_tile < len(times):
            self._at(times[self._next_tile], self._ask)
        self._deal("interactive")

    def _top_up(self, number: int, *, again: bool = False) -> None:
        """A job asks for as many blocks as the workers there are can hold twice."""
        state = self._jobs[number]
        slots = self._spec.threads * sum(worker.ready and worker.told_s is None for worker in self._workers)
        window = max(LEAST_IN_FLIGHT, IN_FLIGHT_PER_SLOT * slots)
        more = min(window - state.asked, state.job.blocks - state.done - state.asked)
        if more > 0:
            self._lists["bulk"].extend([(self._now, number)] * more)
            state.asked += more
            self._deal("bulk")
        if again and state.done + state.asked < state.job.blocks:
            self._at(self._now + LOOK_S, lambda: self._top_up(number, again=True))

    # Who makes it.

    def _deal(self, queue: Queue) -> None:
        """Hand waiting tasks out, to the worker with the emptiest hands first."""
        waiting = self._lists[queue]
        able = [worker for worker in self._workers if worker.ready and worker.told_s is None]
        while waiting:
            free = min(able, key=lambda worker: worker.held[queue], default=None)
            if free is None or free.held[queue] >= self._spec.threads:
                return
            self._take(free, queue)
            if not free.busy:
                self._run_batch(free)

    def _run_batch(self, worker: _Running) -> None:
        batch: list[tuple[Queue, int]] = []
        for queue in QUEUES:
            hand = worker.hands[queue]
            while hand and len(batch) < self._spec.batch:
                batch.append((queue, hand.popleft()))
        worker.busy = bool(batch)
        if batch:
            takes_s = self._spec.run_s + self._spec.window_s * len(batch)
            self._course.busy_s += takes_s
            self._at(self._now + takes_s, lambda: self._finish(worker, batch))
        elif worker.told_s is not None:
            self._end(worker)

    def _finish(self, worker: _Running, batch: list[tuple[Queue, int]]) -> None:
        jobs = set()
        for queue, number in batch:
            worker.held[queue] -= 1
            self._in_flight[queue] -= 1
            self._course.served[queue] += 1
            self._left -= 1
            if queue == "interactive":
                self._tile_left[number] -= 1
                if self._tile_left[number] == 0:
                    self._wait_s[number] = self._now - self._tile_s[number]
            else:
                state = self._jobs[number]
                state.done += 1
                state.asked -= 1
                jobs.add(number)
                if state.done == state.job.blocks:
                    self._course.job_s[number] = self._now - state.job.start_s
        if worker.told_s is None:
            for queue in QUEUES:
                while self._lists[queue] and worker.held[queue] < self._spec.threads:
                    self._take(worker, queue)
        self._run_batch(worker)
        for number in jobs:
            self._top_up(number)

    def _take(self, worker: _Running, queue: Queue) -> None:
        worker.hands[queue].append(self._lists[queue].popleft()[1])
        worker.held[queue] += 1
        self._in_flight[queue] += 1

    def _end(self, worker: _Running) -> None:
        self._workers.remove(worker)
        self._course.worker_s += self._now - worker.born_s
        if worker.ready and worker.told_s is not None:
            self._course.drains_s.append(self._now - worker.told_s)

    # How many there are.

    def _figures(self) -> dict[Queue, Figures]:
        return {
            queue: Figures(
                waiting=len(waiting),
                in_flight=self._in_flight[queue],
                oldest_s=self._now - waiting[0][0] if waiting else 0.0,
            )
            for queue, waiting in self._lists.items()
        }

    def _scrape(self) -> None:
        self._told = self._figures()

    def _seen(self) -> dict[Queue, Figures]:
        return self._told if self._policy.scrape_s else self._figures()

    def _poll(self) -> None:
        # The lists are asked for themselves; a first pod waits for no scrape.
        self._scale(self._autoscaler.poll(self._now, self._pods, self._figures()))

    def _sync(self) -> None:
        ready = sum(worker.ready for worker in self._workers if worker.told_s is None)
        self._scale(self._autoscaler.sync(self._now, self._pods, ready, self._seen()))

    @property
    def _pods(self) -> int:
        return sum(worker.told_s is None for worker in self._workers)

    def _scale(self, pods: int) -> None:
        before = self._pods
        for _ in range(pods - before):
            self._start()
        for _ in range(before - pods):
            self._stop()
        if pods != before or not self._course.pods:
            self._course.pods.append((self._now, pods))

    def _start(self) -> None:
        worker = _Running(self._now)
        self._workers.append(worker)
        self._course.started += 1
        self._at(self._now + self._spec.cold_start_s, lambda: self._warm(worker))

    def _warm(self, worker: _Running) -> None:
        if worker.told_s is not None:
            return
        worker.ready = True
        for queue in QUEUES:
            self._deal(queue)

    def _stop(self) -> None:
        """The youngest, as Kubernetes does; what has not started yet goes before what has."""
        staying = [worker for worker in self._workers if worker.told_s is None]
        worker = max(staying, key=lambda each: (not each.ready, each.born_s))
        worker.told_s = self._now
        if not worker.busy:
            self._end(worker)


class _JobState:
    """A job's books."""

    __slots__ = ("asked", "done", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.done = 0
        self.asked = 0
