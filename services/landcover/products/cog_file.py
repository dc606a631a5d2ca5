"""The bytes of a Cloud-Optimized GeoTIFF whose tiles, of every level and in any order, come one at a time.

GDAL's COG driver copies a finished raster: it would need the whole map on disk twice, can be told overviews only as
further files, and neither says how far it is nor can be stopped. What is in the header (CRS, colour table, metadata)
is still GDAL's: its tags are taken over from a file of one pixel that GDAL wrote.

Layout: header, the directories from the full resolution to the smallest overview, then their tiles from the smallest
overview to the full resolution. https://docs.ogc.org/is/21-026/21-026.html
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeAlias

import numpy as np
import numpy.typing as npt

TILE_PX = 512

_CLASSIC_LIMIT = 2**32 - 1
"""Bytes that offsets of a TIFF reach; larger files are BigTIFF."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 11: 4, 12: 8, 16: 8}
"""Bytes of a value of each TIFF type."""

_SHORT, _LONG, _LONG8 = 3, 4, 16
_ADOBE_DEFLATE = 8
_PLANAR_SEPARATE = 2

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS, _PLANAR = 273, 277, 278, 279, 284
_COLORS, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 320, 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _NODATA = 338, 339, 42113

_OF_STRIPS = {_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_COUNTS}
_OF_OVERVIEWS = {_BITS, _PHOTOMETRIC, _SAMPLES, _COLORS, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _NODATA}
"""The tags that an overview shares with the full resolution."""

Tags: TypeAlias = dict[int, tuple[int, bytes]]
"""Code → TIFF type and little-endian values."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One directory of the file."""

    width_px: int
    height_px: int

    @property
    def tiles(self) -> tuple[int, int]:
        """(rows, columns) of tiles; the last ones reach past the image."""
        return -(-self.height_px // TILE_PX), -(-self.width_px // TILE_PX)


class CogFile:
    """Takes tiles and makes a COG of them; a context, which deletes its temporary files.

    In memory are 12 bytes a tile. On disk the compressed tiles lie twice while `finish` runs.
    """

    def __init__(self, folder: Path, name: str, template: bytes, levels: list[Level], bands: int) -> None:
        """Begin a file.

        Args:
            folder: for temporary files.
            name: sets them apart from others'.
            template: a small TIFF of GDAL with the tags this file is to have.
            levels: full resolution first, each half of the one before.
            bands: uint8 each, stored one after the other, so that reading one leaves the others alone.
        """
        self._template = read_tags(template)
        self._levels = levels
        self._bands = bands
        self._offsets = [np.zeros((bands, *level.tiles), np.uint64) for level in levels]
        self._counts = [np.zeros((bands, *level.tiles), np.uint32) for level in levels]
        self._ends = [0] * len(levels)
        self._empty: list[tuple[int, int] | None] = [None] * len(levels)
        self._paths = [folder / f"{name}.{number}.tiles" for number in range(len(levels))]
        self._stack = ExitStack()
        self._files: list[BinaryIO] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for path in self._paths:
                stack.callback(path.unlink, missing_ok=True)
                self._files.append(stack.enter_context(path.open("w+b")))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def put(self, level: int, band: int, row: int, col: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write one tile, `(TILE_PX, TILE_PX)`; levels and bands are counted from 0."""
        empty = not pixels.any()
        if empty and (kept := self._empty[level]) is not None:
            place = kept  # one for all of them: a region's surroundings cost nothing
        else:
            data = zlib.compress(pixels.data)
            place = self._ends[level], len(data)
            self._files[level].write(data)
            self._ends[level] += len(data)
            if empty:
                self._empty[level] = place
        self._offsets[level][band, row, col], self._counts[level][band, row, col] = place

    def finish(self, path: Path, on_progress: Callable[[float], None]) -> None:
        """Put the file together from tiles of all places; `on_progress` is told the share that is written."""
        size = self._size(big=False)
        big = size > _CLASSIC_LIMIT
        with path.open("wb") as file:
            file.write(self._head(big=big))
            for level in reversed(range(len(self._levels))):
                source = self._files[level]
                source.seek(0)
                for data in iter(lambda: source.read(1 << 24), b""):  # noqa: B023 - used at once
                    file.write(data)
                    on_progress(min(1.0, file.tell() / size))

    def _size(self, *, big: bool) -> int:
        return len(self._head(big=big)) + sum(self._ends)

    def _head(self, *, big: bool) -> bytes:
        """Everything before the tiles."""
        begin = 16 if big else 8
        starts = [0] * len(self._levels)
        lengths = [len(_directory(tags, 0, 0, big=big)) for tags in self._directories(starts, big=big)]
        places = [begin + sum(lengths[:number]) for number in range(len(lengths))]
        end = begin + sum(lengths)
        for level in reversed(range(len(self._levels))):
            starts[level], end = end, end + self._ends[level]
        head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, begin) if big else struct.pack("<2sHI", b"II", 42, begin)
        followers = [*places[1:], 0]
        for tags, place, following in zip(self._directories(starts, big=big), places, followers, strict=True):
            head += _directory(tags, place, following, big=big)
        return head

    def _directories(self, starts: list[int], *, big: bool) -> Iterator[Tags]:
        """The tags of each level, whose tiles begin at `starts`."""
        kind, dtype = (_LONG8, "<u8") if big else (_LONG, "<u4")
        for number, (level, start) in enumerate(zip(self._levels, starts, strict=True)):
            shared = {
                code: value
                for code, value in self._template.items()
                if code not in _OF_STRIPS and (number == 0 or code in _OF_OVERVIEWS)
            }
            offsets = self._offsets[number] + np.uint64(start)
            yield shared | {
                _SUBFILE: _longs(0 if number == 0 else 1),
                _WIDTH: _longs(level.width_px),
                _HEIGHT: _longs(level.height_px),
                _COMPRESSION: _shorts(_ADOBE_DEFLATE),
                _PLANAR: _shorts(_PLANAR_SEPARATE if self._bands > 1 else 1),
                _TILE_WIDTH: _shorts(TILE_PX),
                _TILE_HEIGHT: _shorts(TILE_PX),
                _TILE_OFFSETS: (kind, offsets.astype(dtype).tobytes()),
                _TILE_COUNTS: (_LONG, self._counts[number].astype("<u4").tobytes()),
            }


def read_tags(data: bytes) -> Tags:
    """The tags of the first directory of a little-endian TIFF that is no BigTIFF."""
    start, count = struct.unpack_from("<I", data, 4)[0], 0
    (count,) = struct.unpack_from("<H", data, start)
    tags: Tags = {}
    for number in range(count):
        entry = start + 2 + 12 * number
        code, kind, values = struct.unpack_from("<HHI", data, entry)
        size = _SIZES[kind] * values
        place = entry + 8 if size <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
        tags[code] = kind, data[place : place + size]
    return tags


def _directory(tags: Tags, place: int, following: int, *, big: bool) -> bytes:
    """One directory at `place` in the file and, behind it, the values that do not fit into its entries."""
    inline = 8 if big else 4
    head = struct.pack("<Q" if big else "<H", len(tags))
    beyond = place + len(head) + (4 + 2 * inline) * len(tags) + inline
    entries, values = b"", b""
    for code, (kind, data) in sorted(tags.items()):
        if len(data) <= inline:
            held = data.ljust(inline, b"\0")
        else:
            held = (beyond + len(values)).to_bytes(inline, "little")
            values += data.ljust(len(data) + len(data) % 2, b"\0")
        entries += struct.pack("<HHQ" if big else "<HHI", code, kind, len(data) // _SIZES[kind]) + held
    return head + entries + following.to_bytes(inline, "little") + values


def _shorts(*values: int) -> tuple[int, bytes]:
    return _SHORT, struct.pack(f"<{len(values)}H", *values)


def _longs(*values: int) -> tuple[int, bytes]:
    return _LONG, struct.pack(f"<{len(values)}I", *values)
