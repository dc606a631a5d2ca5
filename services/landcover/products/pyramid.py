"""The pixels of a product at every level, from its blocks: exact majorities and means, in constant memory.

Tiles are visited as a quadtree, four children before their parent, so that of each level only one tile grows at a
time. Each pixel of a level is the majority (`block.majority_pyramid`) of all the pixels of the full resolution that
it covers, wherever the product's window begins; where it begins at a block's corner, that is what the block itself
has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from landcover import block
from landcover.block import Histogram
from landcover.errors import BlockDamaged, DestinationUnwritable
from landcover.grid import BlockIndex
from landcover.overview import top_level
from landcover.products.cog_file import TILE_PX, Level
from landcover.products.spec import ProductSpec
from landcover.products.spool import Spool

Pixels: TypeAlias = npt.NDArray[np.uint8]
Sink: TypeAlias = Callable[[int, int, int, Pixels, Pixels], None]
"""Takes level, row, column, classes and confidence of a tile, both `(TILE_PX, TILE_PX)` and only good for the call."""

_TILE_LEVELS = TILE_PX.bit_length() - 1
"""At this level a tile of the full resolution is one pixel."""

_CACHE_BYTES = 32 << 20
_EMPTY: Pixels = np.zeros((TILE_PX, TILE_PX), np.uint8)


def levels_of(spec: ProductSpec) -> list[Level]:
    """Sizes of the full resolution and of each overview.

    They go on until all is in one tile, and at least to the coarsest level that is drawn, so that the product has what
    its blocks and their overviews have.
    """
    width, height = spec.area.width_px, spec.area.height_px
    levels = [Level(width_px=width, height_px=height)]
    while max(width, height) > TILE_PX or (len(levels) <= top_level(spec.grid) and max(width, height) > 1):
        width, height = -(-width // 2), -(-height // 2)
        levels.append(Level(width_px=width, height_px=height))
    return levels


class WindowTiles:
    """Tiles of the full resolution, counted from the corner of a product's window, put together from its spool."""

    def __init__(self, spec: ProductSpec, spool: Spool, *, confidence: bool) -> None:
        self._spec = spec
        self._spool = spool
        fields = [block.field("class", 0), *([block.field("confidence", 0)] if confidence else [])]
        self._fields = fields
        held = len(fields) * spec.grid.block_px**2
        self._block = lru_cache(maxsize=max(4, _CACHE_BYTES // held))(self._read)

    def read(self, row: int, col: int) -> tuple[Pixels, ...] | None:
        """Classes, and confidence if it was asked for; 0 outside the product. None if nothing of it is mapped.

        Raises:
            DestinationUnwritable: the spool is damaged.
        """
        area, side = self._spec.area, self._spec.grid.block_px
        top, left = area.row_px + row * TILE_PX, area.col_px + col * TILE_PX
        bottom = min(top + TILE_PX, area.row_px + area.height_px)
        right = min(left + TILE_PX, area.col_px + area.width_px)
        layers = np.zeros((len(self._fields), TILE_PX, TILE_PX), np.uint8)
        for block_row in range(top // side, -(-bottom // side)):
            for block_col in range(left // side, -(-right // side)):
                found = self._block(BlockIndex(block_row, block_col))
                if found is None:
                    continue
                rows = slice(max(top, block_row * side), min(bottom, (block_row + 1) * side))
                cols = slice(max(left, block_col * side), min(right, (block_col + 1) * side))
                layers[:, _moved(rows, top), _moved(cols, left)] = found[
                    :, _moved(rows, block_row * side), _moved(cols, block_col * side)
                ]
        return tuple(layers) if layers[0].any() else None

    def _read(self, index: BlockIndex) -> Pixels | None:
        """A block's layers, `(layers, block, block)`, 0 where they are not of the product; None if it is a hole."""
        grid = self._spec.grid
        fields = self._spool.get(index, self._fields)
        if fields is None:
            return None
        try:
            layers = np.stack([block.decode(data, grid.block_px) for data in fields])
        except BlockDamaged as error:
            raise DestinationUnwritable(
                f"{self._spool.path} is damaged at block {index.row}/{index.col}; delete it and begin anew."
            ) from error
        inside = self._spec.area.inside(grid, index)
        return layers if inside is None else layers * inside


@dataclass
class _Growing:
    """A tile of an overview, of which some is there."""

    classes: Pixels
    confidence: Pixels


def build_pyramid(
    tiles: WindowTiles, levels: list[Level], max_value: int, sink: Sink, on_progress: Callable[[float], None]
) -> Histogram:
    """Give every tile of every level to `sink`, and return the count of all pixels.

    Args:
        tiles: the full resolution.
        levels: as `levels_of` has them; the last is one tile.
        max_value: the largest class value.
        sink: called once for each tile, a parent after its children.
        on_progress: told the share of the tiles of the full resolution that are done.
    """
    return _Pyramid(tiles, levels, max_value, sink, on_progress).run()


class _Pyramid:
    def __init__(
        self,
        tiles: WindowTiles,
        levels: list[Level],
        max_value: int,
        sink: Sink,
        on_progress: Callable[[float], None],
    ) -> None:
        self._tiles = tiles
        self._levels = levels
        self._max_value = max_value
        self._sink = sink
        self._on_progress = on_progress
        self._values = np.roll(np.arange(max_value + 1, dtype=np.uint8), -1)
        self._growing = [_Growing(*np.zeros((2, TILE_PX, TILE_PX), np.uint8)) for _ in levels]
        self._done = 0

    def run(self) -> Histogram:
        return self._visit(len(self._levels) - 1, 0, 0)

    def _visit(self, level: int, row: int, col: int) -> Histogram:
        """Finish a tile, and count the pixels under it."""
        rows, cols = self._levels[level].tiles
        total = self._none()
        if row >= rows or col >= cols:
            return total
        if level == 0:
            total = self._bottom(row, col)
        else:
            growing = self._growing[level]
            growing.classes[:], growing.confidence[:] = 0, 0
            for child in ((0, 0), (0, 1), (1, 0), (1, 1)):
                part = self._visit(level - 1, 2 * row + child[0], 2 * col + child[1])
                total = Histogram(pixels=total.pixels + part.pixels, confidence=total.confidence + part.confidence)
            self._sink(level, row, col, growing.classes, growing.confidence)
        self._add_pixel(level + _TILE_LEVELS, row, col, total, 4 ** (level + _TILE_LEVELS))
        return total

    def _bottom(self, row: int, col: int) -> Histogram:
        found = self._tiles.read(row, col)
        self._done += 1
        rows, cols = self._levels[0].tiles
        self._on_progress(self._done / (rows * cols))
        if found is None:
            self._sink(0, row, col, _EMPTY, _EMPTY)
            return self._none()
        classes, confidence = found[0], found[1] if len(found) > 1 else _EMPTY
        self._sink(0, row, col, classes, confidence)
        for level, (majority, mean) in enumerate(
            zip(block.majority_pyramid(classes, self._max_value), block.mean_pyramid(confidence), strict=True)
        ):
            if 0 < level < min(_TILE_LEVELS, len(self._levels)):
                side = TILE_PX >> level
                top, left = row * side % TILE_PX, col * side % TILE_PX
                place = slice(top, top + side), slice(left, left + side)
                self._growing[level].classes[place] = majority
                self._growing[level].confidence[place] = mean
        return block.histogram(classes, confidence, self._max_value)

    def _add_pixel(self, level: int, row: int, col: int, counts: Histogram, area: int) -> None:
        """Set the one pixel of `level` that covers what was counted."""
        if level >= len(self._levels):
            return
        pixels = counts.pixels.copy()
        pixels[0] = area - pixels[1:].sum()
        place = row % TILE_PX, col % TILE_PX
        growing = self._growing[level]
        growing.classes[place] = self._values[pixels[self._values].argmax()]
        growing.confidence[place] = (int(counts.confidence.sum()) + area // 2) // area

    def _none(self) -> Histogram:
        return Histogram(
            pixels=np.zeros(self._max_value + 1, np.uint64), confidence=np.zeros(self._max_value + 1, np.uint64)
        )


def _moved(span: slice, origin: int) -> slice:
    return slice(span.start - origin, span.stop - origin)
