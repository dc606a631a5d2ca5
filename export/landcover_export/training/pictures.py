"""Pictures of a run: its curves, and what the model makes of images it was not trained on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landcover.classes import LandCoverClass, palette
from landcover_export.evaluation.mapping import map_image
from landcover_export.evaluation.models import BlockModel
from landcover_export.labelled import LabelledImage, LabelledPair

_ROWS = 4
_SIDE_PX = 768


def draw_curves(metrics: Path, path: Path) -> None:
    """Loss and accuracy over the steps, from Lightning's `metrics.csv`; nothing where there is none.

    A run that was killed after its last epoch, before that file was written, has nothing left to train.
    """
    if not metrics.is_file():
        return
    with metrics.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for axes, names, title in (
        (loss, {"train/loss_epoch": "training", "val/loss": "held out"}, "loss"),
        (accuracy, {"val/oa": "OA", "val/aa": "AA", "val/miou": "mIoU"}, "accuracy on held-out windows"),
    ):
        for name, label in names.items():
            points = [(int(row["epoch"]) + 1, float(row[name])) for row in rows if row.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), label=label)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    accuracy.set_ylim(0, 1)
    figure.savefig(path, dpi=110)


def draw_predictions(
    model: BlockModel,
    images: Sequence[LabelledPair | LabelledImage],
    classes: Sequence[LandCoverClass],
    path: Path,
) -> None:
    """Image, label, prediction and error of a few held-out images; nothing when there are none."""
    if not images:
        return
    chosen = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, _ROWS).round().astype(int))]
    figure = Figure(figsize=(13, 3.3 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), 4, squeeze=False)
    colors = palette(classes)
    for row, each in zip(grid, chosen, strict=True):
        whole = each.read() if isinstance(each, LabelledPair) else each
        image, label = whole.image[:_SIDE_PX, :_SIDE_PX], whole.label[:_SIDE_PX, :_SIDE_PX]
        predicted, _ = map_image(model.run, image, window_px=model.window_px, halo_px=model.halo_px)
        wrong = np.where(label == 0, 0.5, np.where(label == predicted, 1.0, 0.0))
        row[0].imshow(image)
        row[1].imshow(colors[label])
        row[2].imshow(colors[predicted])
        row[3].imshow(wrong, cmap="gray", vmin=0, vmax=1)
        row[0].set_ylabel(whole.name)
        for axes in row:
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(grid[0], ("image", "label", "prediction", "black: wrong, grey: no label"), strict=True):
        axes.set_title(title)
    handles = [Patch(facecolor=each.color, edgecolor="black", label=each.name) for each in classes]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8))
    figure.savefig(path, dpi=80)
