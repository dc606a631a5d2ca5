"""Which windows of the new scene are annotated, and what annotating them means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from landcover.review import confidence_doubt, disagreement_doubt, spread_order
from landcover_export.labelled import LabelledImage

ByteArray = npt.NDArray[np.uint8]
Window = tuple[int, int]
"""(row, col) of a square window."""

CONTEXT_PX = 112
"""Unlabelled ground around an annotated window that crops may reach into."""
SMALLEST_POLYGON_PX = 25
"""Smaller patches of one class are taken for the noise of a drawn border, not for a polygon."""


def choose(
    strategy: str,
    scene: LabelledImage,
    maps: Sequence[tuple[ByteArray, ByteArray]],
    *,
    side_px: int,
    count: int,
    spread: float,
    seed: int,
) -> list[Window]:
    """The windows to annotate.

    Args:
        strategy: `worst` (mean of 1 - confidence, spread over the scene), `plain` (the same, not spread),
            `disagreement` (of the first two maps, spread), or `random`.
        scene: its labels decide nothing but which windows can be annotated at all: half of one must be labelled.
        maps: classes and confidence `(height, width)` by one model or two.
        side_px: of a window.
        count: how many.
        spread: radius in windows.
        seed: of the random choice; the others depend on the maps alone.
    """
    rows, cols = scene.label.shape[0] // side_px, scene.label.shape[1] // side_px
    at = slice(rows * side_px), slice(cols * side_px)
    labelled = (scene.label[at] > 0).reshape(rows, side_px, cols, side_px).mean(axis=(1, 3)) >= 0.5
    if strategy == "random":
        places = np.argwhere(labelled)
        chosen = np.random.default_rng(seed).choice(len(places), min(count, len(places)), replace=False)
        return [(int(row), int(col)) for row, col in places[chosen]]
    classes, confidence = (each[at] for each in maps[0])
    if strategy == "disagreement":
        doubt = disagreement_doubt(classes, maps[1][0][at], side_px)
    else:
        doubt = confidence_doubt(classes, confidence, side_px)
    return spread_order(np.where(labelled, doubt, np.nan), radius=0.0 if strategy == "plain" else spread, limit=count)


def annotate(scene: LabelledImage, windows: Sequence[Window], side_px: int) -> list[LabelledImage]:
    """Places as the fine-tuner learns them: each window's true labels, and unlabelled context around it."""
    places = []
    for row, col in windows:
        top, left = max(0, row * side_px - CONTEXT_PX), max(0, col * side_px - CONTEXT_PX)
        around = slice(top, (row + 1) * side_px + CONTEXT_PX), slice(left, (col + 1) * side_px + CONTEXT_PX)
        label = np.zeros_like(scene.label[around])
        inside = (
            slice(row * side_px - top, (row + 1) * side_px - top),
            slice(col * side_px - left, (col + 1) * side_px - left),
        )
        label[inside] = scene.label[around][inside]
        places.append(LabelledImage(name=f"{row}/{col}", image=scene.image[around], label=label))
    return places


def polygons(places: Sequence[LabelledImage]) -> int:
    """How many polygons a person would draw: connected patches of one class, each window for itself."""
    count = 0
    for place in places:
        for value in np.unique(place.label[place.label > 0]):
            patches, _ = ndimage.label(place.label == value)
            count += int((np.bincount(patches.ravel())[1:] >= SMALLEST_POLYGON_PX).sum())
    return count
