"""Where tiles lie: the arithmetic of the tile matrix set WebMercatorQuad (OGC 17-083r4, annex D.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from affine import Affine

from landcover.xyz.options import MAX_LATITUDE, XyzOptions

CRS = "EPSG:3857"
HALF_SIDE_M = math.pi * 6_378_137.0
"""Half the side of Web Mercator's square, in its own metres."""

_ON_THE_LINE = 1e-7
"""Of a tile: a bound so near a border is on it, and asks for no further tile."""


@dataclass(frozen=True, order=True, slots=True)
class TileAddress:
    """One tile; row 0 is the northernmost."""

    zoom: int
    col: int
    row: int

    def url(self, template: str) -> str:
        """Its address, from a template with {z}, {x} and {y}."""
        return template.replace("{z}", str(self.zoom)).replace("{x}", str(self.col)).replace("{y}", str(self.row))

    def __str__(self) -> str:
        return f"{self.zoom}/{self.col}/{self.row}"


@dataclass(frozen=True, kw_only=True)
class TileRange:
    """Whole tiles of one zoom: `cols` × `rows` of them from the upper left one."""

    zoom: int
    col: int
    row: int
    cols: int
    rows: int

    def transform(self, tilesize: int) -> Affine:
        """(column, row) of pixels, counted from the range's upper left corner → EPSG:3857."""
        pixel_m = 2 * HALF_SIDE_M / (tilesize * 2**self.zoom)
        left_m = self.col * tilesize * pixel_m - HALF_SIDE_M
        top_m = HALF_SIDE_M - self.row * tilesize * pixel_m
        return Affine(pixel_m, 0, left_m, 0, -pixel_m, top_m)


def tile_range(options: XyzOptions, zoom: int | None = None) -> TileRange:
    """The tiles that cover the bounds, at the scene's zoom or another."""
    zoom = options.zoom if zoom is None else zoom
    west, south, east, north = options.bounds
    left, top = _tile_position(west, north, zoom)
    right, bottom = _tile_position(east, south, zoom)
    return cover(zoom, left, top, right, bottom)


def cover(zoom: int, left: float, top: float, right: float, bottom: float) -> TileRange:
    """The tiles that cover a box given in tiles from the world's upper left corner; at least one."""
    last = 2**zoom
    col, row = (min(max(math.floor(each + _ON_THE_LINE), 0), last - 1) for each in (left, top))
    right, bottom = (min(max(math.ceil(each - _ON_THE_LINE), 0), last) for each in (right, bottom))
    return TileRange(zoom=zoom, col=col, row=row, cols=max(1, int(right) - col), rows=max(1, int(bottom) - row))


def _tile_position(lon: float, lat: float, zoom: int) -> tuple[float, float]:
    """(column, row) of a point in tiles, with fractions."""
    lat = min(max(lat, -MAX_LATITUDE), MAX_LATITUDE)
    x = (lon + 180) / 360
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
    return x * 2**zoom, y * 2**zoom
