"""Intervals by resampling windows: how often they hold the truth, and what pairing is worth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from landcover_export.evaluation.bootstrap import intervals, paired_difference
from landcover_export.evaluation.metrics import average_accuracy, class_iou, mean_iou, of_class, overall_accuracy

PIXELS = 100


def windows_of(shares: np.ndarray) -> np.ndarray:
    """Confusions `(windows, 2, 2)` of windows of 100 pixels of one class, of which a share is right."""
    right = np.round(shares * PIXELS).astype(np.int64)
    confusions = np.zeros((len(shares), 2, 2), dtype=np.int64)
    confusions[:, 0, 0], confusions[:, 0, 1] = right, PIXELS - right
    return confusions


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    # Windows of correlated pixels: each has an accuracy of its own, Beta(8, 2), whose mean is 0.8.
    rng = np.random.default_rng(0)
    trials, held, held_by_pixels = 200, 0, 0
    for trial in range(trials):
        confusions = windows_of(rng.beta(8, 2, 40))
        (found,) = intervals(confusions, [overall_accuracy], seed=trial, replicates=400)
        held += found.low <= 0.8 <= found.high
        margin = 1.96 * np.sqrt(found.estimate * (1 - found.estimate) / (40 * PIXELS))
        held_by_pixels += abs(found.estimate - 0.8) <= margin
    assert 0.89 <= held / trials <= 0.985
    assert held_by_pixels / trials < 0.7  # what independent pixels would promise: the reason for all this


def test_against_every_resample_of_five_windows() -> None:
    confusions = windows_of(np.array([0.5, 0.6, 0.7, 0.9, 1.0]))
    every = np.array([confusions[list(drawn)].sum(axis=0) for drawn in product(range(5), repeat=5)])
    low, high = np.quantile(overall_accuracy(every), [0.025, 0.975])
    (found,) = intervals(confusions, [overall_accuracy], replicates=4000)
    assert found.estimate == pytest.approx(0.74)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.021)  # sums come in steps of 0.02


def test_same_seed_same_interval_and_no_matter_what_else_is_asked_for() -> None:
    confusions = windows_of(np.random.default_rng(1).beta(4, 2, 30))
    alone = intervals(confusions, [overall_accuracy], seed=7)
    assert alone == intervals(confusions, [overall_accuracy, average_accuracy], seed=7)[:1]
    assert alone != intervals(confusions, [overall_accuracy], seed=8)


def test_one_window_or_no_resamples_give_no_bounds() -> None:
    confusions = windows_of(np.array([0.5, 0.7]))
    for found in (
        *intervals(confusions[:1], [overall_accuracy]),
        *intervals(confusions, [overall_accuracy], replicates=0),
    ):
        assert np.isfinite(found.estimate)
        assert np.isnan([found.low, found.high]).all()


def test_a_resample_without_a_rare_class_does_not_spoil_the_interval() -> None:
    confusions = np.zeros((6, 2, 2), dtype=np.int64)
    confusions[:, 0, 0] = 10
    confusions[0, 1, 1] = 5  # the only window with class 2
    iou, rare = intervals(confusions, [mean_iou, of_class(class_iou, 1)])
    assert (iou.estimate, iou.low, iou.high) == (1, 1, 1)
    assert (rare.estimate, rare.low, rare.high) == (1, 1, 1)


def test_paired_difference_has_the_sign_of_a_less_b_and_zero_for_the_same() -> None:
    rng = np.random.default_rng(2)
    worse = windows_of(rng.beta(8, 3, 50))
    better = worse.copy()
    better[:, 0, 0] += worse[:, 0, 1] // 4  # a quarter of the errors mended everywhere
    better[:, 0, 1] -= worse[:, 0, 1] // 4
    up, down = paired_difference(better, worse, overall_accuracy), paired_difference(worse, better, overall_accuracy)
    assert 0 < up.low < up.estimate < up.high
    assert up.excludes_zero
    assert (down.estimate, down.low, down.high) == pytest.approx((-up.estimate, -up.high, -up.low))
    same = paired_difference(worse, worse, overall_accuracy)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    assert not same.excludes_zero


def test_pairing_tells_apart_what_two_intervals_cannot() -> None:
    hard = np.random.default_rng(3).uniform(0.3, 0.95, 60)  # windows differ far more than the models do
    a, b = windows_of(hard + 0.03), windows_of(hard)
    ((first,), (second,)) = intervals(a, [overall_accuracy]), intervals(b, [overall_accuracy])
    assert first.low < second.high
    assert paired_difference(a, b, overall_accuracy).low > 0.02


def test_paired_difference_refuses_other_windows() -> None:
    a = windows_of(np.array([0.5, 0.7]))
    with pytest.raises(ValueError, match="different reference pixels"):
        paired_difference(a, a[:1], overall_accuracy)
    with pytest.raises(ValueError, match="different reference pixels"):
        paired_difference(a, a * 2, overall_accuracy)
