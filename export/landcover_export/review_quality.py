"""How well a ranking by doubt finds real errors, told by labels that the ranking does not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcover import review
from landcover.classes import UNKNOWN
from landcover.errors import InvalidConfiguration
from landcover.review import ByteArray, FloatArray, Measure, errors_found
from landcover.review_survey import DEFAULT_MIN_MAPPED


@dataclass(frozen=True, kw_only=True)
class LabelledMap:
    """One mapped image and its labels, all uint8 `(height, width)`."""

    classes: ByteArray
    """0 = unknown."""
    confidence: ByteArray
    label: ByteArray
    """0 is ignored: neither right nor wrong."""
    others: ByteArray | None = None
    """The second model's class map, for disagreement."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What the first windows of one ranking hold of all errors."""

    measure: Measure
    window_px: int
    windows: int
    found: float
    """Share of all errors in the first `share` of windows, the worst first."""
    interval: tuple[float, float]
    """Of `found`, 95 %, by drawing windows with replacement."""
    random: float
    """The same for windows in random order, as an expectation."""
    oracle: float
    """The same for windows ordered by their true errors: no ranking finds more."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The windows of all maps in one order."""

    measure: Measure
    errors: FloatArray
    """Erroneous labelled pixels of each window, the most doubtful first."""


def rank_windows(
    maps: Sequence[LabelledMap],
    *,
    window_px: int,
    block_px: int,
    class_count: int,
    min_mapped: float = DEFAULT_MIN_MAPPED,
) -> dict[Measure, Ranking]:
    """The windows of all `maps` in one plain ranking for each measure that can be told.

    Every measure ranks the same windows, those with a labelled pixel. Where a measure knows nothing of a window
    (less than `min_mapped` of it is mapped, or no seam runs there) it comes last.

    Raises:
        InvalidConfiguration: no window holds a labelled pixel.
    """
    measures: list[Measure] = ["confidence", "entropy", "seams"]
    if all(each.others is not None for each in maps):
        measures.append("disagreement")
    doubt: dict[Measure, list[FloatArray]] = {measure: [] for measure in measures}
    errors, kept = [], []
    for each in maps:
        for measure in measures:
            found = _doubt(each, measure, window_px, block_px, class_count, min_mapped)
            doubt[measure].append(found.ravel())
        labelled = each.label != UNKNOWN
        errors.append(review.window_sums(labelled & (each.classes != each.label), window_px).ravel())
        kept.append(review.window_sums(labelled, window_px).ravel() > 0)
    chosen = np.concatenate(kept) if kept else np.zeros(0, bool)
    if not chosen.any():
        raise InvalidConfiguration("No window holds a labelled pixel; label some parts of these images.")
    wrong = np.concatenate(errors)[chosen]
    rankings: dict[Measure, Ranking] = {}
    for measure, parts in doubt.items():
        order = np.argsort(-np.nan_to_num(np.concatenate(parts)[chosen], nan=-1.0), kind="stable")
        rankings[measure] = Ranking(measure=measure, errors=wrong[order])
    return rankings


def _doubt(
    each: LabelledMap, measure: Measure, window_px: int, block_px: int, class_count: int, min_mapped: float
) -> FloatArray:
    classes, confidence = each.classes, each.confidence
    if measure == "confidence":
        return review.confidence_doubt(classes, confidence, window_px, min_mapped=min_mapped)
    if measure == "entropy":
        return review.entropy_doubt(classes, confidence, window_px, class_count, min_mapped=min_mapped)
    if measure == "seams":
        return review.seams_doubt(classes, window_px, block_px, min_mapped=min_mapped)
    if each.others is None:
        raise ValueError("disagreement needs the other model's map")
    return review.disagreement_doubt(classes, each.others, window_px, min_mapped=min_mapped)


def review_quality(
    maps: Sequence[LabelledMap],
    *,
    window_px: int,
    block_px: int,
    class_count: int,
    min_mapped: float = DEFAULT_MIN_MAPPED,
    share: float = 0.1,
) -> list[Quality]:
    """The share of all errors inside the first `share` of windows, for each measure.

    Args:
        maps: their windows are ranked together, as those of one scene are.
        window_px: side of a window, a divisor of the block's.
        block_px: of the model: the lines that seams are looked for at.
        class_count: of the model, for entropy.
        min_mapped: share of a window's square that must be mapped; the others come last.
        share: of the windows that somebody looks at.

    Raises:
        InvalidConfiguration: no window holds a labelled pixel, or there are no errors to be found.
    """
    rankings = rank_windows(
        maps, window_px=window_px, block_px=block_px, class_count=class_count, min_mapped=min_mapped
    )
    if not rankings["confidence"].errors.any():
        raise InvalidConfiguration("The maps agree with all their labels: there are no errors to be found.")
    qualities = []
    for measure, ranking in rankings.items():
        found = errors_found(ranking.errors, share)
        qualities.append(
            Quality(
                measure=measure,
                window_px=window_px,
                windows=len(ranking.errors),
                found=found.found,
                interval=_interval(ranking.errors, share),
                random=found.random,
                oracle=found.oracle,
            )
        )
    return qualities


def found_curve(errors: npt.NDArray[np.float64]) -> FloatArray:
    """Share of all errors in the first 0, 1, … windows of an order, `(windows + 1,)`."""
    return np.asarray(np.concatenate([[0.0], np.cumsum(errors)]) / errors.sum())


def _interval(errors: FloatArray, share: float, draws: int = 1000) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        again = errors[np.sort(rng.integers(len(errors), size=len(errors)))]
        if again.any():
            found.append(errors_found(again, share).found)
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
