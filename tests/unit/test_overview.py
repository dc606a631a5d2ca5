"""Overviews of blocks against the pyramid of the whole map, put together pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcover import block, overview
from landcover.errors import BlockDamaged
from landcover.grid import BlockIndex
from overview_parts import BLOCK_PX, MAX_LEVEL, MAX_VALUE, blobs, blocks_of, grid_of_size, overviews_of, padded


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [
        pytest.param(128, 128, 1, id="one, full"),
        pytest.param(300, 171, 1, id="several, ragged"),
        pytest.param(1, 700, 1, id="a line"),
        pytest.param(1030, 150, 2, id="two of scale 2, ragged"),
        pytest.param(256, 384, 2, id="a part of one of scale 2"),
    ],
)
def test_an_overview_is_the_pyramid_of_the_whole_map(height: int, width: int, scale: int) -> None:
    grid = grid_of_size(height, width)
    classes, confidence = blobs(height, width, seed=height)
    made = overviews_of(grid, blocks_of(grid, classes, confidence), scale)
    side = BLOCK_PX * 8**scale
    assert set(made) == {BlockIndex(r, c) for r in range(-(-height // side)) for c in range(-(-width // side))}
    for index, fields in made.items():
        window = np.s_[index.row * side : (index.row + 1) * side, index.col * side : (index.col + 1) * side]
        whole, doubt = padded(classes[window], side), padded(confidence[window], side)
        majorities, means = block.majority_pyramid(whole, MAX_VALUE), block.mean_pyramid(doubt)
        assert set(fields) == {"h"} | {f"{letter}{level}" for letter in "cq" for level in range(MAX_LEVEL + 1)}
        for level in range(MAX_LEVEL + 1):
            expected = majorities[level + 3 * scale]
            assert np.array_equal(block.decode(fields[f"c{level}"], len(expected)), expected)
            assert np.array_equal(block.decode(fields[f"q{level}"], len(expected)), means[level + 3 * scale])
        counts, oracle = block.decode_histogram(fields["h"]), block.histogram(whole, doubt, MAX_VALUE)
        assert np.array_equal(counts.pixels, oracle.pixels)
        assert np.array_equal(counts.confidence, oracle.confidence)


@given(st.integers(0, 2**32 - 1), st.integers(1, 140), st.integers(1, 140))
@settings(max_examples=25, deadline=None)
def test_any_map(seed: int, height: int, width: int) -> None:
    grid = grid_of_size(height, width, block_px=8)
    classes, confidence = blobs(height, width, seed)
    scale = overview.top_scale(grid) or 1
    (fields,) = overviews_of(grid, blocks_of(grid, classes, confidence), scale).values()
    expected = block.majority_pyramid(padded(classes, 8 * 8**scale), MAX_VALUE)[3 * scale :]
    assert [block.decode(fields[f"c{level}"], 8 >> level).tolist() for level in range(4)] == [
        level.tolist() for level in expected
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([0, 3, 3, 0], 1, id="tie: the lower value"),
        pytest.param([4, 0, 0, 4], 3, id="tie: a class before unknown"),
        pytest.param([5, 4, 0, 0], 0, id="unknown by majority"),
        pytest.param([0, 1, 2, 3], 3, id="majority"),
        pytest.param([2**40 + 1, 2**40, 0, 0], 0, id="more than 32 bits hold"),
    ],
)
def test_majority_by_hand(counts: list[int], expected: int) -> None:
    assert overview.majority(np.array([[counts]], np.uint64)).tolist() == [[expected]]


@pytest.mark.parametrize(
    ("rows", "cols", "scale", "level"),
    [(1, 1, 0, 9), (8, 8, 1, 9), (9, 1, 2, 9), (40, 40, 2, 11), (65, 65, 3, 12), (513, 600, 4, 15)],
)
def test_how_far_out(rows: int, cols: int, scale: int, level: int) -> None:
    """By hand: 40 blocks of 512 px are 20 480 px; at level 11 they are 10 px, at level 12 five."""
    grid = grid_of_size(rows * 512, cols * 512, block_px=512)
    assert overview.top_scale(grid) == scale
    assert overview.top_level(grid) == level
    top = overview.coarser(grid, scale)
    assert (top.rows, top.cols) == (1, 1)
    assert overview.scale_of(grid, 2) == 0
    assert overview.scale_of(grid, level) == min(scale, level // 3)
    assert level - 3 * overview.scale_of(grid, level) <= grid.max_level


def test_children_are_those_on_the_grid() -> None:
    grid = grid_of_size(9 * 16, 70 * 16)
    assert overview.children(grid, 1, BlockIndex(1, 8)) == [BlockIndex(8, col) for col in range(64, 70)]
    assert overview.children(grid, 2, BlockIndex(0, 1)) == [BlockIndex(row, 8) for row in range(2)]


@pytest.mark.parametrize("damage", ["cut", "other classes", "other size"])
def test_damaged_parts_are_an_error_of_ours(damage: str) -> None:
    fields = block.encode(np.ones((16, 16), np.uint8), np.ones((16, 16), np.uint8), MAX_VALUE)
    if damage == "cut":
        fields["h"] = fields["h"][:-3]
    if damage == "other classes":
        fields["h"] = block.encode(np.ones((16, 16), np.uint8), np.ones((16, 16), np.uint8), 2)["h"]
    if damage == "other size":
        fields["c3"] = fields["c4"]
    index = BlockIndex(0, 0)
    parts = {index: [fields[name] for name in overview.parts_needed(MAX_LEVEL)]}
    with pytest.raises(BlockDamaged):
        overview.combine(parts, index, 1, BLOCK_PX, MAX_VALUE)
