"""What an image is put together from: overviews of blocks where there are some, and blocks where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from landcover import block, overview
from landcover.block import HISTOGRAM_FIELD, Layer
from landcover.grid import BlockIndex, Grid
from landcover_api.cover import LandCover
from landcover_api.sampling import Sampling
from landcover_api.state import ApiState

MOST_LOOKED_FOR = 1024
"""Overviews of one scale; where more would be needed, blocks are asked for, and they will be too many."""

Part = tuple[BlockIndex, npt.NDArray[np.uint8]]


@dataclass
class Pieces:
    """The overviews that an image shows, and what it shows beside them."""

    overviews: dict[int, dict[BlockIndex, tuple[bytes, ...]]] = field(default_factory=dict)
    """By scale and index: the field of each layer at the image's level."""
    late: int = 0
    """Overviews that are being read or made."""
    blocks: tuple[BlockIndex, ...] = ()
    """Blocks under the rest of the image."""
    block_count: int = 0
    """How many these are; if far more than are read for one request, they are not named."""

    @property
    def found(self) -> bool:
        """Whether there is any overview."""
        return any(self.overviews.values())

    def parts(self, grid: Grid, level: int, layer: int) -> list[Part]:
        """The arrays of one layer of the overviews.

        Raises:
            BlockDamaged: one holds something else.
        """
        return [
            (index, block.decode(values[layer], grid.block_px >> (level - overview.SCALE_LEVELS * scale)))
            for scale, found in self.overviews.items()
            for index, values in found.items()
        ]


async def find_pieces(
    state: ApiState, cover: LandCover, sampling: Sampling, layers: Sequence[Layer], *, until: float
) -> Pieces:
    """Look for the coarsest overviews first, then below those that are not to be had by `until` (monotonic).

    Raises:
        RedisError: the cache is away.
    """
    grid, level = cover.grid, sampling.level
    pieces = Pieces()
    scale = overview.scale_of(grid, level)
    rest = await state.draw(sampling.squares, _side(grid, level, scale))
    while scale and len(rest) <= MOST_LOOKED_FOR:
        own_level = level - overview.SCALE_LEVELS * scale
        answer = await state.overviews.fetch(cover, scale, rest, own_level, layers, until=until)
        pieces.overviews[scale] = answer.found
        pieces.late += len(answer.late)
        rest = tuple(index for index in rest if index not in answer.found and index not in answer.late)
        if not rest or level - overview.SCALE_LEVELS * (scale - 1) > grid.max_level:
            break  # a pixel of the image would show several of those below
        scale -= 1
        below = await state.draw(sampling.squares, _side(grid, level, scale))
        rest = _inside(below, rest, overview.FANOUT)
    if scale == 0:
        pieces.blocks, pieces.block_count = rest, len(rest)
    elif rest:
        most = state.settings.max_blocks
        pieces.blocks, pieces.block_count = await state.draw(_blocks_below, grid, sampling, rest, scale, most)
    return pieces


def block_fields(grid: Grid, level: int, layers: Sequence[Layer]) -> list[str]:
    """The fields of blocks from which an image at `level` is drawn."""
    return [HISTOGRAM_FIELD] if level > grid.max_level else [block.field(layer, level) for layer in layers]


def block_parts(
    grid: Grid, level: int, layers: Sequence[Layer], layer: int, found: Mapping[BlockIndex, tuple[bytes, ...]]
) -> list[Part]:
    """The arrays of one layer of blocks, from their `block_fields`.

    Raises:
        BlockDamaged: one holds something else.
    """
    if level <= grid.max_level:
        side = grid.block_px >> level
        return [(index, block.decode(values[layer], side)) for index, values in found.items()]
    side = 1 << (level - grid.max_level)  # blocks along each side of a pixel
    sums: dict[BlockIndex, list[block.Histogram]] = {}
    for index, (data,) in found.items():
        at = BlockIndex(index.row // side, index.col // side)
        sums.setdefault(at, []).append(block.decode_histogram(data))
    area = (grid.block_px * side) ** 2
    return [(at, _pixel(counts, area, layers[layer])) for at, counts in sums.items()]


def _pixel(counts: Sequence[block.Histogram], area: int, layer: Layer) -> npt.NDArray[np.uint8]:
    """The pixel `(1, 1)` of several blocks; what is not there, or beyond the scene, is unknown."""
    if layer == "confidence":
        return overview.mean(np.array([[sum(int(each.confidence.sum()) for each in counts)]], np.uint64), area)
    pixels: npt.NDArray[np.uint64] = np.sum([each.pixels for each in counts], axis=0, dtype=np.uint64)
    pixels[0] += np.uint64(area) - pixels.sum()
    return overview.majority(pixels[None, None])


def _blocks_below(
    grid: Grid, sampling: Sampling, rest: Sequence[BlockIndex], scale: int, most: int
) -> tuple[tuple[BlockIndex, ...], int]:
    """The blocks that an image shows of some overviews of `scale`, and how many; more than `most` are not named."""
    level = sampling.level
    if level <= grid.max_level:
        blocks = _inside(sampling.squares(grid.block_px >> level), rest, overview.FANOUT**scale)
        return blocks, len(blocks)
    pixels = _inside(sampling.squares(1), rest, _side(grid, level, scale))
    side = 1 << (level - grid.max_level)  # blocks along each side of a pixel
    if (count := len(pixels) * side * side) > most:
        return (), count
    spread = (BlockIndex(at.row * side + r, at.col * side + c) for at in pixels for r, c in np.ndindex(side, side))
    blocks = tuple(index for index in spread if index in grid)
    return blocks, len(blocks)


def _inside(squares: Sequence[BlockIndex], larger: Sequence[BlockIndex], times: int) -> tuple[BlockIndex, ...]:
    """Those of `squares` that lie in one of `larger`, which are so many `times` their size."""
    within = set(larger)
    return tuple(at for at in squares if BlockIndex(at.row // times, at.col // times) in within)


def _side(grid: Grid, level: int, scale: int) -> int:
    """Side of a block or overview in pixels of the level."""
    return grid.block_px >> (level - overview.SCALE_LEVELS * scale)
