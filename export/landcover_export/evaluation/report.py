"""From counts to the document that is printed, drawn and kept as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from landcover import __version__
from landcover.atomic import atomic_path
from landcover.review import errors_found
from landcover_export.evaluation import metrics
from landcover_export.evaluation.bootstrap import LEVEL, Estimate, intervals, paired_difference
from landcover_export.evaluation.dispersion import design_effects
from landcover_export.evaluation.document import (
    Bin,
    ClassFigures,
    ClassInReference,
    Difference,
    Figure,
    ModelFigures,
    Report,
    ReviewFigures,
    Sampling,
    WindowFigures,
    WindowInReference,
)
from landcover_export.evaluation.evaluate import Counts, Evaluation
from landcover_export.evaluation.metrics import IntArray, of_class, rounded
from landcover_export.evaluation.models import BlockModel
from landcover_export.labelled import DataError

REVIEWED = 0.1
"""Share of the windows that a reviewer is taken to look at."""

_MEANS = (metrics.overall_accuracy, metrics.average_accuracy, metrics.mean_iou, metrics.mean_f1)
_PER_CLASS = (metrics.class_iou, metrics.class_f1, metrics.class_precision, metrics.class_recall)
_BINS = 10


def make_report(
    evaluation: Evaluation,
    models: Sequence[BlockModel],
    *,
    dataset: str,
    cluster_px: int | None,
    replicates: int,
    seed: int,
) -> Report:
    """All figures of `evaluation`, with intervals from `replicates` resamples.

    Args:
        evaluation: of `models`, in their order; its first model is the baseline of the differences.
        models: what was evaluated.
        dataset: what it was measured on, in words.
        cluster_px: side of the windows, None for whole images.
        replicates: resamples for the intervals; with 0 there are none.
        seed: of the resampling.

    Raises:
        DataError: no pixel is labelled.
    """
    if not evaluation.windows:
        raise DataError(
            f"No pixel of {dataset} is labelled (0 means unlabelled), so that there is nothing to measure on."
        )
    reference = evaluation.counts[0].confusion.sum(axis=1)
    labelled = evaluation.counts[0].labelled
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software=f"landcover-tiles {__version__}",
        dataset=dataset,
        sampling=Sampling(
            cluster_px=cluster_px, windows=len(evaluation.windows), replicates=replicates, seed=seed, level=LEVEL
        ),
        labelled_pixels=int(reference.sum()),
        classes=[
            ClassInReference(
                value=each.value,
                name=each.name,
                color=each.color,
                reference_pixels=int(pixels),
                share=float(pixels / reference.sum()),
                present=bool(pixels > 0),
            )
            for each, pixels in zip(evaluation.classes, reference, strict=True)
        ],
        models=[
            _model_figures(model, counts, evaluation, replicates, seed)
            for model, counts in zip(models, evaluation.counts, strict=True)
        ],
        differences=[
            _difference(model, counts, models[0], evaluation.counts[0], replicates, seed)
            for model, counts in zip(models[1:], evaluation.counts[1:], strict=True)
        ],
        windows=[
            WindowInReference(
                image=each.image,
                group=each.group,
                row_px=each.row_px,
                col_px=each.col_px,
                height_px=each.height_px,
                width_px=each.width_px,
                labelled_pixels=int(pixels),
            )
            for each, pixels in zip(evaluation.windows, labelled, strict=True)
        ],
    )


def write_report(report: Report, path: Path) -> None:
    """As JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(report.model_dump_json(indent=1), encoding="utf-8")


def read_report(path: Path) -> Report:
    """The document that `landcover evaluate` wrote.

    Raises:
        DataError: it is missing or of another format.
    """
    if not path.is_file():
        raise DataError(f"There is no report {path}; write one with `landcover evaluate MODEL --json {path}`.")
    try:
        return Report.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = error.errors()[0]
        where = ".".join(map(str, reason["loc"])) or "it"
        raise DataError(
            f"{path} is no report of this version of `landcover evaluate` ({where}: {reason['msg']}); write it anew."
        ) from error


def _model_figures(
    model: BlockModel, counts: Counts, evaluation: Evaluation, replicates: int, seed: int
) -> ModelFigures:
    indices = range(len(evaluation.classes))
    statistics = [*_MEANS, *(of_class(figures, index) for index in indices for figures in _PER_CLASS)]
    found = [_figure(each) for each in intervals(counts.confusions, statistics, seed=seed, replicates=replicates)]
    confusion = counts.confusion
    present = confusion.sum(axis=1) > 0
    absent = Figure(value=None)
    bins = _calibration(counts.by_confidence)
    return ModelFigures(
        name=model.name,
        path=str(model.path or model.name),
        digest=model.digest,
        runs_on=model.runs_on,
        window_px=model.window_px,
        halo_px=model.halo_px,
        scale=model.scale,
        class_values=[each.value for each in model.classes],
        overall_accuracy=found[0],
        average_accuracy=found[1],
        mean_iou=found[2],
        mean_f1=found[3],
        classes=[
            ClassFigures(
                value=evaluation.classes[index].value,
                predicted_pixels=int(confusion[:, index].sum()),
                iou=figures[0],
                f1=figures[1],
                precision=figures[2] if present[index] else absent,
                recall=figures[3],
            )
            for index, figures in ((index, found[4 + 4 * index : 8 + 4 * index]) for index in indices)
        ],
        confusion_matrix=confusion.tolist(),
        calibration=bins,
        expected_calibration_error=sum(
            each.pixels * abs(each.accuracy - each.mean_confidence)
            for each in bins
            if each.accuracy is not None and each.mean_confidence is not None
        )
        / int(confusion.sum()),
        review=_review(counts),
        windows=[
            WindowFigures(errors=int(errors), confident_errors=int(confident), doubt=round(float(doubt), 4))
            for errors, confident, doubt in zip(counts.errors, counts.confident_errors, counts.doubt, strict=True)
        ],
        design_effects=list(design_effects(confusion, counts.scatter)),
    )


def _difference(
    model: BlockModel, counts: Counts, baseline: BlockModel, base: Counts, replicates: int, seed: int
) -> Difference:
    def against(statistic: metrics.Statistic) -> Figure:
        return _figure(
            paired_difference(counts.confusions, base.confusions, statistic, seed=seed, replicates=replicates)
        )

    return Difference(
        model=model.name,
        baseline=baseline.name,
        overall_accuracy=against(metrics.overall_accuracy),
        average_accuracy=against(metrics.average_accuracy),
        mean_iou=against(metrics.mean_iou),
        iou=[against(of_class(metrics.class_iou, index)) for index in range(counts.confusions.shape[1])],
    )


def _calibration(by_confidence: IntArray) -> list[Bin]:
    """Accuracy against confidence in ten bins of equal width (Guo et al., "On Calibration", ICML 2017)."""
    levels = np.arange(256) / 255
    ranges = np.minimum((levels * _BINS).astype(int), _BINS - 1)
    bins = []
    for index in range(_BINS):
        inside = ranges == index
        right, pixels = int(by_confidence[1, inside].sum()), int(by_confidence[:, inside].sum())
        total = float((by_confidence[:, inside].sum(axis=0) * levels[inside]).sum())
        bins.append(
            Bin(
                from_confidence=index / _BINS,
                to_confidence=(index + 1) / _BINS,
                pixels=pixels,
                mean_confidence=total / pixels if pixels else None,
                accuracy=right / pixels if pixels else None,
            )
        )
    return bins


def _review(counts: Counts) -> ReviewFigures | None:
    if not counts.errors.any():
        return None
    found = errors_found(counts.errors[np.argsort(-counts.doubt, kind="stable")], REVIEWED)
    return ReviewFigures(
        share_of_windows=REVIEWED,
        errors_found=round(found.found, 4),
        errors_found_at_random=round(found.random, 4),
        errors_found_at_best=round(found.oracle, 4),
    )


def _figure(estimate: Estimate) -> Figure:
    return Figure(value=rounded(estimate.estimate), low=rounded(estimate.low), high=rounded(estimate.high))
