"""Where a scene's land cover lies and which zooms it has, in the words of rio-tiler and TiTiler."""

from __future__ import annotations

from typing import Any

import attr
from morecantile import TileMatrixSet
from rasterio.crs import CRS
from rio_tiler.constants import WEB_MERCATOR_TMS
from rio_tiler.io.base import SpatialMixin
from rio_tiler.models import Info

from landcover_api.cover import LandCover

ON_DEMAND_BLOCKS = 64
"""The tiles of the lowest advertised zoom touch no more blocks than this."""


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
        """The lowest zoom at which any tile can be mapped on demand."""
        zoom = self.maxzoom
        matrix = self.tms.matrix(zoom)
        grid_px = self.input.grid.block_px * self.input.grid.gsd_m / matrix.cellSize  # a block's side in tile pixels
        while zoom > self.tms.minzoom:
            tiles_px = matrix.tileWidth * 2 ** (self.maxzoom - zoom + 1)
            if (tiles_px / grid_px + 1) ** 2 > ON_DEMAND_BLOCKS:
                break
            zoom -= 1
        return zoom

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
