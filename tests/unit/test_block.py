"""Blocks as they are stored: overviews and histograms against counting pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from landcover import block
from landcover.errors import LandcoverError

MAX_VALUE = 4


def most_frequent(values: np.ndarray) -> int:
    """Ties go to the lower class, and to any class before unknown."""
    counts = {value: int((values == value).sum()) for value in (*range(1, MAX_VALUE + 1), 0)}
    return max(counts, key=lambda value: counts[value])  # the first of equals


def class_maps(side: int) -> st.SearchStrategy[np.ndarray]:
    return nps.arrays(np.uint8, (side, side), elements=st.integers(0, MAX_VALUE))


@given(class_maps(16))
def test_majority_counts_every_full_resolution_pixel(classes: np.ndarray) -> None:
    levels = block.majority_pyramid(classes, MAX_VALUE)
    assert [level.shape for level in levels] == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    for level, found in enumerate(levels):
        side = 1 << level
        for (row, col), value in np.ndenumerate(found):
            cell = classes[row * side : (row + 1) * side, col * side : (col + 1) * side]
            assert value == most_frequent(cell)


def test_majority_of_more_pixels_than_a_byte_counts() -> None:
    """513 of 1024 pixels: at 32 × 32 a count of uint8 would have gone round twice."""
    classes = np.full((32, 32), 1, np.uint8)
    classes.ravel()[:513] = 3
    assert block.majority_pyramid(classes, MAX_VALUE)[-1].tolist() == [[3]]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        pytest.param([[1, 2], [2, 1]], 1, id="tie: the lower value"),
        pytest.param([[0, 0], [4, 4]], 4, id="tie: a class before unknown"),
        pytest.param([[0, 0], [0, 4]], 0, id="unknown by majority"),
        pytest.param([[0, 3], [2, 3]], 3, id="majority"),
    ],
)
def test_majority_by_hand(pixels: list[list[int]], expected: int) -> None:
    assert block.majority_pyramid(np.array(pixels, np.uint8), MAX_VALUE)[1].tolist() == [[expected]]


def test_a_minority_does_not_win_by_levels() -> None:
    """Three of four quarters are ties, which go to 1; yet 1 has only 6 pixels of 16."""
    classes = np.array([[1, 1, 1, 1], [3, 3, 3, 3], [1, 1, 3, 3], [3, 3, 3, 3]], np.uint8)
    levels = block.majority_pyramid(classes, MAX_VALUE)
    assert levels[1].tolist() == [[1, 1], [1, 3]]
    assert levels[2].tolist() == [[3]]


@given(nps.arrays(np.uint8, (8, 8)))
def test_mean_pyramid_rounds_the_mean_of_full_resolution(confidence: np.ndarray) -> None:
    for level, found in enumerate(block.mean_pyramid(confidence)):
        side = 1 << level
        cells = confidence.reshape(8 // side, side, 8 // side, side).astype(float)
        assert found.tolist() == np.floor(cells.mean(axis=(1, 3)) + 0.5).tolist()


@given(class_maps(8), nps.arrays(np.uint8, (8, 8)))
def test_encode_and_back(classes: np.ndarray, confidence: np.ndarray) -> None:
    fields = block.encode(classes, confidence, MAX_VALUE)
    assert set(fields) == {block.HISTOGRAM_FIELD, block.JOINT_FIELD} | {
        block.field(layer, level) for layer in ("class", "confidence") for level in range(4)
    }
    assert np.array_equal(block.decode(fields[block.field("class", 0)], 8), classes)
    assert np.array_equal(block.decode(fields[block.field("confidence", 0)], 8), confidence)
    assert block.decode(fields[block.field("class", 3)], 1).tolist() == [[most_frequent(classes)]]
    counts = block.decode_histogram(fields[block.HISTOGRAM_FIELD])
    for value in range(MAX_VALUE + 1):
        assert counts.pixels[value] == (classes == value).sum()
        assert counts.confidence[value] == confidence[classes == value].sum(dtype=int)
    joint = block.decode_joint_histogram(fields[block.JOINT_FIELD])
    for value, sure in zip(classes.ravel(), confidence.ravel(), strict=True):
        assert joint[value, sure] == ((classes == value) & (confidence == sure)).sum()
    assert joint.sum() == classes.size


@pytest.mark.parametrize(
    ("damage", "side"),
    [
        pytest.param(lambda data: data[:-3], 8, id="cut short"),
        pytest.param(lambda data: b"", 8, id="empty"),
        pytest.param(lambda data: b"no zstd", 8, id="something else"),
        pytest.param(lambda data: data, 16, id="another size"),
        pytest.param(lambda data: data, 4, id="larger than asked for"),
    ],
)
def test_damaged_bytes_are_an_error_of_ours(damage: object, side: int) -> None:
    data = block.encode(np.ones((8, 8), np.uint8), np.ones((8, 8), np.uint8), 1)[block.field("class", 0)]
    with pytest.raises(LandcoverError, match="damaged"):
        block.decode(damage(data), side)  # type: ignore[operator]
