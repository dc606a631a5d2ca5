"""`python -m landcover_export.review_trial`: the figures and the picture of docs/review.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from landcover.atomic import atomic_path
from landcover.catalog import demo_model_path
from landcover.contract import read_model
from landcover.demo import draw
from landcover.review import FloatArray, Measure
from landcover.review_survey import DEFAULT_MIN_MAPPED
from landcover_export.evaluation.models import BlockModel, load_model
from landcover_export.labelled import LabelledImage, find_pairs
from landcover_export.review_quality import LabelledMap, Quality, found_curve, rank_windows, review_quality

WINDOWS_PX = (512, 256, 128)
_CURVES_PX = 128
_COLORS: dict[Measure, str] = {
    "confidence": "#1b6ca8",
    "entropy": "#e08e0b",
    "seams": "#7a5195",
    "disagreement": "#2f9e44",
}


def main() -> None:
    """Map labelled images, rank their windows, and say what share of all errors comes first."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, default=demo_model_path(), help="an ONNX file (the shipped model)")
    parser.add_argument("--against", type=Path, help="a second ONNX file, to measure disagreement, too")
    parser.add_argument("--data", type=Path, help="labelled images: folders of images/ and labels/")
    parser.add_argument("--groups", nargs="+", help="which folders of --data (all)")
    parser.add_argument("--drawn", type=int, nargs="+", metavar="SEED", help="drawn scenes, 2048 px square")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS_PX, metavar="PX", help="(512 256 128)")
    parser.add_argument(
        "--min-mapped", type=float, default=DEFAULT_MIN_MAPPED, metavar="SHARE", help="as in landcover review (0.5)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the curves there, as PNG")
    arguments = parser.parse_args()
    sets: dict[str, list[LabelledImage]] = {}
    if arguments.data:
        pairs = find_pairs(arguments.data, groups=arguments.groups)
        sets[f"{arguments.data.name} {' '.join(arguments.groups or ())}".strip()] = [each.read() for each in pairs]
    if arguments.drawn:
        scenes = [(f"drawn-{seed}", *draw(seed, 2048, 2048)) for seed in arguments.drawn]
        sets[f"drawn {' '.join(map(str, arguments.drawn))}"] = [
            LabelledImage(name=name, image=image, label=label) for name, image, label in scenes
        ]
    if not sets:
        parser.error("name labelled images with --data, a drawn scene with --drawn, or both")
    contract = read_model(arguments.model).contract
    model, other = load_model(arguments.model), load_model(arguments.against) if arguments.against else None
    maps = {name: [_mapped(each, model, other) for each in track(images, name)] for name, images in sets.items()}
    shape: dict[str, Any] = {
        "block_px": contract.block_px,
        "class_count": len(contract.classes),
        "min_mapped": arguments.min_mapped,
    }
    console = Console()
    figures: dict[str, list[dict[str, Any]]] = {}
    for name, some in maps.items():
        qualities = [quality for side in arguments.windows for quality in review_quality(some, window_px=side, **shape)]
        _print(name, qualities, console)
        figures[name] = [asdict(quality) for quality in qualities]
    if arguments.json:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if arguments.picture:
        _plot(maps, shape, arguments.picture)


def _mapped(image: LabelledImage, model: BlockModel, other: BlockModel | None) -> LabelledMap:
    classes, confidence = model.map(image.image)
    others = other.map(image.image)[0] if other else None
    return LabelledMap(classes=classes, confidence=confidence, label=image.label, others=others)


def _print(name: str, qualities: Sequence[Quality], console: Console) -> None:
    table = Table(title=f"{name}: share of all errors in the first 10 % of windows, % (95 % interval)")
    for column in ("window px", "windows", "measure", "found", "random", "oracle"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for each in qualities:
        low, high = each.interval
        table.add_row(
            str(each.window_px),
            str(each.windows),
            each.measure,
            f"{each.found:.1%} ({low:.0%} to {high:.0%})",
            f"{each.random:.0%}",
            f"{each.oracle:.1%}",
        )
    console.print(table)


def _plot(maps: dict[str, list[LabelledMap]], shape: dict[str, Any], path: Path) -> None:
    """Errors found against windows looked at, a panel for each set."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(maps), figsize=(5 * len(maps), 4.2), squeeze=False, layout="constrained")
    for panel, (name, some) in zip(axes[0], maps.items(), strict=True):
        rankings = rank_windows(some, window_px=_CURVES_PX, **shape)
        best = np.sort(rankings["confidence"].errors)[::-1]
        panel.plot(*_curve(best), color="#999999", linestyle="--", label="best order there is")
        for measure, ranking in rankings.items():
            panel.plot(*_curve(ranking.errors), color=_COLORS[measure], label=measure)
        panel.plot([0, 100], [0, 100], color="#999999", linestyle=":", label="random order")
        panel.axvline(10, color="#cccccc", linewidth=0.8)
        panel.set(title=name, xlim=(0, 100), ylim=(0, 100), xlabel=f"windows of {_CURVES_PX} px looked at, %")
        panel.set_ylabel("share of all errors in them, %")
        panel.legend(loc="lower right", frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def _curve(errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    found = found_curve(errors)
    return np.linspace(0, 100, len(found)), 100 * found


if __name__ == "__main__":
    main()
