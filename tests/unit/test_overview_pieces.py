"""Pictures whose pixels show several blocks: from blocks' histograms the same as from overviews."""

from __future__ import annotations

import numpy as np
import pytest

from landcover import block, overview
from landcover.grid import BlockIndex
from landcover_api.pieces import Pieces, block_fields, block_parts
from landcover_api.sampling import Extent, sample
from overview_parts import MAX_VALUE, blobs, blocks_of, grid_of_size, overviews_of


@pytest.fixture(scope="module")
def made() -> tuple:
    """A grid of 17 × 19 blocks of 8 px, ragged, and its blocks."""
    grid = grid_of_size(133, 147, block_px=8)
    return grid, blocks_of(grid, *blobs(133, 147, seed=9))


@pytest.mark.parametrize("level", [0, 2, 3, 4])
def test_blocks_and_overviews_give_the_same_pixels(made: tuple, level: int) -> None:
    """Level 4 is the first at which a pixel shows several blocks of 8 px."""
    grid, blocks = made
    assert overview.top_level(grid) == 4
    layers = ("class", "confidence")
    names = block_fields(grid, level, layers)
    found = {index: tuple(fields[name] for name in names) for index, fields in blocks.items()}
    scale = level // 3
    side = 8 >> (level - 3 * scale)
    x, y = grid.transform @ (0, 0)
    image_side = 19 * 8 >> level
    span = 0.5 * image_side * (1 << level)
    extent = Extent(
        crs=grid.crs, xmin=x, ymin=y - span, xmax=x + span, ymax=y, width_px=image_side, height_px=image_side
    )
    sampling = sample(grid, extent)
    assert sampling.level == level
    for number, letter in enumerate("cq"):
        image = sampling.assemble(block_parts(grid, level, layers, number, found))
        assert image.any()
        if scale == 0:
            continue
        above = overviews_of(grid, blocks, scale)
        values = {
            index: tuple(fields[f"{each}{level - 3 * scale}"] for each in "cq") for index, fields in above.items()
        }
        pieces = Pieces(overviews={scale: values})
        assert np.array_equal(sampling.assemble(pieces.parts(grid, level, number)), image)
        assert block.decode(above[BlockIndex(0, 0)][f"{letter}{level - 3 * scale}"], side).shape == (side, side)


def test_missing_blocks_count_as_unknown(made: tuple) -> None:
    """Of four blocks under a pixel one is there, all of class 3: a quarter is a minority."""
    grid, _ = made
    data = block.encode(np.full((8, 8), 3, np.uint8), np.full((8, 8), 200, np.uint8), MAX_VALUE)["h"]
    found = {BlockIndex(2, 4): (data,)}
    assert [(at, part.tolist()) for at, part in block_parts(grid, 4, ("class",), 0, found)] == [
        (BlockIndex(1, 2), [[0]])
    ]
    found |= {BlockIndex(3, 5): (data,)}  # half is a tie, and goes to the class
    assert block_parts(grid, 4, ("class",), 0, found)[0][1].tolist() == [[3]]
    assert block_parts(grid, 4, ("class", "confidence"), 1, found)[0][1].tolist() == [[100]]
