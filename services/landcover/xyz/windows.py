"""Windows of XYZ scenes: the tiles they touch, pasted together. GDAL has no part in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landcover.decimation import mean_of_valid
from landcover.errors import SceneUnsupported
from landcover.scene import Scene
from landcover.settings import ReadSettings
from landcover.xyz.decoding import Tile
from landcover.xyz.matrix import TileAddress, TileRange, tile_range
from landcover.xyz.service import Service
from landcover.xyz.tiles import tile_store

MAX_TILES = 400
"""For one window; at 20 a second they take 20 s."""

_WINDOW_TIMEOUTS = 4
"""A window may take so many times `ReadSettings.timeout_s`, and stays under the worker's hard limit."""


class XyzWindows:
    """Reads windows of any number of XYZ scenes, from any number of threads."""

    def __init__(self, settings: ReadSettings) -> None:
        self._tiles = tile_store(settings)
        self._within_s = _WINDOW_TIMEOUTS * settings.timeout_s

    def read(
        self, scene: Scene, decimation: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """`landcover.kinds.Windows.read`."""
        service = Service.of(scene.source)
        top, bottom = rows[0] * decimation, min(rows[1] * decimation, scene.height_px)
        left, right = cols[0] * decimation, min(cols[1] * decimation, scene.width_px)
        side = service.options.tilesize
        whole = tile_range(service.options)
        part = TileRange(
            zoom=whole.zoom,
            col=whole.col + left // side,
            row=whole.row + top // side,
            cols=-(-right // side) - left // side,
            rows=-(-bottom // side) - top // side,
        )
        if part.cols * part.rows > MAX_TILES:
            raise SceneUnsupported(
                f"A block of scene '{scene.id}' at {decimation} pixels in one needs {part.cols * part.rows} tiles (at "
                f"most {MAX_TILES}); name a lower zoom of the service, nearer to what the model was trained for."
            )
        tiles = self._tiles.get(service, addresses(part), self._within_s)
        pixels, valid = paste(part, tiles, side)
        inside = (
            slice(top - (top // side) * side, bottom - (top // side) * side),
            slice(left - (left // side) * side, right - (left // side) * side),
        )
        return mean_of_valid(pixels[inside], valid[inside], decimation)

    def forget(self, scene: Scene) -> None:
        """Nothing to do: another version has other names."""


def addresses(part: TileRange) -> list[TileAddress]:
    """Every tile of a range, row by row."""
    return [
        TileAddress(part.zoom, part.col + col, part.row + row) for row in range(part.rows) for col in range(part.cols)
    ]


def paste(
    part: TileRange, tiles: dict[TileAddress, Tile | None], side: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Tiles of `side` px, side by side: pixels `(height, width, 3)`, black where there are none, and validity."""
    pixels = np.zeros((part.rows * side, part.cols * side, 3), np.uint8)
    valid = np.zeros(pixels.shape[:2], np.bool_)
    for address, tile in tiles.items():
        if tile is None:
            continue
        row, col = (address.row - part.row) * side, (address.col - part.col) * side
        place = slice(row, row + side), slice(col, col + side)
        pixels[place] = tile.pixels
        valid[place] = True if tile.valid is None else tile.valid
    return pixels, valid
