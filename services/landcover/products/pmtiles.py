"""The class map, drawn in its colours, as one file of map tiles. https://github.com/protomaps/PMTiles

Each tile shows the nearest pixels of the class map's overview that is just finer than the tile.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from PIL import Image
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from landcover.classes import LandCoverClass, palette
from landcover.geodesy import WGS84, transformer
from landcover.products.spec import ProductSpec
from landcover.products.stac import footprint_wgs84

MEDIA_TYPE = "application/vnd.pmtiles"

TILE_PX = 256
WEB_MERCATOR = "EPSG:3857"
MAX_ZOOM = 24

_HALF_WORLD_M = 20037508.342789244
_MAX_LAT = 85.0511287
_ALMOST = 0.01
"""Of a zoom: an image of exactly a zoom's resolution is not drawn at the next."""

_SHARED_ZOOMS = 3
"""Tiles that have their ancestor so many zooms up in common are drawn at once."""

_CACHE_BYTES = 64 << 20


def write_pmtiles(path: Path, classes: Path, spec: ProductSpec, on_progress: Callable[[float], None]) -> None:
    """Draw the class map as tiles of WebMercatorQuad, from zoom 0 to the first that shows all its pixels.

    Tiles without a mapped pixel are left out, but for zoom 0.

    Args:
        path: the file.
        classes: the finished class map, a COG.
        spec: what it is of.
        on_progress: told the share that is done; what it raises ends the drawing.

    Raises:
        OSError: no room, or no permission.
    """
    max_zoom = native_zoom(spec)
    squares = [square for zoom in range(max_zoom + 1) for square in _squares(spec, zoom)]
    with path.open("wb") as file, rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
        writer = Writer(file)
        writer.tile_f.close()
        with path.with_suffix(".tiles").open("w+b") as writer.tile_f, _Drawer(classes, spec) as drawer:
            for number, square in enumerate(squares):
                on_progress(number / len(squares))
                for tile_id, image in drawer.draw(square):
                    writer.write_tile(tile_id, image)
            writer.finalize(_header(spec, max_zoom), _metadata(spec))
    path.with_suffix(".tiles").unlink()
    on_progress(1.0)


def native_zoom(spec: ProductSpec) -> int:
    """The least zoom whose pixels are no larger than the map's."""
    zoom = math.log2(2 * _HALF_WORLD_M / TILE_PX / _pixel_size_m(spec)) - _ALMOST
    return min(max(math.ceil(zoom), 0), MAX_ZOOM)


@dataclass(frozen=True, kw_only=True)
class _Square:
    """Neighbouring tiles: those of `zoom` under one ancestor."""

    zoom: int
    side: int
    """Tiles a side, a power of two."""
    col: int
    """Of the ancestor, at its zoom."""
    row: int

    @property
    def transform(self) -> Affine:
        """(column, row) of its pixels → Web Mercator."""
        pixel = 2 * _HALF_WORLD_M / (TILE_PX << self.zoom)
        span = pixel * TILE_PX * self.side
        return Affine(pixel, 0, self.col * span - _HALF_WORLD_M, 0, -pixel, _HALF_WORLD_M - self.row * span)

    def tiles(self) -> list[tuple[int, int, int]]:
        """Id, column and row within the square of each tile, by id."""
        found = [
            (zxy_to_tileid(self.zoom, self.col * self.side + col, self.row * self.side + row), col, row)
            for row in range(self.side)
            for col in range(self.side)
        ]
        return sorted(found)


def _squares(spec: ProductSpec, zoom: int) -> list[_Square]:
    """The squares of a zoom that the product may touch, in the order of their tiles' ids.

    They are no larger than the product: warping the emptiness around a small one would take longer than all else.
    """
    extents = _extents(spec)
    widest = max(float(np.ptp(extent.reshape(2, 2), axis=1).max()) for extent in extents) * (1 << zoom)
    shared = min(_SHARED_ZOOMS, zoom, max(0, math.ceil(math.log2(widest))))
    above = zoom - shared
    found = set()
    for extent in extents:
        # A little further on each side, where the outline bulges between its points, costs nothing: it is empty.
        west, east, north, south = extent * (1 << above) + np.array([-1, 1, -1, 1]) * _ALMOST
        last = (1 << above) - 1
        for row in range(max(math.floor(north), 0), min(math.floor(south), last) + 1):
            for col in range(max(math.floor(west), 0), min(math.floor(east), last) + 1):
                found.add((zxy_to_tileid(above, col, row), col, row))
    return [_Square(zoom=zoom, side=1 << shared, col=col, row=row) for _, col, row in sorted(found)]


def _extents(spec: ProductSpec) -> list[npt.NDArray[np.float64]]:
    """West, east, north and south of each part of the footprint, as shares of the world from its north-west corner."""
    extents = []
    for part in shapely.get_parts(footprint_wgs84(spec)):
        west, south, east, north = part.bounds
        lats = np.clip([north, south], -_MAX_LAT, _MAX_LAT)
        x, y = transformer(WGS84, WEB_MERCATOR).transform([west, east], lats.tolist())
        extents.append(0.5 + np.array([*x, *np.negative(y)]) / (2 * _HALF_WORLD_M))
    return extents


class _Drawer:
    """Draws squares of tiles; a context, which closes the class map's levels."""

    def __init__(self, classes: Path, spec: ProductSpec) -> None:
        self._path = classes
        self._pixel_m = _pixel_size_m(spec)
        self._colors = _Palette(spec.model.contract.classes)
        self._levels: dict[int, Any] = {}
        with rasterio.open(classes) as image:
            self._deepest = len(image.overviews(1))

    def __enter__(self) -> _Drawer:
        return self

    def __exit__(self, *_: object) -> None:
        for image in self._levels.values():
            image.close()

    def draw(self, square: _Square) -> Iterator[tuple[int, bytes]]:
        """Ids and PNGs of the tiles that are not empty."""
        transform, side = square.transform, square.side * TILE_PX
        level = math.floor(math.log2(transform.a / self._pixel_m) + _ALMOST)
        with WarpedVRT(
            self._level(min(max(level, 0), self._deepest)),
            crs=WEB_MERCATOR,
            transform=transform,
            width=side,
            height=side,
            resampling=Resampling.nearest,
            src_nodata=0,
            nodata=0,
        ) as warped:
            pixels: npt.NDArray[np.uint8] = warped.read(1)
        for tile_id, col, row in square.tiles():
            tile = pixels[row * TILE_PX : (row + 1) * TILE_PX, col * TILE_PX : (col + 1) * TILE_PX]
            if tile.any() or square.zoom == 0:
                yield tile_id, self._colors.png(tile)

    def _level(self, level: int) -> Any:
        if level not in self._levels:
            options = {} if level == 0 else {"overview_level": level - 1}
            self._levels[level] = rasterio.open(self._path, **options)
        return self._levels[level]


class _Palette:
    """Class values → PNGs of at most 256 colours, of which what is no class is transparent."""

    def __init__(self, classes: tuple[LandCoverClass, ...]) -> None:
        table = palette(classes)[: max(each.value for each in classes) + 1]
        self._rgb = table[:, :3].tobytes()
        self._alpha = table[:, 3].tobytes()

    def png(self, pixels: npt.NDArray[np.uint8]) -> bytes:
        image = Image.fromarray(pixels)
        image.putpalette(self._rgb)
        file = io.BytesIO()
        image.save(file, "PNG", transparency=self._alpha)
        return file.getvalue()


def _pixel_size_m(spec: ProductSpec) -> float:
    """Side of the map's pixels in Web Mercator, which grows towards the poles, at its middle."""
    _, south, _, north = footprint_wgs84(spec).bounds
    lat = math.radians(min(max((south + north) / 2, -_MAX_LAT), _MAX_LAT))
    return spec.grid.gsd_m / math.cos(lat)


def _header(spec: ProductSpec, max_zoom: int) -> dict[str, Any]:
    west, south, east, north = footprint_wgs84(spec).bounds
    south, north = max(south, -_MAX_LAT), min(north, _MAX_LAT)
    corners = {"min_lon": west, "min_lat": south, "max_lon": east, "max_lat": north}
    centre = {"center_lon": (west + east) / 2, "center_lat": (south + north) / 2}
    return {
        "tile_type": TileType.PNG,
        "tile_compression": Compression.NONE,
        "center_zoom": max(max_zoom - _SHARED_ZOOMS, 0),
    } | {f"{name}_e7": round(degrees * 1e7) for name, degrees in (corners | centre).items()}


def _metadata(spec: ProductSpec) -> dict[str, Any]:
    contract = spec.model.contract
    return {
        "name": f"Land cover of {spec.scene.source.title or spec.scene.id}",
        "description": f"Mapped by {contract.name} {contract.version}, {spec.model.digest}",
        "attribution": spec.scene.source.attribution or "",
        "type": "overlay",
        "format": "png",
        "tile_size": TILE_PX,
        "classes": [each.model_dump() for each in contract.classes],
    }
