"""The day as a picture: what is asked for, how many workers there are, how long people wait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from landcover.planning.autoscaling.figures import WAIT_S
from landcover.planning.autoscaling.fleet import Course
from landcover.planning.autoscaling.load import Load

BIN_S = 600.0
COLOURS = ("#c0392b", "#1f6fb2", "#6b6b6b")
JOBS_COLOUR = "#c9a227"


def draw(load: Load, courses: Sequence[Course], path: Path) -> None:
    """Write it as a PNG."""
    figure = Figure(figsize=(10, 9.5), layout="constrained")
    asked, *pods, waits = figure.subplots(
        len(courses) + 2, 1, sharex=True, height_ratios=[1.1, *[0.75] * len(courses), 1.8]
    )
    bins_s = np.arange(0, load.lasts_s + BIN_S, BIN_S)
    _draw_load(asked, load, bins_s)
    most = max(number for course in courses for _, number in course.pods)
    for axes, course, colour in zip(pods, courses, COLOURS, strict=False):
        times, numbers = zip(*course.pods, (load.lasts_s, course.pods[-1][1]), strict=True)
        axes.fill_between(np.array(times) / 3600, numbers, step="post", color=colour, alpha=0.75, linewidth=0)
        axes.set_ylim(0, most + 0.5)
        axes.set_yticks(range(0, most + 1, 2))
        axes.set_ylabel("workers")
        title = f"{course.policy}: {course.worker_s / 3600:.0f} worker-hours"
        axes.set_title(title, loc="left", fontsize=10, color=colour)
        _draw_waits(waits, load, course, bins_s, colour)
    waits.axhline(WAIT_S, color="black", linewidth=0.8, linestyle=":")
    answered = f"a request is answered after {WAIT_S:g} s"
    waits.annotate(answered, (0.2, WAIT_S), xytext=(0, 3), textcoords="offset points", fontsize=9)
    waits.set_yscale("log")
    waits.set_ylabel("seconds")
    waits.set_title("95 % of the tiles asked for within ten minutes wait less", loc="left", fontsize=10)
    waits.legend(loc=(0.01, 0.5), frameon=False, fontsize=9)
    waits.set_xlabel("hour of the day")
    waits.set_xlim(0, load.lasts_s / 3600)
    waits.set_xticks(range(0, 25, 2))
    for each in (asked, *pods, waits):
        each.grid(visible=True, color="#e3e3e3", linewidth=0.7)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_load(axes: Any, load: Load, bins_s: Any) -> None:
    blocks, _ = np.histogram(load.tile_s, bins_s, weights=load.tile_blocks)
    axes.fill_between(bins_s[:-1] / 3600, blocks / BIN_S, step="post", color="#8fb8d8")
    highest = axes.get_ylim()[1] * 1.35
    for number, job in enumerate(load.jobs):
        axes.axvline(job.start_s / 3600, color=JOBS_COLOUR, linewidth=2)
        axes.annotate(
            f" job of {job.blocks:,} blocks",
            (job.start_s / 3600, highest * (0.97 if number % 2 else 0.85)),
            va="top",
            fontsize=9,
            color="#8a6d00",
        )
    axes.set_title("missing blocks that people ask for, a second, and jobs", loc="left", fontsize=10)
    axes.set_ylabel("blocks a second")
    axes.set_ylim(0, highest)


def _draw_waits(axes: Any, load: Load, course: Course, bins_s: Any, colour: str) -> None:
    which = np.digitize(load.tile_s, bins_s) - 1
    p95 = np.full(len(bins_s) - 1, np.nan)
    for number in np.unique(which):
        p95[number] = np.percentile(course.wait_s[which == number], 95)
    axes.plot(bins_s[:-1] / 3600, p95, color=colour, linewidth=1.3, marker=".", markersize=4, label=course.policy)
