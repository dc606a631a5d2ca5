"""An XYZ scene as people see it zoomed out: the service's own lower zooms, never thousands of tiles."""

from __future__ import annotations

import math

import numpy as np

from landcover.extract import Box, Extract, empty
from landcover.scene import Scene
from landcover.settings import ReadSettings
from landcover.xyz.matrix import HALF_SIDE_M, TileRange, cover, tile_range
from landcover.xyz.options import XyzOptions
from landcover.xyz.service import Service
from landcover.xyz.tiles import tile_store
from landcover.xyz.windows import addresses, paste

MAX_TILES = 64
"""For one picture; 2048 px a side, the largest, take that many at most."""


def extract(scene: Scene, settings: ReadSettings, box: Box, pixel: float) -> Extract:
    """The part of `scene` inside `box` (EPSG:3857) in pixels of at most `pixel` metres of the CRS, if there are such.

    Where even the service's lowest zoom would take more than `MAX_TILES` there is nothing to see.

    Raises:
        SceneUnreadable, SceneTooSlow: a tile cannot be had.
    """
    service = Service.of(scene.source)
    options, side = service.options, service.options.tilesize
    part = _tiles_for(options, box, pixel)
    if part is None:
        return empty(scene.transform)
    tiles = tile_store(settings).get(service, addresses(part), settings.timeout_s)
    pixels, valid = paste(part, tiles, side)
    transform = part.transform(side)
    return Extract(pixels=pixels, valid=valid & _inside(scene, part, side), transform=transform)


def _tiles_for(options: XyzOptions, box: Box, pixel: float) -> TileRange | None:
    wanted = math.ceil(math.log2(2 * HALF_SIDE_M / (options.tilesize * pixel)) - 0.01)
    for zoom in range(min(max(wanted, options.minzoom), options.zoom), options.minzoom - 1, -1):
        part = _common(tile_range(options, zoom), _covering(box, zoom))
        if part is None or part.cols * part.rows <= MAX_TILES:
            return part
    return None


def _covering(box: Box, zoom: int) -> TileRange:
    """The tiles that cover a box of EPSG:3857."""
    left, bottom, right, top = box
    per_m = 2**zoom / (2 * HALF_SIDE_M)
    return cover(
        zoom,
        (left + HALF_SIDE_M) * per_m,
        (HALF_SIDE_M - top) * per_m,
        (right + HALF_SIDE_M) * per_m,
        (HALF_SIDE_M - bottom) * per_m,
    )


def _common(one: TileRange, other: TileRange) -> TileRange | None:
    col, row = max(one.col, other.col), max(one.row, other.row)
    cols = min(one.col + one.cols, other.col + other.cols) - col
    rows = min(one.row + one.rows, other.row + other.rows) - row
    return TileRange(zoom=one.zoom, col=col, row=row, cols=cols, rows=rows) if cols > 0 and rows > 0 else None


def _inside(scene: Scene, part: TileRange, side: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which pixels' centres lie in the scene: tiles of lower zooms show more than it has."""
    to_scene = ~scene.transform @ part.transform(side)
    cols = to_scene.a * (np.arange(part.cols * side) + 0.5) + to_scene.c
    rows = to_scene.e * (np.arange(part.rows * side) + 0.5) + to_scene.f
    inside: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = np.logical_and.outer(
        (rows >= 0) & (rows < scene.height_px), (cols >= 0) & (cols < scene.width_px)
    )
    return inside
