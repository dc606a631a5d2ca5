"""Doubt of windows and their order: arrays small enough to be worked out by hand, and oracles of a few lines."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover import review
from landcover.review import spread_order

NAN = math.nan


def bytes_of(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


CLASSES = bytes_of([1, 1, 2, 2], [1, 2, 2, 0], [3, 0, 0, 0], [0, 0, 0, 0])
CONFIDENCE = bytes_of([255, 204, 153, 102], [51, 255, 255, 0], [102, 0, 0, 0], [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("side", "min_mapped", "expected"),
    [
        # 1 - p: (0 + .2 + .8 + 0) / 4, (.4 + .6 + 0) / 3 of the mapped three, .6 of the one, nothing mapped
        (2, 0.0, [[0.25, 1 / 3], [0.6, NAN]]),
        (2, 0.25, [[0.25, 1 / 3], [0.6, NAN]]),
        (2, 0.26, [[0.25, 1 / 3], [NAN, NAN]]),
        (4, 0.05, [[2.6 / 8]]),
    ],
)
def test_confidence_is_the_mean_of_what_is_left_of_one(side: int, min_mapped: float, expected: list) -> None:
    found = review.confidence_doubt(CLASSES, CONFIDENCE, side, min_mapped=min_mapped)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_windows_past_the_edge_count_against_their_whole_square() -> None:
    classes = np.ones((3, 5), np.uint8)  # windows of 4: the second column holds 3 of 16 pixels
    confidence = np.full((3, 5), 51, np.uint8)
    np.testing.assert_allclose(review.confidence_doubt(classes, confidence, 4, min_mapped=3 / 16), [[0.8, 0.8]])
    np.testing.assert_allclose(review.confidence_doubt(classes, confidence, 4, min_mapped=0.19), [[0.8, NAN]])


@pytest.mark.parametrize(
    ("confidence", "classes", "expected"),
    [
        (255, 8, 0.0),
        (0, 8, 1.0),  # less than 1 / K, which only rounding can give
        (51, 5, 1.0),  # 1 / 5: all five classes alike
        # p = 0.8, K = 2: the other has 0.2 for certain, so that the bound is the entropy itself
        (204, 2, -(0.8 * math.log2(0.8) + 0.2 * math.log2(0.2))),
        # p = 0.4, K = 4: the others have 0.2 each
        (102, 4, -(0.4 * math.log(0.4) + 3 * 0.2 * math.log(0.2)) / math.log(4)),
        (100, 1, 0.0),
    ],
)
def test_entropy_is_the_largest_that_the_top_probability_allows(confidence: int, classes: int, expected: float) -> None:
    found = review.entropy_doubt(np.ones((2, 2), np.uint8), np.full((2, 2), confidence, np.uint8), 2, classes)
    assert found[0, 0] == pytest.approx(expected, abs=1e-12)


def test_entropy_leaves_out_unknown_pixels() -> None:
    found = review.entropy_doubt(bytes_of([1, 0], [0, 0]), bytes_of([0, 255], [255, 255]), 2, 8)
    assert found.tolist() == [[1.0]]


def test_disagreement_is_by_class_value_where_both_know() -> None:
    ours, theirs = bytes_of([1, 2, 1, 0], [3, 4, 0, 0]), bytes_of([1, 3, 0, 5], [4, 4, 2, 0])
    np.testing.assert_allclose(review.disagreement_doubt(ours, theirs, 2), [[0.5, NAN]])


def test_a_step_at_the_line_between_blocks_is_a_seam() -> None:
    classes = np.ones((4, 8), np.uint8)
    classes[:2, 4:] = 2  # differs from its neighbour across the line in the upper half, nowhere else
    np.testing.assert_allclose(review.seams_doubt(classes, 4, 4), [[0.5, 0.5]])
    np.testing.assert_allclose(
        review.seams_doubt(classes, 2, 4), [[NAN, 1, 1, NAN], [NAN, 0, 0, NAN]], err_msg="windows inside blocks"
    )


def test_what_the_land_does_beside_the_line_is_no_seam() -> None:
    stripes = np.tile(bytes_of([1, 2]), (4, 4))  # the class changes at every pixel
    np.testing.assert_allclose(review.seams_doubt(stripes, 4, 4), [[0, 0]])
    classes = np.ones((4, 8), np.uint8)
    classes[:, 5:] = 2  # an edge of the land one pixel beside the line: fewer changes across it than inside
    np.testing.assert_allclose(review.seams_doubt(classes, 4, 4), [[0, 0]])
    classes[:, 4] = 3  # and a line of its own: all differ across, half of those inside (first | second, not last)
    np.testing.assert_allclose(review.seams_doubt(classes, 4, 4), [[0.5, 0.5]])


def test_seams_need_mapped_neighbours() -> None:
    classes = np.ones((8, 8), np.uint8)
    classes[:4, 4:] = 0
    classes[4:] = 2
    # upper left meets the lower left only; upper right is unmapped; lower right meets the lower left: no change
    np.testing.assert_allclose(review.seams_doubt(classes, 4, 4), [[1, NAN], [0.5, 0]])
    assert np.isnan(review.seams_doubt(np.ones((4, 4), np.uint8), 4, 4)).all()


def seams_by_pixel(classes: np.ndarray, side: int, block: int) -> np.ndarray:
    """The same figure, pair by pair."""
    height, width = classes.shape
    doubt = np.full((-(-height // side), -(-width // side)), np.nan)
    for row, col in np.ndindex(doubt.shape):
        pairs: dict[str, list[bool]] = {"across": [], "inside": []}
        lines = [  # (is a line between blocks here?, its first pixel, along which axis)
            (col * side % block == 0 and col, col * side, 1),
            ((col + 1) * side % block == 0 and (col + 1) * side < width, (col + 1) * side, 1),
            (row * side % block == 0 and row, row * side, 0),
            ((row + 1) * side % block == 0 and (row + 1) * side < height, (row + 1) * side, 0),
        ]
        for is_line, first, axis in lines:
            along = range(*((row if axis else col) * side + np.array([0, side])))
            for name, offset in (("across", 0), ("inside", -1), ("inside", 1)) if is_line else ():
                for at in along:
                    a, b = first + offset - 1, first + offset
                    place = [(at, a), (at, b)] if axis else [(a, at), (b, at)]
                    if all(0 <= y < height and 0 <= x < width and classes[y, x] for y, x in place):
                        pairs[name].append(classes[place[0]] != classes[place[1]])
        if pairs["across"] and pairs["inside"]:
            doubt[row, col] = max(0.0, float(np.mean(pairs["across"]) - np.mean(pairs["inside"])))
    return doubt


@pytest.mark.parametrize(("side", "block"), [(4, 4), (2, 4), (1, 4), (4, 8), (8, 8)])
def test_seams_pair_by_pair(side: int, block: int) -> None:
    classes = np.random.default_rng(side).integers(1, 4, (24, 16)).astype(np.uint8)
    found = review.seams_doubt(classes, side, block, min_mapped=0)
    np.testing.assert_allclose(found, seams_by_pixel(classes, side, block))
    assert np.isfinite(found).any()


def order_by_definition(doubt: np.ndarray, radius: float, limit: int | None) -> list[tuple[int, int]]:
    places = [place for place in np.ndindex(doubt.shape) if not math.isnan(doubt[place])]
    chosen: list[tuple[int, int]] = []
    while places and len(chosen) != limit:

        def score(place: tuple[int, int]) -> float:
            near = [
                math.exp(-((place[0] - r) ** 2 + (place[1] - c) ** 2) / (2 * radius**2)) if radius else 0.0
                for r, c in chosen
            ]
            return doubt[place] * (1 - max(near, default=0.0))

        best = max(places, key=lambda place: (round(score(place), 12), -place[0], -place[1]))
        chosen.append(best)
        places.remove(best)
    return chosen


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    radius=st.sampled_from([0.0, 0.3, 1.0, 2.5, 50.0]),
    limit=st.none() | st.integers(0, 60),
)
def test_order_is_the_greedy_one(seed: int, shape: tuple[int, int], radius: float, limit: int | None) -> None:
    rng = np.random.default_rng(seed)
    doubt = rng.random(shape)
    doubt[rng.random(shape) < 0.2] = np.nan
    assert spread_order(doubt, radius=radius, limit=limit) == order_by_definition(doubt, radius, limit)


def test_ties_go_by_row_and_column() -> None:
    assert spread_order(np.ones((2, 2)), radius=0, limit=3) == [(0, 0), (0, 1), (1, 0)]
    assert spread_order(np.ones((3, 3)), radius=1, limit=2) == [(0, 0), (2, 2)]
    assert spread_order(np.zeros((2, 2)), radius=1, limit=9) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_spreading_keeps_from_a_cluster() -> None:
    doubt = np.full((1, 9), 0.1)
    doubt[0, :3] = 0.9, 0.8, 0.7
    doubt[0, 8] = 0.5
    assert spread_order(doubt, radius=0, limit=3) == [(0, 0), (0, 1), (0, 2)]
    assert spread_order(doubt, radius=2, limit=3) == [(0, 0), (0, 8), (0, 2)]


@pytest.mark.parametrize("doubt", [np.full((2, 3), np.nan), np.empty((0, 0)), np.empty((0, 4))])
@pytest.mark.parametrize("radius", [0.0, 2.0])
def test_where_there_is_no_doubt_nothing_is_chosen(doubt: np.ndarray, radius: float) -> None:
    assert spread_order(doubt, radius=radius, limit=5) == []


@pytest.mark.parametrize(("doubt", "radius"), [([[-0.1]], 1), ([[0.1]], -1), ([[0.1]], NAN), ([[0.1]], math.inf)])
def test_negative_doubt_and_radius_are_refused(doubt: list, radius: float) -> None:
    with pytest.raises(ValueError, match=r"doubt|radius"):
        spread_order(np.array(doubt), radius=radius, limit=1)


def test_errors_found_in_the_first_windows() -> None:
    errors = [4, 0, 6, 0, 0, 10, 0, 0, 0, 0]
    found = review.errors_found(np.array(errors), share=0.1)
    assert (found.found, found.random, found.oracle) == (0.2, 0.1, 0.5)
    found = review.errors_found(np.array(errors), share=0.25)  # two windows and half of the third
    assert (found.found, found.random, found.oracle) == (0.35, 0.25, 0.9)
    with pytest.raises(ValueError, match="no errors"):
        review.errors_found(np.zeros(3))
