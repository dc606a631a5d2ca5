"""Where a scene's land cover lies and which zooms it has, in the words of rio-tiler and TiTiler."""

from __future__ import annotations

import math
from typing import Any

import attr
import numpy as np
from morecantile import TileMatrixSet
from rasterio.crs import CRS
from rio_tiler.constants import WEB_MERCATOR_TMS
from rio_tiler.io.base import SpatialMixin
from rio_tiler.models import Info

from landcover.geodesy import geodesic_area_m2
from landcover_api.cover import LandCover


@attr.s
class LandCoverReader(SpatialMixin):
    """The geometry of a scene's land cover; pixels are not read through it, since that may mean to wait."""

    input: LandCover = attr.ib()
    tms: TileMatrixSet = attr.ib(kw_only=True, default=WEB_MERCATOR_TMS)

    def __attrs_post_init__(self) -> None:
        grid = self.input.grid
        self.crs = CRS.from_wkt(grid.crs)
        self.transform = grid.transform
        self.width, self.height = grid.width_px, grid.height_px
        corners = [grid.transform @ (c, r) for c in (0, grid.width_px) for r in (0, grid.height_px)]
        xs, ys = zip(*corners, strict=True)
        self.bounds = (min(xs), min(ys), max(xs), max(ys))

    def __enter__(self) -> LandCoverReader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_geographic_bounds(self, crs: Any) -> tuple[float, float, float, float]:
        """West, south, east, north."""
        return self.input.scene.bounds_wgs84

    @property
    def maxzoom(self) -> int:
        """The zoom whose pixels are nearest to the grid's."""
        return int(self._maxzoom)

    @property
    def minzoom(self) -> int:
        """The lowest zoom that is drawn: the first of all where it is mapped, else where it can be on demand."""
        if self.input.whole or self.input.grid.rows * self.input.grid.cols <= self.input.on_demand_blocks:
            return int(self.tms.minzoom)
        block_m = self.input.grid.block_px * self.input.grid.gsd_m
        zoom = self.maxzoom
        while (
            zoom > self.tms.minzoom and (self._tile_side_m(zoom - 1) / block_m + 1) ** 2 <= self.input.on_demand_blocks
        ):
            zoom -= 1
        return zoom

    def _tile_side_m(self, zoom: int) -> float:
        """Side on the ground of a square with the area of the tile over the scene's centre."""
        west, south, east, north = self.input.scene.bounds_wgs84
        bounds = self.tms.bounds(self.tms.tile((west + east) / 2, (south + north) / 2, zoom))
        lon = np.array([bounds.left, bounds.right, bounds.right, bounds.left])
        lat = np.array([bounds.bottom, bounds.bottom, bounds.top, bounds.top])
        return math.sqrt(geodesic_area_m2(lon, lat))

    def info(self) -> Info:
        """In rio-tiler's form."""
        cover = self.input
        return Info.model_validate(
            {
                "bounds": self.bounds,
                "crs": f"EPSG:{self.crs.to_epsg()}" if self.crs.to_epsg() else cover.grid.crs,
                "band_metadata": [("b1", {})],
                "band_descriptions": [("b1", "land cover")],
                "dtype": "uint8",
                "nodata_type": "Nodata",
                "nodata_value": 0,
                "width": self.width,
                "height": self.height,
            }
        )
