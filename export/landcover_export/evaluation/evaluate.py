"""Running models over labelled images and counting, window by window, what they get right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from landcover.classes import UNKNOWN, LandCoverClass
from landcover.contract import Metrics
from landcover.errors import InvalidModel
from landcover_export.evaluation.dispersion import Scatter, design_effects, scatter_of
from landcover_export.evaluation.mapping import ByteArray
from landcover_export.evaluation.metrics import Accuracy, FloatArray, IntArray, confusion_matrix
from landcover_export.evaluation.models import BlockModel
from landcover_export.labelled import LabelledImage

CONFIDENT = 230
"""Confidence, of 255, from which an error counts as a confident one: nine tenths."""

CLUSTER_PX = 512
"""Side of the windows that are resampled: from here on the intervals widen no more (measured, docs/evaluation.md)."""


class ImageWithLabel(Protocol):
    """An image and the class of each of its pixels."""

    @property
    def image(self) -> ByteArray:
        """`(height, width, 3)`, red-green-blue."""

    @property
    def label(self) -> ByteArray:
        """`(height, width)`, class values; 0 is ignored."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle of one labelled image; what is resampled for intervals."""

    image: str
    """The image's name."""
    group: str
    row_px: int
    col_px: int
    height_px: int
    width_px: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where it lies in the image's arrays."""
        return (
            slice(self.row_px, self.row_px + self.height_px),
            slice(self.col_px, self.col_px + self.width_px),
        )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one model made of the labelled windows."""

    confusions: IntArray
    """Pixels, `(windows, classes, classes)`, `[window][reference][predicted]`."""
    confident_errors: IntArray
    """`(windows,)`: wrong pixels with a confidence of `CONFIDENT` or more."""
    doubt: FloatArray
    """`(windows,)`: mean of 1 - p over the window's pixels, p the top probability; `landcover.review` ranks by it."""
    by_confidence: IntArray
    """`(2, 256)`: wrong and right pixels by confidence."""
    scatter: Scatter
    """How errors go together within places of several sizes, whatever the windows above are."""

    @property
    def confusion(self) -> IntArray:
        """Pooled over the windows, `(classes, classes)`."""
        return np.asarray(self.confusions.sum(axis=0))

    def as_metrics(self, dataset: str) -> Metrics:
        """The form in which a contract carries it, without intervals."""
        effects = design_effects(self.confusion, self.scatter)
        return Accuracy(confusion=self.confusion).as_metrics(dataset).model_copy(update={"design_effects": effects})

    @property
    def labelled(self) -> IntArray:
        """Labelled pixels of each window, `(windows,)`."""
        return np.asarray(self.confusions.sum(axis=(1, 2)))

    @property
    def errors(self) -> IntArray:
        """Wrong pixels of each window, `(windows,)`."""
        return np.asarray(self.labelled - np.trace(self.confusions, axis1=1, axis2=2))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What several models made of the same labelled windows."""

    classes: tuple[LandCoverClass, ...]
    """The union of the models' classes; rows and columns of every confusion matrix."""
    windows: tuple[Window, ...]
    counts: tuple[Counts, ...]
    """One for each model, in their order."""


@dataclass(frozen=True, kw_only=True)
class MappedImage:
    """A labelled image with the maps of all models, as handed to observers; not kept."""

    index: int
    """Of the image in the set, from 0."""
    source: LabelledImage
    windows: tuple[Window, ...]
    maps: tuple[tuple[ByteArray, ByteArray], ...]
    """Classes and confidence `(height, width)` of each model."""
    counts: tuple[Counts, ...]
    """Of this image's windows, one for each model."""


def evaluate_images(model: BlockModel, images: Iterable[ImageWithLabel]) -> IntArray:
    """Confusion matrix `[reference][predicted]` in pixels over the model's classes, summed over `images`."""
    values = [each.value for each in model.classes]
    total = np.zeros((len(values), len(values)), dtype=np.int64)
    for each in images:
        classes, _ = model.map(each.image)
        total += confusion_matrix(each.label, classes, values)
    return total


def evaluate_windows(
    models: Sequence[BlockModel],
    images: Iterable[LabelledImage],
    *,
    classes: Sequence[LandCoverClass],
    cluster_px: int | None = CLUSTER_PX,
    observe: Callable[[MappedImage], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Count every window of `images` for every model; one image and its maps are in memory at a time.

    Args:
        models: their classes are among `classes`.
        images: read one after another, so a generator keeps memory low. Labels are among `classes` or 0.
        classes: rows and columns of the confusion matrices.
        cluster_px: side of a window; None for whole images. Windows without a label are left out.
        observe: gets each image with its maps, for pictures.
        on_progress: called with shares of one image mapped by one model: their sum grows to images × models.

    Raises:
        InvalidModel: a network fails, or returns a value that is no class of its contract.
    """
    windows: list[Window] = []
    parts: list[list[Counts]] = [[] for _ in models]
    for index, source in enumerate(images):
        here = tuple(each for each in tiled(source, cluster_px) if source.label[each.slices].any())
        maps = tuple(model.map(source.image, on_progress) for model in models)
        counts = tuple(
            _counts(model, source.label, mapped, here, classes) for model, mapped in zip(models, maps, strict=True)
        )
        windows += here
        for kept, each in zip(parts, counts, strict=True):
            kept.append(each)
        if observe is not None:
            observe(MappedImage(index=index, source=source, windows=here, maps=maps, counts=counts))
    return Evaluation(
        classes=tuple(classes),
        windows=tuple(windows),
        counts=tuple(_joined(each, len(classes)) for each in parts),
    )


def tiled(source: LabelledImage, cluster_px: int | None) -> Iterator[Window]:
    """Windows of about `cluster_px` that cover the image: each side is divided evenly, so that none is a sliver."""
    height, width = source.label.shape
    rows, columns = _divided(height, cluster_px), _divided(width, cluster_px)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            yield Window(
                image=source.name,
                group=source.group,
                row_px=top,
                col_px=left,
                height_px=bottom - top,
                width_px=right - left,
            )


def _divided(length_px: int, part_px: int | None) -> list[int]:
    parts = 1 if part_px is None else max(1, round(length_px / part_px))
    return [round(part * length_px / parts) for part in range(parts + 1)]


def _counts(
    model: BlockModel,
    label: ByteArray,
    mapped: tuple[ByteArray, ByteArray],
    windows: Sequence[Window],
    classes: Sequence[LandCoverClass],
) -> Counts:
    found, confidence = mapped
    own = {each.value for each in model.classes}
    if strange := sorted(set(np.unique(found).tolist()) - own):
        raise InvalidModel(
            f"{model.path or model.name} returns the class values {', '.join(map(str, strange))}, which its contract "
            "does not name; export it again."
        )
    values = [each.value for each in classes]
    labelled, right = label != UNKNOWN, found == label
    sure = labelled & ~right & (confidence >= CONFIDENT)
    return Counts(
        confusions=np.stack([confusion_matrix(label[w.slices], found[w.slices], values) for w in windows])
        if windows
        else np.zeros((0, len(values), len(values)), dtype=np.int64),
        confident_errors=np.array([np.count_nonzero(sure[w.slices]) for w in windows], dtype=np.int64),
        doubt=np.array([1 - float(confidence[w.slices].mean()) / 255 for w in windows]),
        by_confidence=np.stack([_histogram(confidence[labelled & ~right]), _histogram(confidence[labelled & right])]),
        scatter=scatter_of(label, found, values),
    )


def _histogram(confidence: npt.NDArray[np.uint8]) -> IntArray:
    return np.bincount(confidence, minlength=256)


def _joined(parts: Sequence[Counts], classes: int) -> Counts:
    nothing = np.zeros((0, classes, classes), dtype=np.int64)
    return Counts(
        confusions=np.concatenate([nothing, *(each.confusions for each in parts)]),
        confident_errors=np.concatenate([np.zeros(0, dtype=np.int64), *(each.confident_errors for each in parts)]),
        doubt=np.concatenate([np.zeros(0), *(each.doubt for each in parts)]),
        by_confidence=np.sum([np.zeros((2, 256), dtype=np.int64), *(each.by_confidence for each in parts)], axis=0),
        scatter=sum((each.scatter for each in parts), Scatter.none(classes)),
    )
