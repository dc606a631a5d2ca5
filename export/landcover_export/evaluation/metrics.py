"""Accuracy of a class map against a reference, all from one confusion matrix.

Protocol: reference pixels labelled 0 are left out. A class that the reference does not hold is *absent*: it has no
figures and is left out of the means, but a reference pixel predicted as one of them is an error.

The functions take confusion matrices `(…, classes, classes)`, `[reference][predicted]`, with any leading axes, so that
thousands of resampled matrices cost one call; those per class return `(…, classes)`, NaN where undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcover.classes import UNKNOWN
from landcover.contract import ClassMetrics, Metrics

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Confusions = npt.NDArray[Any]
"""Pixels, integer or float, `(…, classes, classes)`, `[reference][predicted]`."""
Statistic = Callable[[Confusions], FloatArray]
"""From confusion matrices `(…, classes, classes)` to one number each, `(…)`, or one for each class."""


def confusion_matrix(
    reference: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], values: Sequence[int]
) -> IntArray:
    """Pixels by `[reference][predicted]` class, `(classes, classes)`, in the order of `values`.

    Both arrays have the same shape. Pixels whose reference is 0 are left out; a value outside `values` elsewhere
    is an error of the caller.

    Raises:
        ValueError: the shapes differ, or a counted pixel holds a value that is no class.
    """
    if reference.shape != predicted.shape:
        raise ValueError(f"reference is {reference.shape}, prediction is {predicted.shape}")
    rank = np.full(256, -1, dtype=np.int64)
    rank[list(values)] = np.arange(len(values))
    counted = reference != UNKNOWN
    rows, columns = rank[reference[counted]], rank[predicted[counted]]
    if rows.size and (rows.min() < 0 or columns.min() < 0):
        strange = set(np.unique(reference[counted])) | set(np.unique(predicted[counted]))
        raise ValueError(f"values {sorted(int(v) for v in strange - set(values))} are no classes")
    count = len(values)
    return np.bincount(rows * count + columns, minlength=count * count).reshape(count, count)


def class_recall(confusions: Confusions) -> FloatArray:
    """Producer's accuracy: the share of a class's reference pixels that were found."""
    correct, reference, _ = _margins(confusions)
    return _ratio(correct, reference)


def class_precision(confusions: Confusions) -> FloatArray:
    """User's accuracy: the share of the pixels predicted as a class that are it; NaN where none was predicted."""
    correct, _, predicted = _margins(confusions)
    return _ratio(correct, predicted)


def class_iou(confusions: Confusions) -> FloatArray:
    """Intersection over union, `TP / (TP + FP + FN)`."""
    correct, reference, predicted = _margins(confusions)
    return _of_present(_ratio(correct, reference + predicted - correct), reference)


def class_f1(confusions: Confusions) -> FloatArray:
    """Harmonic mean of precision and recall, `2 TP / (2 TP + FP + FN)`; 0 for a class that is never predicted."""
    correct, reference, predicted = _margins(confusions)
    return _of_present(_ratio(2 * correct, reference + predicted), reference)


def overall_accuracy(confusions: Confusions) -> FloatArray:
    """OA: the share of pixels that are right."""
    correct, reference, _ = _margins(confusions)
    return _ratio(correct.sum(axis=-1), reference.sum(axis=-1))


def average_accuracy(confusions: Confusions) -> FloatArray:
    """AA: mean recall over the classes present."""
    return _mean_of_present(class_recall(confusions))


def mean_iou(confusions: Confusions) -> FloatArray:
    """mIoU: mean intersection over union over the classes present."""
    return _mean_of_present(class_iou(confusions))


def mean_f1(confusions: Confusions) -> FloatArray:
    """Mean F1 over the classes present (macro F1)."""
    return _mean_of_present(class_f1(confusions))


def of_class(figures: Statistic, index: int) -> Statistic:
    """One class's figure as a statistic of its own."""
    return lambda confusions: figures(confusions)[..., index]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The field's figures of one confusion matrix; arrays have one entry per class, NaN where undefined."""

    confusion: IntArray
    """`[reference][predicted]` pixels."""

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Classes that the reference holds."""
        return np.asarray(self.confusion.sum(axis=1) > 0)

    @property
    def recall(self) -> FloatArray:
        """Producer's accuracy."""
        return class_recall(self.confusion)

    @property
    def precision(self) -> FloatArray:
        """User's accuracy."""
        return class_precision(self.confusion)

    @property
    def iou(self) -> FloatArray:
        """Intersection over union."""
        return class_iou(self.confusion)

    @property
    def f1(self) -> FloatArray:
        """Harmonic mean of precision and recall."""
        return class_f1(self.confusion)

    @property
    def frequency(self) -> FloatArray:
        """Each class's share of the reference."""
        reference = self.confusion.sum(axis=1)
        return np.asarray(reference / max(reference.sum(), 1))

    @property
    def overall(self) -> float:
        """Overall accuracy (OA); 0 where nothing is labelled, as are the means."""
        return float(np.nan_to_num(overall_accuracy(self.confusion)))

    @property
    def average(self) -> float:
        """Average accuracy (AA)."""
        return float(np.nan_to_num(average_accuracy(self.confusion)))

    @property
    def mean_iou(self) -> float:
        """mIoU over the classes present."""
        return float(np.nan_to_num(mean_iou(self.confusion)))

    @property
    def mean_f1(self) -> float:
        """Mean F1 over the classes present."""
        return float(np.nan_to_num(mean_f1(self.confusion)))

    def as_metrics(self, dataset: str) -> Metrics:
        """The form in which a contract carries it."""
        return Metrics(
            dataset=dataset,
            overall_accuracy=round(self.overall, 4),
            average_accuracy=round(self.average, 4),
            mean_iou=round(self.mean_iou, 4),
            confusion_matrix=self.confusion.tolist(),
            classes=tuple(
                ClassMetrics(recall=rounded(r), precision=rounded(p), f1=rounded(f), iou=rounded(i))
                if present
                else ClassMetrics()
                for present, r, p, f, i in zip(
                    self.present, self.recall, self.precision, self.f1, self.iou, strict=True
                )
            ),
        )


def rounded(number: float) -> float | None:
    """Four decimals; None, JSON's null, for a number that is not defined."""
    return round(float(number), 4) if np.isfinite(number) else None


def _margins(confusions: Confusions) -> tuple[Confusions, Confusions, Confusions]:
    """Correct, reference and predicted pixels of each class, `(…, classes)`."""
    return np.diagonal(confusions, axis1=-2, axis2=-1), confusions.sum(axis=-1), confusions.sum(axis=-2)


def _ratio(part: Confusions, whole: Confusions) -> FloatArray:
    result = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=result, where=np.asarray(whole) > 0)
    return result


def _of_present(figures: FloatArray, reference: Confusions) -> FloatArray:
    return np.where(reference > 0, figures, np.nan)


def _mean_of_present(figures: FloatArray) -> FloatArray:
    """Mean over the last axis without NaN; NaN where there is nothing else."""
    defined = np.isfinite(figures)
    return _ratio(np.where(defined, figures, 0.0).sum(axis=-1), defined.sum(axis=-1))
