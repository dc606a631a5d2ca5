"""What came out of the study: a table, plots and a summary, from the results that are there."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from landcover_export.evaluation.metrics import Accuracy
from landcover_export.study.config import StudyConfig

HECTARES_PER_PX = 1e-4
"""The set's pixels are about a metre wide, by estimate."""

FIGURES: dict[str, Callable[[Accuracy], float]] = {
    "OA": lambda accuracy: accuracy.overall,
    "AA": lambda accuracy: accuracy.average,
    "mIoU": lambda accuracy: accuracy.mean_iou,
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Runs that differ in their seed only."""

    name: str
    budget: float
    seeds: tuple[int, ...]
    labelled_px: float
    polygons: float
    figures: dict[str, tuple[float, ...]]
    """Of each seed."""

    def mean(self, figure: str) -> float:
        """Over the seeds."""
        return float(np.mean(self.figures[figure]))

    def half_width(self, figure: str) -> float:
        """Half of the 95 % interval of the mean by Student's t; NaN for a single seed."""
        return interval_half_width(self.figures[figure])


def interval_half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of `values` by Student's t; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def read_rows(out: Path) -> list[Row]:
    """The results under `out`, those of one choice and budget together, by name and budget."""
    grouped: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((out / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        run = result["run"]
        name = run["name"] if "seed" not in run else run["name"].rpartition("-s")[0]
        grouped[(name, run.get("budget", 0.0))].append(result)
    return [_row(name, budget, results) for (name, budget), results in sorted(grouped.items())]


def _row(name: str, budget: float, results: Sequence[dict[str, Any]]) -> Row:
    accuracies = [Accuracy(confusion=_pooled(each["confusions"].values())) for each in results]
    return Row(
        name=name,
        budget=budget,
        seeds=tuple(each["run"].get("seed", 1) for each in results),
        labelled_px=float(np.mean([each.get("labelled_px", 0) for each in results])),
        polygons=float(np.mean([each.get("polygons", 0) for each in results])),
        figures={figure: tuple(of(accuracy) for accuracy in accuracies) for figure, of in FIGURES.items()},
    )


def _pooled(confusions: Iterable[Any]) -> Any:
    return np.sum([np.array(each, dtype=np.int64) for each in confusions], axis=0)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table, with the share of the gap between base and all labels that each recovers in mIoU."""
    by_name = {row.name: row for row in rows}
    base, full = by_name.get("base"), by_name.get("base-all-1")
    lines = [
        "| run | seeds | labelled ha | polygons | OA | AA | mIoU | gap recovered |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        recovered = "–"
        if base and full and row.name.startswith("base-"):
            gap = full.mean("mIoU") - base.mean("mIoU")
            recovered = f"{(row.mean('mIoU') - base.mean('mIoU')) / gap:.0%}" if gap > 0 else "–"
        cells = [_with_interval(row, figure) for figure in FIGURES]
        lines.append(
            f"| {row.name} | {len(row.seeds)} | {row.labelled_px * HECTARES_PER_PX:.0f} | {row.polygons:.0f} | "
            f"{' | '.join(cells)} | {recovered} |"
        )
    return "\n".join(lines) + "\n"


def paired(rows: Sequence[Row], a: str, b: str, figure: str) -> tuple[float, float] | None:
    """Mean difference a - b over the seeds both have, and half of its 95 % interval; None if they share none."""
    by_name = {row.name: row for row in rows}
    if a not in by_name or b not in by_name:
        return None
    first = dict(zip(by_name[a].seeds, by_name[a].figures[figure], strict=True))
    second = dict(zip(by_name[b].seeds, by_name[b].figures[figure], strict=True))
    differences = [first[seed] - second[seed] for seed in first if seed in second]
    return (float(np.mean(differences)), interval_half_width(differences)) if differences else None


def comparisons(rows: Sequence[Row], config: StudyConfig) -> str:
    """Worst-first against random choice, and with replay against without, by budget."""
    lines = []
    for title, second in (("worst − random", "base-random-{:g}"), ("replay − no replay", "base-worst-{:g}-no-replay")):
        for budget in config.budgets:
            for figure in FIGURES:
                if found := paired(rows, f"base-worst-{budget:g}", second.format(budget), figure):
                    width = "(one seed)" if math.isnan(found[1]) else f"± {100 * found[1]:.1f}"
                    lines.append(f"- {title} at {budget:.1%}, {figure}: {100 * found[0]:+.1f} {width} points")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], config: StudyConfig, path: Path) -> None:
    """OA, AA and mIoU against annotated ground, a line for each choice of windows."""
    by_name = {row.name: row for row in rows}
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    base, full = by_name.get("base"), by_name.get("base-all-1")
    for axes, name in zip(figure.subplots(1, 3), FIGURES, strict=True):
        for label, pattern, style in (
            ("worst first", "base-worst-{:g}", "o-"),
            ("random", "base-random-{:g}", "s--"),
            ("worst first, no replay", "base-worst-{:g}-no-replay", "^:"),
        ):
            points = [by_name[key] for budget in config.budgets if (key := pattern.format(budget)) in by_name]
            if points:
                hectares = [row.labelled_px * HECTARES_PER_PX for row in points]
                widths = [0.0 if math.isnan(row.half_width(name)) else row.half_width(name) for row in points]
                axes.errorbar(hectares, [row.mean(name) for row in points], widths, fmt=style, capsize=3, label=label)
        for row, label, color in ((base, "base", "grey"), (full, "every label of the new scene", "black")):
            if row:
                axes.axhline(row.mean(name), color=color, linewidth=1, linestyle="-.", label=label)
        axes.set(title=name, xlabel="annotated (ha)")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def write_report(config: StudyConfig, out: Path) -> str:
    """`results.md` and `results.png` under `out`; returns the text."""
    rows = read_rows(out)
    text = f"{markdown(rows)}\n{comparisons(rows, config)}"
    (out / "results.md").write_text(text, encoding="utf-8")
    draw(rows, config, out / "results.png")
    return text


def _with_interval(row: Row, figure: str) -> str:
    width = row.half_width(figure)
    return f"{row.mean(figure):.3f}" + ("" if math.isnan(width) else f" ± {width:.3f}")
