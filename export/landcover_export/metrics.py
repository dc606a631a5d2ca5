"""Accuracy of a class map against a reference, all from one confusion matrix.

Protocol: reference pixels labelled 0 are left out. Classes that the reference does not hold are left out of the
means, but a reference pixel predicted as one of them is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcover.classes import UNKNOWN
from landcover.contract import Metrics

IntArray = npt.NDArray[np.int64]


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
    def recall(self) -> npt.NDArray[np.float64]:
        """Producer's accuracy."""
        return _ratio(np.diagonal(self.confusion), self.confusion.sum(axis=1))

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """User's accuracy."""
        return _ratio(np.diagonal(self.confusion), self.confusion.sum(axis=0))

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union."""
        correct = np.diagonal(self.confusion)
        return _ratio(correct, self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - correct)

    @property
    def overall(self) -> float:
        """Overall accuracy (OA): the share of pixels that are right."""
        return float(np.trace(self.confusion) / max(self.confusion.sum(), 1))

    @property
    def average(self) -> float:
        """Average accuracy (AA): mean recall over the classes present."""
        return float(self.recall[self.present].mean()) if self.present.any() else 0.0

    @property
    def mean_iou(self) -> float:
        """mIoU over the classes present."""
        return float(self.iou[self.present].mean()) if self.present.any() else 0.0

    def as_metrics(self, dataset: str) -> Metrics:
        """The form in which a contract carries it."""
        return Metrics(
            dataset=dataset,
            overall_accuracy=round(self.overall, 4),
            average_accuracy=round(self.average, 4),
            mean_iou=round(self.mean_iou, 4),
            confusion_matrix=self.confusion.tolist(),
        )


def _ratio(part: IntArray, whole: IntArray) -> npt.NDArray[np.float64]:
    result = np.full(part.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result
