"""Decoded tiles of GeoTIFFs, which threads share: windows overlap, and what GDAL decodes it keeps for one open file.

A file that all threads share would decode once too, but by one thread at a time.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcover.errors import SceneTooSlow

_SIDES_PX = range(64, 1025)
"""Of tiles worth keeping: smaller ones cost more to look up than to decode, larger ones and strips (as wide as the
image) hold mostly what a window does not show."""

_MAX_SHARE = 4
"""A window larger than this part of what may be kept is read past it: it would push out what others are to find."""

Span = tuple[int, int]
"""First and past the last, of rows or columns."""

Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""Colours `(height, width, 3)`, and `(height, width)` True where there is data."""

_Place = tuple[int, int]
"""Row and column of a tile among an image's tiles."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an image lies in its file."""

    image_px: tuple[int, int]
    """Height and width."""
    tile_px: tuple[int, int]
    """Height and width of what is decoded at once."""


@dataclass(frozen=True)
class _Tile:
    pixels: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_] | None
    """None: everywhere."""

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + (0 if self.valid is None else self.valid.nbytes)


class DecodedTiles:
    """The tiles that windows touched last, each decoded once however many threads want it at a time."""

    def __init__(self, max_nbytes: int) -> None:
        self._max_nbytes = max_nbytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[tuple[Hashable, _Place], Future[_Tile | None]] = OrderedDict()
        self._nbytes = 0

    def window(
        self, image: Hashable, layout: Layout, rows: Span, cols: Span, read: Callable[[Span, Span], Part]
    ) -> Part:
        """The pixels of a window inside an image; `read` decodes what is missing, in as few rectangles as it takes.

        `image` names the image and all that its pixels depend on. Errors are those of `read`, of which nothing is
        kept: who waited for another's reads for himself, since the fault may lie outside his window.

        Raises:
            SceneTooSlow: `read` says so, here or where another thread reads; to wait twice helps nobody.
        """
        size = (rows[1] - rows[0]) * (cols[1] - cols[0]) * 3
        if not set(layout.tile_px).issubset(_SIDES_PX) or size * _MAX_SHARE > self._max_nbytes:
            return read(rows, cols)
        height, width = layout.tile_px
        places = list(
            itertools.product(
                range(rows[0] // height, -(-rows[1] // height)), range(cols[0] // width, -(-cols[1] // width))
            )
        )
        with self._lock:
            missing = {place: Future[_Tile | None]() for place in places if (image, place) not in self._tiles}
            self._tiles.update({(image, place): future for place, future in missing.items()})
            for place in places:
                self._tiles.move_to_end((image, place))
            tiles = {place: self._tiles[image, place] for place in places}
        if missing:
            self._decode(image, layout, missing, read)
        pixels = np.empty((rows[1] - rows[0], cols[1] - cols[0], 3), np.uint8)
        valid = np.ones(pixels.shape[:2], np.bool_)
        for (row, col), future in tiles.items():
            tile = future.result()
            if tile is None:
                return read(rows, cols)
            to_rows, from_rows = _overlap(rows, row * height, tile.pixels.shape[0])
            to_cols, from_cols = _overlap(cols, col * width, tile.pixels.shape[1])
            pixels[to_rows, to_cols] = tile.pixels[from_rows, from_cols]
            if tile.valid is not None:
                valid[to_rows, to_cols] = tile.valid[from_rows, from_cols]
        return pixels, valid

    def _decode(
        self,
        image: Hashable,
        layout: Layout,
        missing: dict[_Place, Future[_Tile | None]],
        read: Callable[[Span, Span], Part],
    ) -> None:
        """Have all of `missing` be there, or none."""
        tiles: dict[_Place, _Tile] = {}
        try:
            for places_down, places_across in _rectangles(missing):
                rows = _pixels(places_down, layout.tile_px[0], layout.image_px[0])
                cols = _pixels(places_across, layout.tile_px[1], layout.image_px[1])
                pixels, valid = read(rows, cols)
                for row, col in itertools.product(range(*places_down), range(*places_across)):
                    down, _ = _overlap(rows, row * layout.tile_px[0], layout.tile_px[0])
                    across, _ = _overlap(cols, col * layout.tile_px[1], layout.tile_px[1])
                    known = valid[down, across]
                    tiles[row, col] = _Tile(pixels[down, across].copy(), None if known.all() else known.copy())
        except BaseException as error:
            with self._lock:
                for place, future in missing.items():
                    if self._tiles.get((image, place)) is future:
                        del self._tiles[image, place]
            for future in missing.values():
                if isinstance(error, SceneTooSlow):
                    future.set_exception(error)
                else:
                    future.set_result(None)
            raise
        with self._lock:
            for place, future in missing.items():
                future.set_result(tiles[place])
                if self._tiles.get((image, place)) is future:
                    self._nbytes += tiles[place].nbytes
            while self._nbytes > self._max_nbytes:
                _, oldest = self._tiles.popitem(last=False)
                tile = oldest.result() if oldest.done() else None
                self._nbytes -= tile.nbytes if tile else 0


def _rectangles(places: Collection[_Place]) -> list[tuple[Span, Span]]:
    """Places as rectangles that cover them and nothing else: each as wide as its first row allows, then as high."""
    left, found = set(places), []
    while left:
        row, col = min(left)
        across = range(col, next(each for each in itertools.count(col) if (row, each) not in left))
        down = range(row, next(each for each in itertools.count(row) if not left.issuperset((each, c) for c in across)))
        found.append(((down.start, down.stop), (across.start, across.stop)))
        left.difference_update(itertools.product(down, across))
    return found


def _pixels(places: Span, tile_px: int, image_px: int) -> Span:
    """The rows or columns of tiles; the last tile may reach beyond the image."""
    return places[0] * tile_px, min(places[1] * tile_px, image_px)


def _overlap(span: Span, begin: int, size: int) -> tuple[slice, slice]:
    """Where a tile that begins at `begin` lies in `span`, and which part of the tile that is."""
    first, past = max(span[0], begin), min(span[1], begin + size)
    return slice(first - span[0], past - span[0]), slice(first - begin, past - begin)
