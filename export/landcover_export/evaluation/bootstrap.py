"""How far a figure would move on another sample of the same ground: intervals by resampling windows.

Neighbouring pixels are not independent, so windows are drawn, with replacement, each with all of its pixels: the
cluster bootstrap (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8; Field and Welsh,
"Bootstrapping clustered data", JRSS B 69, 2007). Intervals are percentile intervals (Efron, 1979). Resampling pixels
instead would make them many times too narrow.

A resample may lack a rare class; its means are then over the classes that it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from landcover_export.evaluation.metrics import Confusions, FloatArray, Statistic

LEVEL = 0.95
REPLICATES = 1000
FEW_WINDOWS = 20
"""With fewer, percentile intervals are known to be too narrow; reports say so."""

_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its interval; the bounds are NaN where there are fewer than two windows."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Of a difference: the sample tells the two apart."""
        return self.low > 0 or self.high < 0


def intervals(
    confusions: Confusions,
    statistics: Sequence[Statistic],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> list[Estimate]:
    """`statistics` of all windows together, each with its interval.

    Args:
        confusions: pixels `(windows, classes, classes)`, `[window][reference][predicted]`.
        statistics: from matrices `(…, classes, classes)` to `(…)`; all are computed from the same resamples.
        seed: of the resampling.
        replicates: number of resamples; with 0 there are no bounds.
        level: share of the resamples that lies within the bounds.
    """
    pooled = confusions.sum(axis=0)
    samples: list[list[FloatArray]] = [[] for _ in statistics]
    for weights in _weights(len(confusions), seed, replicates):
        resampled = _resampled(weights, confusions)
        for kept, statistic in zip(samples, statistics, strict=True):
            kept.append(statistic(resampled))
    return [
        _estimate(float(statistic(pooled)), kept, level) for statistic, kept in zip(statistics, samples, strict=True)
    ]


def paired_difference(
    a: Confusions,
    b: Confusions,
    statistic: Statistic,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Estimate:
    """`statistic(a) - statistic(b)`, with the interval of the difference.

    Every resample draws the same windows for both models: what is hard about a window is hard for both and cancels,
    so that the interval is narrower than two separate ones suggest.

    Args:
        a: pixels `(windows, classes, classes)` of one model.
        b: of the other, over the same windows and classes.
        statistic: from matrices `(…, classes, classes)` to `(…)`.
        seed: of the resampling.
        replicates: number of resamples; with 0 there are no bounds.
        level: share of the resamples that lies within the bounds.

    Raises:
        ValueError: the windows are not the same.
    """
    if a.shape != b.shape or not np.array_equal(a.sum(axis=2), b.sum(axis=2)):
        raise ValueError("a and b count different reference pixels; a paired difference needs the same windows")
    samples = [
        statistic(_resampled(weights, a)) - statistic(_resampled(weights, b))
        for weights in _weights(len(a), seed, replicates)
    ]
    return _estimate(float(statistic(a.sum(axis=0)) - statistic(b.sum(axis=0))), samples, level)


def _weights(windows: int, seed: int, replicates: int) -> Iterator[FloatArray]:
    """How often each resample holds each window, `(resamples, windows)`, some resamples at a time."""
    if windows < 2:
        return
    rng = np.random.default_rng(seed)
    for start in range(0, replicates, _CHUNK):
        size = min(_CHUNK, replicates - start)
        yield rng.multinomial(windows, np.full(windows, 1 / windows), size=size).astype(np.float64)


def _resampled(weights: FloatArray, confusions: Confusions) -> FloatArray:
    """Pooled matrices `(resamples, classes, classes)`; float64 counts pixels exactly up to 9e15."""
    flat = confusions.reshape(len(confusions), -1).astype(np.float64)
    return np.asarray((weights @ flat).reshape(-1, *confusions.shape[1:]))


def _estimate(estimate: float, samples: Sequence[FloatArray], level: float) -> Estimate:
    values = np.concatenate(samples) if samples else np.zeros(0)
    values = values[np.isfinite(values)]
    if not values.size:
        return Estimate(estimate=estimate, low=float("nan"), high=float("nan"))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(estimate=estimate, low=float(low), high=float(high))
