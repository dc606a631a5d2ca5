"""Blocks and their overviews out of a product's files: the same bytes that workers would have made."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window

from landcover import block, overview
from landcover.block import Layer
from landcover.errors import LandcoverError, ProductUnreadable, SceneUnreadable
from landcover.geotiff.opening import gdal_env, open_dataset
from landcover.grid import BlockIndex, Grid
from landcover.products.register import ProductRecord
from landcover.scene import SceneSource
from landcover.settings import ReadSettings

OPEN_PER_THREAD = 32
"""Files at one overview each."""

LACKING_S = 60.0
"""How long it is believed that a file has no such overview: a server's fault may look the same."""

PLACE_TOLERANCE_PX = 0.01


def covers(record: ProductRecord, grid: Grid, index: BlockIndex, scale: int = 0) -> bool:
    """Whether all of a block, or of an overview of `scale`, that lies on the scene is in the product."""
    if scale == 0:
        return record.covers(grid, index)
    blocks = overview.FANOUT**scale
    top, left = index.row * blocks * grid.block_px, index.col * blocks * grid.block_px
    bottom = min(top + blocks * grid.block_px, grid.height_px)
    right = min(left + blocks * grid.block_px, grid.width_px)
    return (
        record.row_px <= top
        and bottom <= record.row_px + record.height_px
        and record.col_px <= left
        and right <= record.col_px + record.width_px
        and not any(row // blocks == index.row and col // blocks == index.col for row, col in record.holes)
    )


@dataclass(frozen=True, kw_only=True)
class _Band:
    """One layer of a product at one of its overviews."""

    record: ProductRecord
    grid: Grid
    layer: Layer
    level: int

    @property
    def location(self) -> str:
        return self.record.classes if self.layer == "class" else self.record.confidence

    @property
    def number(self) -> int:
        return 1 if self.layer == "class" else self.record.confidence_band

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels of the level."""
        factor = 1 << self.level
        return -(-self.record.height_px // factor), -(-self.record.width_px // factor)


class ProductReader:
    """Reads products from any number of threads; each keeps some files open.

    Whoever reads has asked `covers` before.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._local = threading.local()

    def block(self, record: ProductRecord, grid: Grid, index: BlockIndex, max_value: int) -> dict[str, bytes]:
        """All fields of a block, from the product's full resolution.

        Raises:
            ProductUnreadable: a file of the product is missing, damaged or another one.
        """
        classes, confidence = (
            self._cell(_Band(record=record, grid=grid, layer=layer, level=0), index, grid.block_px)
            for layer in overview.LAYERS
        )
        _check_values(record, classes, max_value)
        return block.encode(classes, confidence, max_value)

    def overview(
        self,
        record: ProductRecord,
        grid: Grid,
        scale: int,
        index: BlockIndex,
        *,
        level: int,
        layers: Sequence[Layer],
        max_value: int,
    ) -> dict[str, bytes] | None:
        """The fields of some layers of an overview of `scale` (from 1) at its `level`; None if the product has no fit.

        They are read from one of the product's own overviews, which must be of powers of two and begin at a pixel of
        the scene's. Levels beyond its last, where all of the product is a few hundred pixels, are made of the last.

        Raises:
            ProductUnreadable: a file of the product is missing, damaged or another one.
        """
        first = overview.SCALE_LEVELS * scale
        made: dict[str, bytes] = {}
        for layer in layers:
            self._open(_Band(record=record, grid=grid, layer=layer, level=0))
            last = min(first + level, _aligned(record))
            while last >= first and not self._has(band := _Band(record=record, grid=grid, layer=layer, level=last)):
                last -= 1
            if last < first:
                return None
            cell = self._cell(band, index, grid.block_px >> (last - first))
            if layer == "class":
                _check_values(record, cell, max_value)
                cell = block.majority_pyramid(cell, max_value)[first + level - last]
            else:
                cell = block.mean_pyramid(cell)[first + level - last]
            made[block.field(layer, level)] = block.encode_layer(cell)
        return made

    def _cell(self, band: _Band, index: BlockIndex, side: int) -> npt.NDArray[np.uint8]:
        """The pixels `(side, side)` of a block or overview; 0 beyond the product, where there is no scene."""
        factor = 1 << band.level
        top, left = index.row * side - band.record.row_px // factor, index.col * side - band.record.col_px // factor
        height, width = min(side, band.shape[0] - top), min(side, band.shape[1] - left)
        cell = np.zeros((side, side), np.uint8)
        image = self._open(band)
        try:
            with gdal_env(_source(band), self._settings):
                cell[:height, :width] = image.read(band.number, window=Window(left, top, width, height))
        except RasterioError as error:
            self._close(band)
            raise ProductUnreadable(
                f"Product {band.record.id} is damaged ({error}); remove it, or have it made again."
            ) from error
        return cell

    def _has(self, band: _Band) -> bool:
        """Whether a file, which can be read, has an overview; told by opening it.

        Rasterio can count them, but holds Python's lock while it does: a slow server would stop the whole process.
        """
        lacking: dict[object, float] = self._local.__dict__.setdefault("lacking", {})
        now = time.monotonic()
        if lacking.get(key := self._key(band), 0.0) > now:
            return False
        try:
            self._open(band)
        except ProductUnreadable as error:
            if not isinstance(error.__cause__, SceneUnreadable):
                raise
            for old in [each for each, until in lacking.items() if until <= now]:
                del lacking[old]
            lacking[key] = now + LACKING_S
            return False
        return True

    def _open(self, band: _Band) -> Any:
        """The file at the band's overview, open for this thread."""
        files: OrderedDict[object, Any] = self._local.__dict__.setdefault("files", OrderedDict())
        key = self._key(band)
        if (image := files.get(key)) is not None:
            files.move_to_end(key)
            return image
        options: dict[str, Any] = {"OVERVIEW_LEVEL": band.level - 1} if band.level else {}
        source = _source(band)
        try:
            with gdal_env(source, self._settings):
                image = open_dataset(source, self._settings, **options)
                try:
                    _check_file(band, image)
                except ProductUnreadable:
                    image.close()
                    raise
        except ProductUnreadable:
            raise
        except LandcoverError as error:
            raise ProductUnreadable(f"Product {band.record.id} cannot be read: {error}") from error
        files[key] = image
        if len(files) > OPEN_PER_THREAD:
            files.popitem(last=False)[1].close()
        return image

    def _close(self, band: _Band) -> None:
        image = self._local.__dict__.setdefault("files", OrderedDict()).pop(self._key(band), None)
        if image is not None:
            image.close()

    def _key(self, band: _Band) -> object:
        """What an open file is known by; a local one that was replaced is another."""
        stamp: tuple[int, int] | None = None
        if not _source(band).is_remote:
            try:
                stat = os.stat(band.location)  # noqa: PTH116 - each block asks
                stamp = stat.st_mtime_ns, stat.st_size
            except OSError as error:
                raise ProductUnreadable(
                    f"Product {band.record.id} cannot be read: {band.location}: {error.strerror or error}."
                ) from error
        return band.record.id, band.record.made_at, band.location, band.number, band.level, stamp


def _aligned(record: ProductRecord) -> int:
    """The last level whose pixels the product's window begins with."""
    corner = record.row_px | record.col_px
    return (corner & -corner).bit_length() - 1 if corner else 64


def _source(band: _Band) -> SceneSource:
    return SceneSource(id="product", location=band.location)


def _check_file(band: _Band, image: Any) -> None:
    """Refuse a file that is not what the record says."""
    expected = band.grid.transform @ Affine.translation(band.record.col_px, band.record.row_px)
    wanted = Affine.scale(band.record.width_px / band.shape[1], band.record.height_px / band.shape[0])
    good = (
        (image.height, image.width) == band.shape
        and image.count >= band.number
        and image.dtypes[band.number - 1] == "uint8"
        and (~expected @ image.transform).almost_equals(wanted, PLACE_TOLERANCE_PX)
    )
    if not good:
        raise ProductUnreadable(
            f"Product {band.record.id}: {band.location} is not the file that was registered (its size, place or bands "
            "are others); remove the product, or have it made again."
        )


def _check_values(record: ProductRecord, classes: npt.NDArray[np.uint8], max_value: int) -> None:
    if (most := int(classes.max())) > max_value:
        raise ProductUnreadable(
            f"Product {record.id} has a class {most}, which its model does not know; remove it, or have it made again."
        )
