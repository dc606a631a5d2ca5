"""rio-tiler's reader of scenes that GDAL cannot open: each picture is an extract, of which rio-tiler makes the rest."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import attr
import numpy as np
import rasterio
from affine import Affine
from morecantile import Tile, TileMatrixSet
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.io import MemoryFile
from rasterio.warp import transform_bounds
from rio_tiler.constants import WEB_MERCATOR_TMS, WGS84_CRS
from rio_tiler.errors import PointOutsideBounds, TileOutsideBounds
from rio_tiler.io import BaseReader, Reader
from rio_tiler.models import BandStatistics, ImageData, Info, PointData
from rio_tiler.utils import CRS_to_uri

from landcover.errors import InvalidRequest
from landcover.extract import Box, Extract
from landcover.scene import Scene

DEFAULT_SIDE_PX = 1024
"""Of a picture whose size nobody says, as in rio-tiler."""
_MARGIN_PX = 2
"""Around what is asked for, for resampling."""

Extracting = Callable[[Scene, Box, float], Extract]
"""Of a scene, a box and the largest pixel, both in the scene's CRS."""


@attr.s
class ExtractReader(BaseReader):
    """Shows a scene by extracts."""

    input: Scene = attr.ib()
    extract: Extracting = attr.ib(kw_only=True)
    tms: TileMatrixSet = attr.ib(default=WEB_MERCATOR_TMS)

    def __attrs_post_init__(self) -> None:
        scene = self.input
        self.crs = CRS.from_wkt(scene.crs)
        self.transform: Affine = scene.transform
        self.width, self.height = scene.width_px, scene.height_px
        corners = [scene.transform @ (x, y) for x in (0, self.width) for y in (0, self.height)]
        xs, ys = zip(*corners, strict=True)
        self.bounds = (min(xs), min(ys), max(xs), max(ys))

    @property
    def minzoom(self) -> int:
        """The zoom at which the scene is about a tile."""
        return int(self._minzoom)

    @property
    def maxzoom(self) -> int:
        """The zoom of the scene's own pixels."""
        return int(self._maxzoom)

    def info(self) -> Info:
        """What rio-tiler says of an RGBA file."""
        names = [f"b{band}" for band in (1, 2, 3)]
        return Info.model_validate(
            {
                "bounds": self.bounds,
                "crs": CRS_to_uri(self.crs) or self.input.crs,
                "band_metadata": [(name, {}) for name in names],
                "band_descriptions": [(name, name) for name in names],
                "dtype": "uint8",
                "nodata_type": "Mask",
                "colorinterp": ["red", "green", "blue"],
                "count": 3,
                "width": self.width,
                "height": self.height,
            }
        )

    def tile(self, tile_x: int, tile_y: int, tile_z: int, tilesize: int | None = None, **options: Any) -> ImageData:
        """A map tile; empty where it only touches the scene, as rounding has maps ask for."""
        left, bottom, right, top = self.tms.xy_bounds(Tile(tile_x, tile_y, tile_z))
        bounds = (left, bottom, right, top)
        crs = self.tms.rasterio_crs
        if not self._touches(bounds, crs):
            raise TileOutsideBounds(f"Tile {tile_z}/{tile_x}/{tile_y} is outside of the scene.")
        side = tilesize or self.tms.matrix(tile_z).tileWidth
        return self.part(bounds, dst_crs=crs, bounds_crs=crs, height=side, width=side, **options)

    def part(
        self,
        bbox: tuple[float, float, float, float],
        dst_crs: CRS | None = None,
        bounds_crs: CRS = WGS84_CRS,
        max_size: int | None = None,
        height: int | None = None,
        width: int | None = None,
        **options: Any,
    ) -> ImageData:
        """A box."""
        side = max((each for each in (max_size, height, width) if each), default=DEFAULT_SIDE_PX)
        warped = bounds_crs != self.crs or dst_crs not in (None, self.crs)
        margin_px = math.ceil(options.get("buffer") or 0) + (_MARGIN_PX if warped else 0)
        with self._around(tuple(bbox), bounds_crs, side, margin_px) as reader:
            return reader.part(
                bbox,
                dst_crs=dst_crs,
                bounds_crs=bounds_crs,
                max_size=max_size,
                height=height,
                width=width,
                **options,
            )

    def preview(
        self,
        max_size: int | None = DEFAULT_SIDE_PX,
        height: int | None = None,
        width: int | None = None,
        dst_crs: CRS | None = None,
        **options: Any,
    ) -> ImageData:
        """The whole, small."""
        size = {"max_size": max_size, "height": height, "width": width}
        return self.part(self.bounds, bounds_crs=self.crs, dst_crs=dst_crs or self.crs, **size, **options)

    def point(self, lon: float, lat: float, coord_crs: CRS = WGS84_CRS, **options: Any) -> PointData:
        """The values at a point."""
        try:
            (x,), (y,) = rasterio.warp.transform(coord_crs, self.crs, [lon], [lat])
        except CPLE_BaseError:  # the CRS does not reach it
            x = y = math.inf
        left, bottom, right, top = self.bounds
        if not (left <= x <= right and bottom <= y <= top):
            raise PointOutsideBounds(f"{lon}, {lat} is outside of the scene.")
        with self._around((x, y, x, y), self.crs, 1, _MARGIN_PX) as reader:
            return reader.point(lon, lat, coord_crs=coord_crs, **options)

    def statistics(self, *_: Any, **__: Any) -> dict[str, BandStatistics]:
        """Not offered."""
        raise InvalidRequest("Statistics of imagery are not offered; those of land cover are.")

    def feature(self, *_: Any, **__: Any) -> ImageData:
        """Not offered."""
        raise InvalidRequest("Imagery is cut by boxes only.")

    @contextlib.contextmanager
    def _around(self, bounds: tuple[float, ...], crs: CRS, side_px: int, margin_px: int) -> Iterator[Reader]:
        """A reader of an extract that holds `bounds` in `side_px` pixels or more."""
        left, bottom, right, top = self._here(bounds, crs)
        pixel = max((right - left) / side_px, (top - bottom) / side_px, self._pixel)
        margin = margin_px * pixel
        box = (left - margin, bottom - margin, right + margin, top + margin)
        with _as_dataset(self.extract(self.input, box, pixel), self.crs) as dataset:
            yield _ReaderOfExtract(None, dataset=dataset, tms=self.tms)

    @property
    def _pixel(self) -> float:
        return float(abs(self.transform.determinant) ** 0.5)

    def _here(self, bounds: tuple[float, ...], crs: CRS) -> Box:
        """`bounds` in the scene's CRS; all of the scene where they have no place in it (a world, the poles)."""
        try:
            left, bottom, right, top = transform_bounds(crs, self.crs, *bounds, densify_pts=21)
        except (CPLE_BaseError, CRSError):
            return self.bounds
        return (left, bottom, right, top) if np.isfinite((left, bottom, right, top)).all() else self.bounds

    def _touches(self, bounds: tuple[float, ...], crs: CRS) -> bool:
        left, bottom, right, top = self._here(bounds, crs)
        own_left, own_bottom, own_right, own_top = self.bounds
        spare = self._pixel
        return (
            left <= own_right + spare
            and right >= own_left - spare
            and bottom <= own_top + spare
            and top >= own_bottom - spare
        )


class _ReaderOfExtract(Reader):
    """rio-tiler's reader without its advice to make overviews: an extract is as small as it needs to be."""

    def __attrs_post_init__(self) -> None:
        assert self.dataset is not None
        self.bounds, self.crs, self.transform = tuple(self.dataset.bounds), self.dataset.crs, self.dataset.transform
        self.height, self.width = self.dataset.height, self.dataset.width
        self.colormap = {}


@contextlib.contextmanager
def _as_dataset(extract: Extract, crs: CRS) -> Iterator[Any]:
    """The extract as an RGBA file in memory."""
    height, width = extract.valid.shape
    bands = np.empty((4, height, width), np.uint8)
    bands[:3] = np.moveaxis(extract.pixels, -1, 0)
    bands[3] = np.where(extract.valid, 255, 0)
    profile = {"driver": "GTiff", "count": 4, "dtype": "uint8", "photometric": "RGB", "alpha": "YES"}
    with MemoryFile() as memory:
        with memory.open(width=width, height=height, crs=crs, transform=extract.transform, **profile) as dataset:
            dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
            dataset.write(bands)
        with memory.open() as dataset:
            yield dataset
