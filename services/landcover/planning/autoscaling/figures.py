"""What a day came to: the figures by which policies are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landcover.planning.autoscaling.fleet import Course


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One policy's day."""

    policy: str
    wait_p50_s: float
    """Of tiles that lack blocks, from being asked for to the last of them."""
    wait_p95_s: float
    wait_p99_s: float
    wait_max_s: float
    late_share: float
    """Of tiles, those that took longer than a request waits."""
    jobs_h: tuple[float, ...]
    """Of each job, from its start to its last block."""
    worker_h: float
    """Hours of workers, GPU-hours where each has one, cold starts and draining counted."""
    busy_share: float
    """Of that, running the network."""
    started: int
    most_pods: int
    longest_drain_s: float
    """From SIGTERM to the end of a worker."""


WAIT_S = 8.0
"""`LANDCOVER_API_WAIT_S`: by then a request is answered, with what there is."""


def summarize(course: Course) -> Summary:
    """The figures of a day."""
    p50, p95, p99 = np.percentile(course.wait_s, [50, 95, 99]) if course.wait_s.size else (0.0, 0.0, 0.0)
    return Summary(
        policy=course.policy,
        wait_p50_s=float(p50),
        wait_p95_s=float(p95),
        wait_p99_s=float(p99),
        wait_max_s=float(course.wait_s.max(initial=0.0)),
        late_share=float((course.wait_s > WAIT_S).mean()) if course.wait_s.size else 0.0,
        jobs_h=tuple(seconds / 3600 for seconds in course.job_s),
        worker_h=course.worker_s / 3600,
        busy_share=course.busy_s / course.worker_s if course.worker_s else 0.0,
        started=course.started,
        most_pods=max(pods for _, pods in course.pods),
        longest_drain_s=max(course.drains_s, default=0.0),
    )


def table(summaries: Sequence[Summary]) -> str:
    """For people, and for the page: Markdown."""
    heads = "policy", "wait p50", "p95", "p99", "longest", "over 8 s", "jobs, hours", "worker-hours", "busy", "starts"
    rows = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for each in summaries:
        jobs = ", ".join(f"{hours:.2f}" for hours in each.jobs_h)
        rows.append(
            f"| {each.policy} | {each.wait_p50_s:.1f} s | {each.wait_p95_s:.1f} s | {each.wait_p99_s:.1f} s "
            f"| {each.wait_max_s:.0f} s | {each.late_share:.1%} | {jobs} | {each.worker_h:.1f} | {each.busy_share:.0%} "
            f"| {each.started} |"
        )
    return "\n".join(rows)
