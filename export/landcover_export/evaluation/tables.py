"""A report as tables on a terminal."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from landcover_export.evaluation.bootstrap import FEW_WINDOWS
from landcover_export.evaluation.document import Figure, ModelFigures, Report


def print_report(report: Report, console: Console) -> None:
    """Models side by side, their differences, each class, and each model's confusion matrix."""
    console.print(_models(report))
    if report.differences:
        console.print(_differences(report))
    console.print(_classes(report))
    for model in report.models:
        console.print(_confusion(report, model))
    if absent := [f"{each.value} {each.name}" for each in report.classes if not each.present]:
        console.print(f"absent from the reference, left out of the means: {', '.join(absent)}")
    sampling = report.sampling
    console.print(
        f"{report.labelled_pixels} labelled pixels in {sampling.windows} windows; small ranges are "
        f"{sampling.level:.0%} intervals from {sampling.replicates} resamples of the windows"
    )
    if sampling.windows < FEW_WINDOWS:
        console.print(f"[yellow]Only {sampling.windows} windows: the intervals are too narrow to lean on.[/]")


def decimals(figure: Figure) -> str:
    """The figure and below it its bounds; a dash where it is not defined."""
    if figure.value is None:
        return "–"
    bounds = "" if figure.low is None or figure.high is None else f"\n{figure.low:.3f}–{figure.high:.3f}"
    return f"[bold]{figure.value:.3f}[/]{bounds}"


def signed(figure: Figure) -> str:
    """A difference and below it its bounds, with a star where they exclude zero."""
    if figure.value is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{figure.value:+.3f}"
    star = " *" if figure.low > 0 or figure.high < 0 else ""
    return f"[bold]{figure.value:+.3f}{star}[/]\n{figure.low:+.3f} to {figure.high:+.3f}"


def _models(report: Report) -> Table:
    table = Table(title=escape(report.dataset), title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("OA", "AA", "mIoU", "mean F1"):
        table.add_column(name, justify="right")
    for model in report.models:
        means = (model.overall_accuracy, model.average_accuracy, model.mean_iou, model.mean_f1)
        table.add_row(escape(model.name), *map(decimals, means))
    return table


def _differences(report: Report) -> Table:
    baseline = report.models[0].name
    table = Table(title=f"difference from {escape(baseline)}; * the interval excludes zero", title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("OA", "AA", "mIoU"):
        table.add_column(name, justify="right")
    for each in report.differences:
        table.add_row(escape(each.model), *map(signed, (each.overall_accuracy, each.average_accuracy, each.mean_iou)))
    return table


def _classes(report: Report) -> Table:
    table = Table(title="IoU of each class", title_justify="left")
    table.add_column("class")
    table.add_column("share", justify="right")
    for model in report.models:
        table.add_column(escape(model.name), justify="right")
    for index, each in enumerate(report.classes):
        if each.present:
            figures = (decimals(model.classes[index].iou) for model in report.models)
            table.add_row(f"{each.value} {each.name}", f"{each.share:.1%}", *figures)
    return table


def _confusion(report: Report, model: ModelFigures) -> Table:
    table = Table(title=f"{escape(model.name)}: % of each reference class, by predicted class", title_justify="left")
    table.add_column("reference")
    for each in report.classes:
        table.add_column(str(each.value), justify="right")
    for name in ("recall", "prec.", "F1"):
        table.add_column(name, justify="right", style="bold")
    matrix = np.array(model.confusion_matrix)
    for index, each in enumerate(report.classes):
        if each.present:
            shares = 100 * matrix[index] / matrix[index].sum()
            scores = (model.classes[index].recall, model.classes[index].precision, model.classes[index].f1)
            table.add_row(
                f"{each.value} {each.name}",
                *(f"{share:.0f}" for share in shares),
                *("–" if score.value is None else f"{score.value:.3f}" for score in scores),
            )
    return table
