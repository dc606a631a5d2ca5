"""Where a class map is likely wrong: doubt of each window of a map, and the order in which to look at windows.

Arithmetic on arrays alone. Maps are uint8 `(height, width)`, 0 = unknown, confidence is the top softmax probability
× 255; windows are squares of `side_px` counted from the map's origin, the last of a row or column may reach past
it. Doubt is float64 `(rows, cols)`, one figure for each window: 0 = none, larger = look there first, NaN = nothing to
look at, because less than `min_mapped` of the square is mapped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from landcover.classes import UNKNOWN

Measure = Literal["confidence", "entropy", "disagreement", "seams"]

MIN_MAPPED = 0.05
"""A window of which less is mapped has no doubt: a few pixels at an image's edge are not worth a visit."""

EDGE_LINES = (0, 1, -2, -1)
"""The rows (and columns) of a block that `seams_doubt` looks at: two at each side."""

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]


def confidence_doubt(
    classes: ByteArray, confidence: ByteArray, side_px: int, *, min_mapped: float = MIN_MAPPED
) -> FloatArray:
    """Mean of 1 - p over the mapped pixels of each window, p the top probability."""
    mapped = classes != UNKNOWN
    pixels = window_sums(mapped, side_px)
    return mean_doubt(pixels, window_sums(confidence * mapped, side_px), side_px, min_mapped=min_mapped)


def mean_doubt(
    pixels: npt.NDArray[Any], confidence: npt.NDArray[Any], side_px: int, *, min_mapped: float = MIN_MAPPED
) -> FloatArray:
    """`confidence_doubt` from mapped pixels and their summed confidence 0..255, both of any one shape."""
    return _mean(255.0 * pixels - confidence, pixels, side_px, min_mapped) / 255


def entropy_doubt(
    classes: ByteArray, confidence: ByteArray, side_px: int, class_count: int, *, min_mapped: float = MIN_MAPPED
) -> FloatArray:
    """Mean over the mapped pixels of the largest entropy that the top probability p allows, between 0 and 1.

    The contract hands out the top probability only. What is left, 1 - p, has the largest entropy when the other
    K - 1 classes share it evenly: h(p) + (1 - p) log(K - 1) with h(p) = -p log p - (1 - p) log(1 - p), divided by
    log K. It is Fano's bound, and it depends on p alone: so it weighs pixels otherwise than `confidence_doubt`, but
    knows nothing more. K = `class_count`; with one class there is no doubt.
    """
    mapped = classes != UNKNOWN
    pixels = window_sums(mapped, side_px)
    entropy = np.where(mapped, _largest_entropy(class_count)[confidence], 0.0)
    return _mean(window_sums(entropy, side_px), pixels, side_px, min_mapped)


def disagreement_doubt(
    classes: ByteArray, others: ByteArray, side_px: int, *, min_mapped: float = MIN_MAPPED
) -> FloatArray:
    """Share of pixels, among those that both maps know, to which two models give different class values."""
    both = (classes != UNKNOWN) & (others != UNKNOWN)
    differing = window_sums(both & (classes != others), side_px)
    return _mean(differing, window_sums(both, side_px), side_px, min_mapped)


def seams_doubt(classes: ByteArray, side_px: int, block_px: int, *, min_mapped: float = MIN_MAPPED) -> FloatArray:
    """How much oftener than elsewhere the class changes across the lines where a window meets another block.

    Of the pairs of pixels across those lines, the share that differ, less that share across the parallel lines just
    inside either block: what the land itself does there. Not below 0. NaN for windows that meet no mapped block
    beyond a line.
    """
    rows, cols = edges_of(classes, block_px)
    mapped = mapped_share(classes, side_px)
    doubt = seams_from_edges(rows, cols, side_px, block_px, min_mapped=min_mapped)[: mapped.shape[0], : mapped.shape[1]]
    return np.where(mapped >= min_mapped, doubt, np.nan)


def edges_of(classes: ByteArray, block_px: int) -> tuple[ByteArray, ByteArray]:
    """The outer rows and columns of every block of a map, as `seams_from_edges` takes them."""
    padded = _padded(classes, block_px)
    height, width = padded.shape
    rows = padded.reshape(height // block_px, block_px, width)[:, EDGE_LINES]
    cols = padded.T.reshape(width // block_px, block_px, height)[:, EDGE_LINES]
    return rows, cols


def seams_from_edges(
    rows: ByteArray, cols: ByteArray, side_px: int, block_px: int, *, min_mapped: float = MIN_MAPPED
) -> FloatArray:
    """`seams_doubt` from the blocks' edges alone, which of a large scene are small.

    Args:
        rows: class values of the `EDGE_LINES` of each row of blocks, `(block rows, 4, width)`.
        cols: of each column of blocks, `(block columns, 4, height)`.
        side_px: a divisor of the block's side.
        block_px: width and height are multiples of it.
        min_mapped: share of a window's side that must have mapped pixels on both sides of a line.
    """
    across = _seam_counts(rows, side_px, block_px // side_px) + _seam_counts(
        cols, side_px, block_px // side_px
    ).transpose(0, 2, 1)
    differ, pairs, differ_inside, pairs_inside = across
    enough = (pairs >= max(1.0, min_mapped * side_px)) & (pairs_inside > 0)
    excess = differ / np.maximum(pairs, 1) - differ_inside / np.maximum(pairs_inside, 1)
    return np.where(enough, np.maximum(excess, 0.0), np.nan)


def mapped_share(classes: ByteArray, side_px: int) -> FloatArray:
    """Mapped share of each window's square, also where the square reaches past the map."""
    return window_sums(classes != UNKNOWN, side_px) / side_px**2


def window_sums(values: npt.NDArray[Any], side_px: int) -> FloatArray:
    """Sums of `values` `(height, width)` over windows, `(rows, cols)`; nothing lies past the map's edge."""
    padded = _padded(values, side_px)
    height, width = padded.shape
    sums = padded.reshape(height // side_px, side_px, width // side_px, side_px).sum(axis=(1, 3), dtype=np.float64)
    return np.asarray(sums)


def spread_order(doubt: npt.NDArray[Any], *, radius: float, limit: int | None = None) -> list[tuple[int, int]]:
    """The windows to look at, worst first, spread over the map: (row, col) of at most `limit` windows.

    Greedy: always the window with the largest doubt × (1 - max over those chosen of exp(-d² / 2 r²)), d the distance
    in windows and r the radius. Ties go to the upper, then the left window. Windows whose doubt is NaN are
    never chosen. A radius of 0 is the plain ranking.

    Raises:
        ValueError: doubt or radius is negative.
    """
    if radius < 0 or not math.isfinite(radius):
        raise ValueError(f"the radius is {radius}; give 0 or more")
    if np.nanmin(doubt, initial=0.0) < 0:
        raise ValueError("doubt is never negative")
    known = np.isfinite(doubt)
    count = int(known.sum()) if limit is None else min(limit, int(known.sum()))
    rows, cols = doubt.shape
    if radius == 0:
        order = np.argsort(np.where(known, -doubt, np.inf), axis=None, kind="stable")[:count]
        return [divmod(int(at), cols) for at in order]
    near = np.exp(-(np.arange(max(rows, cols)) ** 2) / (2 * radius**2))
    reach = int(np.count_nonzero(near > np.finfo(np.float64).eps))  # beyond it 1 - near is 1
    freedom = np.ones(doubt.shape)
    score = np.where(known, doubt, -np.inf)
    chosen: list[tuple[int, int]] = []
    for _ in range(count):
        row, col = divmod(int(score.argmax()), cols)
        chosen.append((row, col))
        known[row, col] = False
        top, left = max(0, row - reach), max(0, col - reach)
        around = slice(top, row + reach + 1), slice(left, col + reach + 1)
        down = near[np.abs(np.arange(top, min(rows, row + reach + 1)) - row)]
        right = near[np.abs(np.arange(left, min(cols, col + reach + 1)) - col)]
        freedom[around] = np.minimum(freedom[around], 1 - np.outer(down, right))
        score[around] = np.where(known[around], doubt[around] * freedom[around], -np.inf)
    return chosen


@dataclass(frozen=True, kw_only=True)
class ErrorsFound:
    """What looking at the first windows of an order would find, each as a share of all errors."""

    found: float
    """In the order that was given."""
    random: float
    """To be expected of windows drawn at random."""
    oracle: float
    """In the best order there is, which only who knows the errors can give."""


def errors_found(errors: npt.NDArray[Any], share: float = 0.1) -> ErrorsFound:
    """How many of all errors lie in the first `share` of windows.

    Args:
        errors: erroneous pixels of each window in the order in which windows are looked at, `(windows,)`.
        share: of the windows; a broken number of windows counts the last of them in part.

    Raises:
        ValueError: there are no windows, or no errors to be found.
    """
    total = float(np.sum(errors))
    if total <= 0:
        raise ValueError("there are no errors to be found")
    best = -np.sort(-np.asarray(errors, dtype=np.float64))
    return ErrorsFound(found=_first(errors, share) / total, random=share, oracle=_first(best, share) / total)


def _first(errors: npt.NDArray[Any], share: float) -> float:
    sums = np.concatenate([[0.0], np.cumsum(errors, dtype=np.float64)])
    return float(np.interp(share * len(errors), np.arange(len(sums)), sums))


def _mean(sums: npt.NDArray[Any], pixels: npt.NDArray[Any], side_px: int, min_mapped: float) -> FloatArray:
    enough = pixels >= max(1.0, min_mapped * side_px**2)
    return np.where(enough, sums / np.maximum(pixels, 1), np.nan)


def _largest_entropy(class_count: int) -> FloatArray:
    """By confidence 0..255, `(256,)`. A softmax's top probability is at least 1 / K, whatever rounding says."""
    if class_count < 2:
        return np.zeros(256)
    top = np.maximum(np.arange(256) / 255, 1 / class_count)
    rest = 1 - top
    entropy = -top * np.log(top) - rest * np.log(np.where(rest > 0, rest, 1)) + rest * math.log(class_count - 1)
    return np.asarray(entropy / math.log(class_count))


def _seam_counts(edges: ByteArray, side_px: int, windows: int) -> FloatArray:
    """Differing pairs and pairs across the lines between blocks, and the same just inside, for each window.

    `(4, window rows, window columns)` for `edges` `(blocks, 4, length)`; each line counts for the windows on either
    side of it, `windows` to a block.
    """
    blocks, _, length = edges.shape
    counts = np.zeros((4, blocks * windows, length // side_px))
    first, second, last_but_one, last = (edges[:, line] for line in range(4))
    across = _differing(last[:-1], first[1:], side_px)
    inside = _differing(last_but_one[:-1], last[:-1], side_px) + _differing(first[1:], second[1:], side_px)
    lines = np.concatenate([across, inside])
    counts[:, windows - 1 : -windows : windows] += lines
    counts[:, windows::windows] += lines
    return counts


def _differing(a: ByteArray, b: ByteArray, side_px: int) -> FloatArray:
    """Differing pairs and pairs of mapped pixels, summed along `side_px`: `(2, lines, windows)`."""
    both = (a != UNKNOWN) & (b != UNKNOWN)
    counts = np.stack([both & (a != b), both])
    return np.asarray(counts.reshape(2, len(a), a.shape[1] // side_px, side_px).sum(axis=-1, dtype=np.float64))


def _padded(values: npt.NDArray[Any], side_px: int) -> npt.NDArray[Any]:
    height, width = values.shape
    return np.pad(values, ((0, -height % side_px), (0, -width % side_px)))
