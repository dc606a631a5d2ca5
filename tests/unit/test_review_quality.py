"""How much of all errors a ranking finds: maps whose errors and doubt are laid out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from landcover.errors import InvalidConfiguration
from landcover_export.review_quality import LabelledMap, found_curve, rank_windows, review_quality

SIDE, WINDOWS = 4, 10


def strip(errors: list[int], confidence: list[int], **more: np.ndarray) -> LabelledMap:
    """Ten windows of 4 × 4 px in a row: so many wrong pixels and that confidence in each."""
    classes = np.ones((SIDE, SIDE * WINDOWS), np.uint8)
    label = classes.copy()
    for at, count in enumerate(errors):
        window = label[:, at * SIDE : (at + 1) * SIDE]
        window[np.unravel_index(np.arange(count), window.shape)] = 2
    sure = np.repeat(np.array(confidence, np.uint8), SIDE)[None].repeat(SIDE, axis=0)
    return LabelledMap(classes=classes, confidence=sure, label=label, **more)


def of(qualities: list, measure: str):
    return next(each for each in qualities if each.measure == measure)


def test_share_of_errors_in_the_first_tenth() -> None:
    errors = [0, 8, 0, 0, 12, 0, 0, 0, 0, 0]
    maps = [strip(errors, [250, 90, 250, 250, 200, 250, 250, 250, 250, 250])]
    found = of(review_quality(maps, window_px=SIDE, block_px=SIDE, class_count=8), "confidence")
    assert (found.windows, found.found, found.random, found.oracle) == (10, 0.4, 0.1, 0.6)
    twice = of(review_quality(maps, window_px=SIDE, block_px=SIDE, class_count=8, share=0.2), "confidence")
    assert (twice.found, twice.random, twice.oracle) == (1.0, 0.2, 1.0)
    assert twice.interval[0] <= twice.found <= twice.interval[1]


def test_windows_of_all_maps_are_one_ranking() -> None:
    sure = strip([1] * 10, [250] * 10)
    doubtful = strip([3] * 10, [100] * 10)
    rankings = rank_windows([sure, doubtful], window_px=SIDE, block_px=SIDE, class_count=8)
    assert rankings["confidence"].errors.tolist() == [3.0] * 10 + [1.0] * 10
    assert rankings["entropy"].errors.tolist() == rankings["confidence"].errors.tolist()
    np.testing.assert_allclose(found_curve(rankings["confidence"].errors)[[0, 10, 20]], [0, 0.75, 1])


def test_unlabelled_pixels_are_neither_right_nor_wrong() -> None:
    each = strip([4] * 10, [100] * 10)
    each.label[:, : 5 * SIDE] = 0
    rankings = rank_windows([each], window_px=SIDE, block_px=SIDE, class_count=8)
    assert rankings["confidence"].errors.tolist() == [4.0] * 5


def test_unmapped_windows_come_last_but_their_errors_count() -> None:
    each = strip([4] + [0] * 8 + [2], [0] + [250] * 8 + [200])
    each.classes[:3, :SIDE] = 0  # a quarter is mapped; unknown where the label knows is an error
    rankings = rank_windows([each], window_px=SIDE, block_px=SIDE, class_count=8, min_mapped=0.5)
    assert rankings["confidence"].errors[0] == 2
    assert rankings["confidence"].errors[-1] == 12


def test_disagreement_is_measured_where_there_is_a_second_map() -> None:
    others = np.ones((SIDE, SIDE * WINDOWS), np.uint8)
    others[:, 3 * SIDE : 4 * SIDE] = 5
    maps = [strip([0, 0, 0, 9, 0, 0, 0, 0, 0, 1], [250] * 10, others=others)]
    qualities = review_quality(maps, window_px=SIDE, block_px=SIDE, class_count=8)
    assert of(qualities, "disagreement").found == 0.9
    assert "disagreement" not in rank_windows([strip([1] * 10, [9] * 10)], window_px=4, block_px=4, class_count=8)


@pytest.mark.parametrize("unlabelled", [True, False])
def test_what_cannot_be_measured_is_said(unlabelled: bool) -> None:
    each = strip([0] * 10, [100] * 10)
    if unlabelled:
        each.label[:] = 0
    with pytest.raises(InvalidConfiguration, match="labelled pixel" if unlabelled else "no errors"):
        review_quality([each], window_px=SIDE, block_px=SIDE, class_count=8)
