"""What `report.json` holds. Fields are added, never renamed; docs/evaluation.md explains them to readers of the file.

Figures that are not defined (a class that the reference lacks, the bounds of a single window) are null.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from landcover.classes import LandCoverClass
from landcover.contract import DesignEffects

FORMAT: Literal["landcover-evaluation/1"] = "landcover-evaluation/1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Figure(_Part):
    """A number and its interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Sampling(_Part):
    """How the intervals were made."""

    method: Literal["percentile cluster bootstrap"] = "percentile cluster bootstrap"
    cluster_px: int | None
    """Side of a window; null for whole images."""
    windows: int
    """Labelled windows, the sample's size."""
    replicates: int
    seed: int
    level: float


class ClassInReference(_Part):
    """A class, and how much of it the reference holds."""

    value: int
    name: str
    color: str
    reference_pixels: int
    share: float
    """Of all labelled pixels."""
    present: bool
    """Absent classes are left out of the means."""


class ClassFigures(_Part):
    """How well one model maps one class."""

    value: int
    predicted_pixels: int
    """Among labelled pixels; of an absent class all of them are errors."""
    iou: Figure
    f1: Figure
    precision: Figure
    recall: Figure


class Bin(_Part):
    """Labelled pixels whose confidence lies in one range."""

    from_confidence: float
    to_confidence: float
    pixels: int
    mean_confidence: float | None
    accuracy: float | None


class ReviewFigures(_Part):
    """What a reviewer finds who looks first where the model doubts itself (mean of 1 - p over a window)."""

    share_of_windows: float
    errors_found: float
    """Share of all errors in those windows."""
    errors_found_at_random: float
    errors_found_at_best: float
    """In the best order there is, which only who knows the errors can give."""


class WindowFigures(_Part):
    """One model on one window."""

    errors: int
    """Wrong pixels."""
    confident_errors: int
    """Wrong pixels with a confidence of 0.9 or more."""
    doubt: float


class ModelFigures(_Part):
    """One model, all of its figures."""

    name: str
    path: str
    digest: str | None
    """`sha256:…` of the file that was measured."""
    runs_on: str
    window_px: int
    halo_px: int
    scale: float
    class_values: list[int]
    """Those it can predict."""
    overall_accuracy: Figure
    average_accuracy: Figure
    mean_iou: Figure
    mean_f1: Figure
    classes: list[ClassFigures]
    """In the order of the document's classes, as rows and columns of the matrix."""
    confusion_matrix: list[list[int]]
    """`[reference][predicted]` pixels."""
    calibration: list[Bin]
    expected_calibration_error: float
    """Mean distance of accuracy and mean confidence over the bins, weighted by pixels."""
    review: ReviewFigures | None
    """Null where there is no error to be found."""
    windows: list[WindowFigures]
    """In the order of the document's windows."""
    design_effects: list[DesignEffects] = []
    """How errors go together within places, by growing size; classes in the order of the document's."""


class Difference(_Part):
    """A model less the baseline, over the same resampled windows."""

    model: str
    baseline: str
    overall_accuracy: Figure
    average_accuracy: Figure
    mean_iou: Figure
    iou: list[Figure]
    """Of each class, in the order of the document's classes."""


class WindowInReference(_Part):
    """A window, by the image it lies in and its upper left corner."""

    image: str
    group: str
    row_px: int
    col_px: int
    height_px: int
    width_px: int
    labelled_pixels: int


class Report(_Part):
    """All of an evaluation."""

    format: Literal["landcover-evaluation/1"] = FORMAT
    created: str
    """ISO 8601, UTC."""
    software: str
    dataset: str
    sampling: Sampling
    labelled_pixels: int
    classes: list[ClassInReference]
    models: list[ModelFigures]
    differences: list[Difference]
    """Each further model less the first."""
    windows: list[WindowInReference]

    @property
    def land_cover_classes(self) -> tuple[LandCoverClass, ...]:
        """The classes as the rest of the project knows them."""
        return tuple(LandCoverClass(value=each.value, name=each.name, color=each.color) for each in self.classes)
