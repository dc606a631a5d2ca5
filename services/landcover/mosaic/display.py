"""A mosaic as people see it zoomed out: from its images' overviews, and never from too many images at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioError
from rasterio.windows import Window

from landcover.errors import InvalidRequest, SceneTooSlow, SceneUnreadable
from landcover.geotiff.opening import gdal_env, note_failure, open_dataset, took_too_long
from landcover.geotiff.windows import to_uint8
from landcover.mosaic.mosaic import MosaicScene, as_mosaic
from landcover.mosaic.stores import shown
from landcover.mosaic.warping import warped
from landcover.mosaic.windows import MosaicWindows
from landcover.scene import Scene
from landcover.settings import ReadSettings

MAX_IMAGES = 128
"""For one picture: so many files or URLs are opened at most."""

_READING_THREADS = 8

Pixels = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]


class DisplayWindows:
    """`landcover.kinds.Windows` for eyes, not for networks: decimated pixels come from overviews as GDAL picks them."""

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._exact = MosaicWindows(settings)

    def read(self, scene: Scene, decimation: int, rows: tuple[int, int], cols: tuple[int, int]) -> Pixels:
        """Pixels of the grid of `decimation`, to within one of them.

        Raises:
            InvalidRequest: more than `MAX_IMAGES` images would have to be opened.
            SceneUnreadable, SceneTooSlow, SceneChanged, SceneUnsupported: as `MosaicWindows.read`.
        """
        mosaic = as_mosaic(scene)
        k = decimation
        numbers = mosaic.layout.within((rows[0] * k, rows[1] * k), (cols[0] * k, cols[1] * k)).tolist()
        if len(numbers) > MAX_IMAGES:
            raise InvalidRequest(f"{len(numbers)} images would have to be opened, at most {MAX_IMAGES} are: zoom in.")
        if k == 1:
            return self._exact.read(scene, 1, rows, cols)
        pixels = np.zeros((rows[1] - rows[0], cols[1] - cols[0], 3), np.uint8)
        valid = np.zeros(pixels.shape[:2], np.bool_)
        with ThreadPoolExecutor(_READING_THREADS, "display") as pool:
            parts = pool.map(lambda number: self._part(mosaic, number, k, rows, cols), numbers)
            for (part_rows, part_cols), (colours, known) in parts:
                place = (
                    slice(part_rows[0] - rows[0], part_rows[1] - rows[0]),
                    slice(part_cols[0] - cols[0], part_cols[1] - cols[0]),
                )
                new = known & ~valid[place]
                pixels[place][new] = colours[new]
                valid[place] |= known
        return pixels, valid

    def forget(self, scene: Scene) -> None:
        """`landcover.kinds.Windows.forget`."""
        self._exact.forget(scene)

    def _part(
        self, mosaic: MosaicScene, number: int, k: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[tuple[tuple[int, int], tuple[int, int]], Pixels]:
        """Where one image lies in a window, in rows and columns of the decimated grid, and its pixels there."""
        top, bottom, left, right = mosaic.layout.boxes[number].tolist()
        part_rows = max(rows[0], top // k), min(rows[1], -(-bottom // k))
        part_cols = max(cols[0], left // k), min(cols[1], -(-right // k))
        window = Window.from_slices(
            (max(0, part_rows[0] * k - top), min(bottom, part_rows[1] * k) - top),
            (max(0, part_cols[0] * k - left), min(right, part_cols[1] * k) - left),
        )
        shape = part_rows[1] - part_rows[0], part_cols[1] - part_cols[0]
        return (part_rows, part_cols), self._read(mosaic, number, window, shape)

    def _read(self, mosaic: MosaicScene, number: int, window: Window, shape: tuple[int, int]) -> Pixels:
        image = mosaic.member(number)
        begin = time.monotonic()
        with (
            gdal_env(image.source, self._settings),
            open_dataset(image.source, self._settings, version=image.version) as file,
        ):
            dataset = file if mosaic.layout.aligned[number] else warped(file, image)
            try:
                bands = dataset.read(image.bands, window=window, out_shape=(3, *shape))
                mask = dataset.dataset_mask(window=window, out_shape=shape) != 0
            except (RasterioError, ValueError) as error:
                note_failure(image.source)
                where = shown(image.source.location)
                if image.source.is_remote and took_too_long(begin, self._settings):
                    raise SceneTooSlow(f"{where} did not answer within {self._settings.timeout_s:g} s.") from error
                raise SceneUnreadable(f"{where} is truncated or corrupt: a part of it cannot be decoded.") from error
        return to_uint8(bands, mask, image.source.rescale)
