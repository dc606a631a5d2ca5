"""Shares of pixels: against hand-made tables, against each pixel's intersection, and in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon

from landcover.statistics.coverage import coverage

BY_HAND = {
    "a pixel": (shapely.box(1, 0, 2, 1), [[0, 1, 0], [0, 0, 0]]),
    "a quarter of each": (shapely.box(0.5, 0.5, 1.5, 1.5), [[0.25, 0.25, 0], [0.25, 0.25, 0]]),
    "a diagonal through corners": (Polygon([(0, 0), (2, 2), (0, 2)]), [[0.5, 0, 0], [1, 0.5, 0]]),
    "a sliver": (shapely.box(0, 0.25, 3, 0.375), [[0.125, 0.125, 0.125], [0, 0, 0]]),
    "a hole": (shapely.box(0, 0, 3, 2).difference(shapely.box(1, 0.5, 2, 1)), [[1, 0.5, 1], [1, 1, 1]]),
    "all of it": (shapely.box(0, 0, 3, 2), [[1, 1, 1], [1, 1, 1]]),
    "parts in one pixel": (
        MultiPolygon([shapely.box(0, 0, 0.5, 0.5), shapely.box(0.5, 0.5, 1, 1)]),
        [[0.5, 0, 0], [0, 0, 0]],
    ),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str, turned: bool) -> None:
    shape, expected = BY_HAND[name]
    assert coverage(shape.reverse() if turned else shape, 3, 2) == pytest.approx(np.array(expected), abs=1e-15)


@given(
    st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.integers(3, 30), st.sampled_from([0.2, 3, 30]),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_polygon(seed: int, width: int, height: int, points: int, radius: float, whole: bool) -> None:
    """Each pixel's share is the area of its intersection; vertices may lie on pixels' corners."""
    rng = np.random.default_rng(seed)
    turns = np.sort(rng.uniform(0, 2 * np.pi, points))
    ring = rng.uniform(0, [width, height]) + radius * rng.uniform(0.2, 1, (points, 1)) * np.column_stack(
        [np.cos(turns), np.sin(turns)]
    )
    drawn = shapely.make_valid(Polygon(np.round(ring) if whole else ring))
    inside = shapely.intersection(drawn, shapely.box(0, 0, width, height))
    parts = [each for each in shapely.get_parts(shapely.get_parts(inside)) if each.geom_type == "Polygon"]
    cols, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = shapely.box(cols, rows, cols + 1, rows + 1)
    expected = shapely.area(shapely.intersection(pixels, MultiPolygon(parts)))
    assert coverage(MultiPolygon(parts), width, height) == pytest.approx(expected, abs=1e-12)


def test_many_long_edges_are_cut_some_at_a_time() -> None:
    """Two million pieces at 100 bytes or so would be 200 MB at once."""
    x = np.linspace(0, 512, 4001)
    saw = np.column_stack([x, np.where(np.arange(4001) % 2, 512, 1)])
    shape = Polygon(np.vstack([saw, [(512, 0), (0, 0)]]))
    tracemalloc.start()
    try:
        shares = coverage(shape, 512, 512)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shares.sum() == pytest.approx(shape.area, rel=1e-12)
    assert peak < 120e6


def test_very_many_holes() -> None:
    cols, rows = np.meshgrid(np.arange(100), np.arange(100))
    holes = shapely.box(cols + 0.25, rows + 0.25, cols + 0.75, rows + 0.75).ravel()
    shape = Polygon(shapely.box(0, 0, 100, 100).exterior, [hole.exterior for hole in holes])
    assert coverage(shape, 100, 100) == pytest.approx(np.full((100, 100), 0.75), abs=1e-12)
