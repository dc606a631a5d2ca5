"""How KEDA and the HorizontalPodAutoscaler of Kubernetes turn figures into a number of pods.

Two controllers share one Deployment. KEDA asks its triggers every `polling_s` and only ever takes the Deployment from
none to one pod, and from any number to none after `cooldown_s` without a trigger that is active. Everything between
is the HPA's: every `SYNC_S` it takes the largest number that any figure asks for, and goes there as fast as its
behaviour lets it. While there is no pod it does nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SYNC_S = 15.0
"""Of the HPA: --horizontal-pod-autoscaler-sync-period."""
TOLERANCE = 0.1
"""A figure so near its target changes nothing: --horizontal-pod-autoscaler-tolerance."""

Queue = Literal["interactive", "bulk"]
QUEUES: tuple[Queue, ...] = ("interactive", "bulk")


@dataclass(frozen=True, slots=True)
class Figures:
    """One queue as it is told to the autoscaler."""

    waiting: int
    in_flight: int
    oldest_s: float


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One figure and what it should be."""

    figure: Literal["list", "blocks", "oldest"]
    """`list`: tasks that no worker has taken; `blocks`: those and what workers have in hand; `oldest`: the age of the
    next task, the larger one of several queues."""
    queues: tuple[Queue, ...]
    target: float
    """For each pod; of `oldest` for all (metric type `Value`)."""

    def value(self, figures: dict[Queue, Figures]) -> float:
        """What is told of it."""
        those = [figures[queue] for queue in self.queues]
        if self.figure == "oldest":
            return max(each.oldest_s for each in those)
        taken = sum(each.in_flight for each in those) if self.figure == "blocks" else 0
        return float(sum(each.waiting for each in those) + taken)

    def pods(self, value: float, *, pods: int, ready: int) -> int:
        """How many pods the HPA wants for it.

        A figure of type `Value` is multiplied with the pods that are ready, so that those that still start are not
        answered with yet more.
        """
        ratio = value / self.target if self.figure == "oldest" else value / (self.target * pods)
        if abs(1.0 - ratio) <= TOLERANCE:
            return pods
        return math.ceil(ratio * ready) if self.figure == "oldest" else math.ceil(value / self.target)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast the HPA goes one way."""

    stabilization_s: float
    """Of what it wanted in so many seconds it takes what is nearest to what there is."""
    pods: int | None
    """At most so many in a period, or …"""
    percent: int | None
    """… so many of a hundred, whichever is more."""
    period_s: float


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One way of scaling. Without triggers: so many pods, always."""

    name: str
    triggers: tuple[Trigger, ...] = ()
    least: int = 0
    most: int = 1
    polling_s: float = 30.0
    cooldown_s: float = 300.0
    scrape_s: float = 0.0
    """Age that figures may have; 0: asked for when they are looked at."""
    up: Pace = Pace(stabilization_s=0.0, pods=4, percent=100, period_s=15.0)
    down: Pace = Pace(stabilization_s=300.0, pods=None, percent=100, period_s=15.0)


class Autoscaler:
    """One Deployment's controllers: told figures, answers how many pods there should be."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._active_s = 0.0
        self._wanted: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def poll(self, now_s: float, pods: int, figures: dict[Queue, Figures]) -> int:
        """KEDA's look."""
        policy = self._policy
        active = any(trigger.value(figures) > 0 for trigger in policy.triggers)
        if active:
            self._active_s = now_s
            return pods or max(1, policy.least)
        if pods and policy.least == 0 and self._active_s + policy.cooldown_s < now_s:
            return 0
        return pods

    def sync(self, now_s: float, pods: int, ready: int, figures: dict[Queue, Figures]) -> int:
        """The HPA's look."""
        if pods == 0:
            return 0
        policy = self._policy
        wanted = max(each.pods(each.value(figures), pods=pods, ready=ready) for each in policy.triggers)
        wanted = min(max(wanted, policy.least, 1), policy.most)
        self._wanted.append((now_s, wanted))
        wanted = self._settled(now_s, pods)
        if wanted > pods:
            wanted = min(wanted, max(pods, self._ceiling(now_s, pods)))
        elif wanted < pods:
            wanted = max(wanted, min(pods, self._floor(now_s, pods)))
        if wanted != pods:
            self._changes.append((now_s, wanted - pods))
        return wanted

    def _settled(self, now_s: float, pods: int) -> int:
        """By what was wanted of late: up as far as was wanted all the time, down as far as the most of it."""
        up_since, down_since = now_s - self._policy.up.stabilization_s, now_s - self._policy.down.stabilization_s
        while self._wanted[0][0] < min(up_since, down_since):
            self._wanted.popleft()
        most_up = min(wanted for when, wanted in self._wanted if when >= up_since)
        least_down = max(wanted for when, wanted in self._wanted if when >= down_since)
        return min(max(pods, most_up), least_down)

    def _ceiling(self, now_s: float, pods: int) -> int:
        pace = self._policy.up
        before = pods - self._changed(now_s, pace.period_s)
        return max(_steps(pace, before, +1))

    def _floor(self, now_s: float, pods: int) -> int:
        pace = self._policy.down
        before = pods - self._changed(now_s, pace.period_s)
        return min(_steps(pace, before, -1))

    def _changed(self, now_s: float, period_s: float) -> int:
        longest = max(self._policy.up.period_s, self._policy.down.period_s)
        while self._changes and self._changes[0][0] <= now_s - longest:
            self._changes.popleft()
        return sum(change for when, change in self._changes if when > now_s - period_s)


def _steps(pace: Pace, pods: int, way: int) -> Sequence[int]:
    steps = []
    if pace.pods is not None:
        steps.append(pods + way * pace.pods)
    if pace.percent is not None:
        changed = pods * (1 + way * pace.percent / 100)
        steps.append(math.ceil(changed) if way > 0 else math.floor(changed))
    return steps
