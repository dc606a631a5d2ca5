"""Moved to `landcover_export.evaluation`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from landcover.classes import LandCoverClass
from landcover.contract import Metrics
from landcover_export.evaluation.evaluate import evaluate_images
from landcover_export.evaluation.mapping import map_image
from landcover_export.evaluation.metrics import Accuracy, IntArray
from landcover_export.evaluation.models import BlockModel, load_model, onnx_runner, torch_runner

__all__ = ["BlockModel", "evaluate_images", "load_model", "map_image", "onnx_runner", "report", "torch_runner"]


def report(confusion: IntArray, classes: Sequence[LandCoverClass], dataset: str, console: Console) -> Metrics:
    """Print the figures of `confusion` as tables, and return them."""
    accuracy = Accuracy(confusion=confusion)
    table = Table(title=f"{dataset}: % of each reference class, by predicted class", title_justify="left")
    table.add_column("reference")
    for each in classes:
        table.add_column(str(each.value), justify="right")
    for name in ("recall", "prec.", "IoU"):
        table.add_column(name, justify="right", style="bold")
    for index in map(int, np.flatnonzero(accuracy.present)):
        shares = 100 * confusion[index] / confusion[index].sum()
        scores = (accuracy.recall[index], accuracy.precision[index], accuracy.iou[index])
        name = f"{classes[index].value} {classes[index].name}"
        table.add_row(name, *(f"{share:.0f}" for share in shares), *(f"{score:.3f}" for score in scores))
    console.print(table)
    console.print(
        f"OA {accuracy.overall:.4f}   AA {accuracy.average:.4f}   mIoU {accuracy.mean_iou:.4f}   "
        f"({int(confusion.sum())} pixels, {int(accuracy.present.sum())} classes present)"
    )
    return accuracy.as_metrics(dataset)
