"""Counting regions from the cache: block by block, each once for all regions, in memory that does not grow with them.

What lies inside altogether is summed from histograms, and the sums of whole squares of blocks are kept in the cache,
so that the next region that holds them reads one key; only blocks on an edge are decoded. What is not mapped stays
open, and is counted when it is there.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from landcover import block
from landcover.errors import BlockDamaged, Pending
from landcover.grid import BlockIndex
from landcover.keys import square_key
from landcover.statistics import cells, tally
from landcover.statistics.cells import Square
from landcover.statistics.region import Region
from landcover.statistics.tally import Table
from landcover_api.blocks import Fetched, parts_of
from landcover_api.cover import LandCover
from landcover_api.drawing import Waiting, raise_failure
from landcover_api.state import ApiState

MAPS = (block.field("class", 0), block.field("confidence", 0))
PIXELS_AT_ONCE = 1 << 22
"""Of maps in memory; the event loop has its turn between."""
HISTOGRAMS_AT_ONCE = 512
LEAST_COUNTING_S = 4.0
"""What is mapped is counted for so long, also for a client that does not wait for blocks."""

T = TypeVar("T")


class Counting:
    """The sums of some regions of one land cover, as far as they can be told."""

    def __init__(
        self, state: ApiState, cover: LandCover, regions: Sequence[Region], *, min_confidence: float = 0
    ) -> None:
        self._state = state
        self._cover = cover
        self._regions = regions
        self._least = tally.least_confidence(min_confidence)
        self.tables = [tally.empty_table(cover.model.contract.max_value) for _ in regions]
        """The sums of each region."""
        self._squares: dict[Square, list[int]] = {}
        self._edges: dict[BlockIndex, list[int]] = {}
        self._inside: set[BlockIndex] = set()
        self._on_edge: set[BlockIndex] = set()
        self.total = 0
        """Blocks that some region touches; one inside a region and on the edge of another may count twice."""
        self.outside: set[int] = set()
        """The regions that touch nothing of the scene."""

    async def plan(self) -> None:
        """Find the blocks of each region."""
        for number, region in enumerate(self._regions):
            found = await self._state.draw(cells.cover, self._cover.grid, region)
            for square in found.whole:
                self._squares.setdefault(square, []).append(number)
            for index in found.edge:
                self._edges.setdefault(index, []).append(number)
            if not (found.whole or found.edge):
                self.outside.add(number)
        self.total = len(self._edges) + sum(map(self._size, self._squares))

    @property
    def decodings(self) -> int:
        """What is still to be done with single pixels, which is what counting costs: blocks, for each region."""
        return sum(map(len, self._edges.values()))

    @property
    def done(self) -> int:
        """How many of the blocks of `total` are counted."""
        return self.total - len(self._edges) - sum(map(self._size, self._squares))

    def _size(self, square: Square) -> int:
        rows, cols = _window(self._cover, square)
        return len(rows) * len(cols)

    @property
    def complete(self) -> bool:
        """Whether everything is counted."""
        return not (self._squares or self._edges)

    async def advance(
        self, waiting: Waiting | None = None, *, until: float = math.inf, most_missing: int = sys.maxsize
    ) -> None:
        """Count what is in the cache and not counted yet.

        Args:
            waiting: the client, if one waits.
            until: the monotonic time at which to stop.
            most_missing: stop when more blocks than that are not there.

        Raises:
            BlockDamaged: of a block that failed to be read; it is dropped and made again when asked for.
            Pending: the client that waits has gone.
        """
        self._inside, self._on_edge = set(), set()

        def goes_on() -> bool:
            return time.monotonic() <= until and len(self.missing) <= most_missing

        for squares in _few(sorted(self._squares), HISTOGRAMS_AT_ONCE):
            if not goes_on():
                return
            await check_client(waiting)
            await self._count_squares(squares)
        at_once = max(1, PIXELS_AT_ONCE // self._cover.grid.block_px**2)
        for edges in parts_of(sorted(self._edges), at_once):
            if not goes_on():
                return
            await check_client(waiting)
            await self._count_edges(edges)

    @property
    def missing(self) -> set[BlockIndex]:
        """The blocks that the last `advance` looked for and that are not mapped."""
        return self._inside | self._on_edge

    async def wait(self, waiting: Waiting) -> bool:
        """Have the missing blocks made and count them, if they are not too many; False if they are.

        What takes longer to count than `LEAST_COUNTING_S` is left open.

        Raises:
            LandcoverError: one of them cannot be made.
        """
        if len(self.missing) > self._cover.on_demand_blocks:
            return False
        fetched = await asyncio.gather(
            self._fetch(sorted(self._on_edge), MAPS, waiting),
            self._fetch(sorted(self._inside), [tally.whole_field(self._least)], waiting),
        )
        raise_failure(self._state, self._cover, *fetched)
        until = time.monotonic() + LEAST_COUNTING_S
        await self.advance(until=until, most_missing=self._cover.on_demand_blocks)
        return True

    async def _fetch(self, indices: Sequence[BlockIndex], fields: Sequence[str], waiting: Waiting) -> Fetched:
        return await self._state.blocks.fetch(self._cover, indices, fields, wait_s=waiting.seconds, gone=waiting.gone)

    async def _count_squares(self, squares: Sequence[Square]) -> None:
        for square, (table, left) in (await self._sums(squares)).items():
            users = self._squares.pop(square)
            for number in users:
                self.tables[number] += table
            for each in left:
                self._squares.setdefault(each, []).extend(users)
                self._inside.add(each.block)

    async def _sums(self, squares: Sequence[Square]) -> dict[Square, tuple[Table, list[Square]]]:
        """The sums of each square as far as it is mapped, and the blocks of it that are not."""
        zero = tally.empty_table(self._cover.model.contract.max_value)
        known: dict[Square, tuple[Table, list[Square]]] = {}
        levels: dict[int, list[Square]] = {}
        for square in squares:
            levels.setdefault(square.level, []).append(square)
        unknown: list[Square] = []
        for level in range(max(levels, default=0), 0, -1):
            stored = await self._stored(levels.get(level, []))
            known |= {square: (table, []) for square, table in stored.items()}
            lacking = [square for square in levels.get(level, []) if square not in stored]
            unknown += lacking
            children = {child for square in lacking for child in square.children(self._cover.grid)}
            levels.setdefault(level - 1, []).extend(sorted(children - set(levels.get(level - 1, []))))
        for some in parts_of(levels.get(0, []), HISTOGRAMS_AT_ONCE):
            found = await self._blocks(some)
            known |= {each: (found[each], []) if each in found else (zero, [each]) for each in some}
        whole: dict[Square, Table] = {}
        for square in reversed(unknown):
            parts = [known[child] for child in square.children(self._cover.grid)]
            left = [each for _, lacking in parts for each in lacking]
            known[square] = np.sum([table for table, _ in parts], axis=0), left
            if not left:
                whole[square] = known[square][0]
        await self._store(whole)
        return {square: known[square] for square in squares}

    async def _blocks(self, squares: Sequence[Square]) -> dict[Square, Table]:
        """Tables of those blocks that are in the cache."""
        cover = self._cover
        fetched = await self._state.blocks.look(
            cover, [square.block for square in squares], [tally.whole_field(self._least)]
        )

        def count() -> dict[Square, Table]:
            return {
                Square(0, index.row, index.col): tally.whole_table(cover.grid, index, data, self._least)
                for index, (data,) in fetched.found.items()
            }

        return await self._careful(fetched.found, count)

    async def _stored(self, squares: Sequence[Square]) -> dict[Square, Table]:
        if not squares:
            return {}
        shape = tally.empty_table(self._cover.model.contract.max_value).shape
        values = await self._state.cache.mget([self._key(square) for square in squares])
        return {
            square: np.frombuffer(value, np.float64).reshape(shape)
            for square, value in zip(squares, values, strict=True)
            if isinstance(value, bytes) and len(value) == np.float64().nbytes * shape[0] * shape[1]
        }

    async def _store(self, tables: Mapping[Square, Table]) -> None:
        if not tables:
            return
        async with self._state.cache.pipeline(transaction=False) as pipe:
            for square, table in tables.items():
                pipe.set(self._key(square), table.tobytes(), ex=self._state.cache_ttl_s)
            await pipe.execute()

    def _key(self, square: Square) -> str:
        blocks = self._cover.blocks
        return square_key(
            scene=blocks.source.id,
            version=blocks.version,
            digest=blocks.digest,
            decimation=blocks.decimation,
            least=self._least,
            level=square.level,
            row=square.row,
            col=square.col,
        )

    async def _count_edges(self, indices: Sequence[BlockIndex]) -> None:
        fetched = await self._state.blocks.look(self._cover, indices, MAPS)
        self._on_edge |= fetched.missing
        users = {index: self._edges[index] for index in fetched.found}
        for number, table in await self._careful(fetched.found, partial(self._edge_tables, fetched.found, users)):
            self.tables[number] += table
        for index in fetched.found:
            del self._edges[index]

    def _edge_tables(
        self, found: Mapping[BlockIndex, tuple[bytes, ...]], users: Mapping[BlockIndex, list[int]]
    ) -> list[tuple[int, Table]]:
        grid, max_value = self._cover.grid, self._cover.model.contract.max_value
        tables = []
        for index, stored in found.items():
            classes, confidence = (block.decode(layer, grid.block_px) for layer in stored)
            areas = tally.pixel_areas_m2(grid, index)
            for number in users[index]:
                part = cells.part(grid, self._regions[number], index)
                if part is None:
                    continue
                layers = areas[part.window], classes[part.window], confidence[part.window]
                tables.append((number, tally.edge_table(part.share, *layers, self._least, max_value)))
        return tables

    async def _careful(self, read: Iterable[BlockIndex], work: Callable[[], T]) -> T:
        """`work` in a drawing thread; a block that turns out to be damaged is dropped with those read beside it."""
        try:
            return await self._state.draw(work)
        except BlockDamaged:
            await self._state.blocks.discard(self._cover, read)
            raise


def leaves(cover: LandCover, square: Square) -> Iterator[BlockIndex]:
    """The blocks of a square that lie on the grid."""
    rows, cols = _window(cover, square)
    return (BlockIndex(row, col) for row in rows for col in cols)


def _window(cover: LandCover, square: Square) -> tuple[range, range]:
    """Rows and columns of the blocks of a square that lie on the grid."""
    side = cells.FANOUT**square.level
    top, left = square.row * side, square.col * side
    return range(top, min(top + side, cover.grid.rows)), range(left, min(left + side, cover.grid.cols))


def _few(squares: Sequence[Square], count: int) -> Iterator[list[Square]]:
    """`squares` in parts of at most `count` blocks, or of one square."""
    some: list[Square] = []
    blocks = 0
    for square in squares:
        size = cells.FANOUT ** (2 * square.level)
        if some and blocks + size > count:
            yield some
            some, blocks = [], 0
        some.append(square)
        blocks += size
    if some:
        yield some


async def check_client(waiting: Waiting | None) -> None:
    """Stop working for who has gone.

    Raises:
        Pending: the client has.
    """
    if waiting is not None and await waiting.gone():
        raise Pending("The client has gone.")
