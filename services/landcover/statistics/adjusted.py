"""Error-adjusted areas: what a model's own confusion matrix says about the areas counted on its map, with intervals.

From P. Olofsson et al., "Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148, 2014: the estimator, a stratified one whose strata are the map's classes (eq. 9), its standard error
(eq. 10) and the interval of 1.96 standard errors (eq. 11).

Ours, where the contract carries design effects, because its counts are millions of neighbouring pixels and not
independent samples, and because the question is the area in *this* place and not the population's:

* A place of M pixels, m_i of them mapped as class i, truly holds N_j pixels of class j; of these, Σ_i m_i p_ij are
  expected. `landcover evaluate` measures how far the two lie apart in windows of growing size: φ_j(M) is the variance
  of the difference over Σ_i m_i p_ij (1 - p_ij), what independent pixels would have (the dispersion of a
  quasi-multinomial model; for one class of the map it is the design effect of a cluster sample, Cochran, "Sampling
  Techniques", 1977, chapter 9). It also holds what the map's classes get wrong together.
* The place's own error therefore varies by φ_j(M) Σ_i m_i p_ij (1 - p_ij). φ is interpolated between the measured sizes
  on logarithmic axes, from φ(1) = 1, an empirical variance function (Vanmarcke, "Random Fields", 1983, chapter 5).
  Beyond the largest measured size it grows as M: that errors average out over more ground than was measured is not
  known, so the relative error shrinks no further.
* To it is added eq. 10 for the matrix itself, each n_i divided by the largest φ_j.

No variance exceeds that of a place which is wholly right or wholly wrong, p (1 - p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcover.contract import Metrics

FloatArray = npt.NDArray[np.float64]

STANDARD_ERRORS = 1.96
"""Half the width of a 95 % interval of a normal variate."""

FEWEST_SAMPLES = 2
"""Of a class of the map, below which nothing is known of its errors: one sample has no variance."""


@dataclass(frozen=True, kw_only=True)
class Adjusted:
    """Estimated true areas, each array `(classes,)` float64 in the order of the contract's classes.

    The areas sum to the mapped area. Bounds lie between 0 and the mapped area.
    """

    area_m2: FloatArray
    low_m2: FloatArray
    """Lower bound of the 95 % interval."""
    high_m2: FloatArray
    """Upper bound of the 95 % interval."""
    standard_error_m2: FloatArray
    """Of the areas; ground mapped as a class without samples is no part of it, but of the bounds."""


def adjust(pixels: npt.ArrayLike, area_m2: npt.ArrayLike, metrics: Metrics) -> Adjusted | None:
    """True areas by class within one place, estimated from its map and the map's known errors.

    Without design effects in `metrics` the counts of its matrix are taken as independent samples, as in the paper. A
    class of the map of which the matrix holds fewer than two samples is taken as mapped, and the interval says that
    nothing is known of it: all of that ground may be of any class.

    Args:
        pixels: mapped as each class of the contract, `(classes,)`, fractions included, unknown excluded.
        area_m2: their true ground area, `(classes,)`.
        metrics: the contract's; `confusion_matrix` is `[reference][predicted]`.

    Returns:
        None where nothing is mapped, or the matrix is empty.

    Raises:
        ValueError: the arrays have not one finite entry ≥ 0 for each class of the matrix.
    """
    counts = np.array(metrics.confusion_matrix, dtype=np.float64).T  # [mapped][reference], as in the paper
    classes = len(counts)
    mapped_px = _checked(pixels, classes)
    mapped_m2 = _checked(area_m2, classes)
    total_m2 = float(mapped_m2.sum())
    if total_m2 == 0 or not counts.any():
        return None
    samples = counts.sum(axis=1, keepdims=True)
    known = samples[:, 0] >= FEWEST_SAMPLES
    proportions = np.where(known[:, None], counts / np.maximum(samples, 1), np.eye(classes))
    area = mapped_m2 @ proportions
    spread = proportions * (1 - proportions)
    local, sampling = _dispersions(metrics, float(mapped_px.sum()))
    of_matrix = np.minimum(sampling / np.maximum(samples - 1, 1), 1.0)  # [mapped][reference]
    of_place = local / np.maximum(mapped_px[:, None], 1.0)
    variance = ((mapped_m2**2)[:, None] * spread * of_matrix).sum(axis=0)
    variance += np.minimum(((mapped_m2**2)[:, None] * spread * of_place).sum(axis=0), total_m2 * (mapped_m2 @ spread))
    error = np.sqrt(variance)
    unknown_m2 = np.where(known, 0.0, mapped_m2)
    low = area - STANDARD_ERRORS * error - unknown_m2
    high = area + STANDARD_ERRORS * error + (unknown_m2.sum() - unknown_m2)
    return Adjusted(
        area_m2=area,
        low_m2=np.clip(low, 0.0, total_m2),
        high_m2=np.clip(high, 0.0, total_m2),
        standard_error_m2=error,
    )


def _dispersions(metrics: Metrics, place_px: float) -> tuple[FloatArray, FloatArray]:
    """φ_j for the errors of a place of `place_px` and for those of the matrix, `(classes,)` each."""
    classes = len(metrics.confusion_matrix)
    if not metrics.design_effects:
        return np.zeros(classes), np.ones(classes)
    sizes = np.log([1.0, *(each.place_px for each in metrics.design_effects)])
    effects = np.log([[1.0] * classes, *(each.classes for each in metrics.design_effects)])
    size = np.log(max(place_px, 1.0))
    local = np.array([np.interp(size, sizes, of_class) for of_class in effects.T])
    return np.exp(local + max(0.0, size - sizes[-1])), np.exp(effects.max(axis=0))


def _checked(values: npt.ArrayLike, classes: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (classes,) or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"{array} has not one finite number from 0 for each of {classes} classes")
    return array
