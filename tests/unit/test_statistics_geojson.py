"""Which rings are mended, and which are refused before mending them could take minutes."""

from __future__ import annotations

import numpy as np
import pytest
from shapely import Polygon

from landcover.errors import InvalidRequest
from landcover.statistics.geojson import mended


def beads(count: int) -> Polygon:
    """Diamonds of two by two in a row, drawn in one stroke that touches itself between them."""
    up = [(x, x % 2) for x in range(2 * count + 1)]
    return Polygon([*up, *((x, -y) for x, y in up[-2::-1])])


def test_a_ring_that_touches_itself_often_is_mended() -> None:
    shape, note = mended(beads(2000))
    assert shape.is_valid
    assert shape.area == pytest.approx(2 * 2000)
    assert note is not None and "mended" in note


def test_a_spike_is_cut_off() -> None:
    shape, _ = mended(Polygon([(0, 0), (4, 0), (4, 3), (9, 3), (4, 3), (0, 3)]))
    assert shape.area == 12
    assert shape.bounds == (0, 0, 4, 3)


@pytest.mark.parametrize("vertices", [300, 20_000])
def test_a_tangle_is_refused(vertices: int) -> None:
    """300 vertices at random take `make_valid` more than half a minute."""
    with pytest.raises(InvalidRequest, match="more than one area can be meant"):
        mended(Polygon(np.random.default_rng(0).random((vertices, 2))))


def test_edges_on_top_of_each_other_are_refused() -> None:
    x = np.random.default_rng(0).random(5000)
    with pytest.raises(InvalidRequest, match="more than one area can be meant"):
        mended(Polygon([(0, -1), *zip(x, np.zeros(5000), strict=True), (1, -1)]))


def test_a_ring_drawn_twice_is_refused() -> None:
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    with pytest.raises(InvalidRequest, match="more than one area can be meant"):
        mended(Polygon(square * 2))
