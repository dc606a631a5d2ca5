"""Reading windows of GeoTIFFs; each thread keeps its own few open files, and all share what they decode.

Decimation goes through the overview whose factor divides the grid's, then a k × k mean: a pixel of the grid is
the same whatever window it is read in, which resampling by GDAL to an output shape would not promise.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioError
from rasterio.windows import Window

from landcover.decimation import mean_of_valid
from landcover.errors import SceneTooSlow, SceneUnreadable
from landcover.geotiff.opening import failures_of, gdal_env, gdal_path, note_failure, open_dataset, took_too_long
from landcover.geotiff.tiles import DecodedTiles, Layout
from landcover.scene import Scene, public_location
from landcover.settings import ReadSettings

_OPEN_PER_THREAD = 8
_REMOTE_RETRY_DELAYS_S = (0.25, 0.75)


class GeoTiffWindows:
    """Reads windows of any number of GeoTIFFs, from any number of threads.

    GDAL releases the GIL while it reads and decodes, but a dataset may be used by one thread at a time.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._local = threading.local()
        self._replaced: Counter[str] = Counter()
        self._tiles = DecodedTiles(settings.tile_cache_bytes)

    def read(
        self, scene: Scene, decimation: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """`landcover.kinds.Windows.read`; tried again when a server fails at once, but not when it is silent."""
        for delay_s in _REMOTE_RETRY_DELAYS_S if scene.source.is_remote else ():
            try:
                return self._read_once(scene, decimation, rows, cols)
            except SceneUnreadable:
                time.sleep(delay_s)
        return self._read_once(scene, decimation, rows, cols)

    def forget(self, scene: Scene) -> None:
        """`landcover.kinds.Windows.forget`: files open now are not read again, even if the image returns."""
        self._replaced[gdal_path(scene.source)] += 1
        note_failure(scene.source)

    def _read_once(
        self, scene: Scene, decimation: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Pixels `(rows, cols, 3)` and validity `(rows, cols)` of a range of the grid inside the scene."""
        level, factor = _overview_for(scene, decimation)
        with gdal_env(scene.source, self._settings):
            name, image = self._named(scene, level)
            if (image.height, image.width) != (-(-scene.height_px // factor), -(-scene.width_px // factor)):
                level, factor = None, 1  # its pixels are no multiples
                name, image = self._named(scene, None)
            k = decimation // factor
            pixels, mask = self._tiles.window(
                name,
                Layout(image_px=(image.height, image.width), tile_px=image.block_shapes[0]),
                (rows[0] * k, min(rows[1] * k, image.height)),
                (cols[0] * k, min(cols[1] * k, image.width)),
                lambda rows, cols: self._decode(scene, level, image, rows, cols),
            )
        return mean_of_valid(pixels, mask, k)

    def _named(self, scene: Scene, level: int | None) -> tuple[Hashable, Any]:
        """An open file, and what its decoded pixels are known by.

        The name is older than the file: what is forgotten between the two is decoded in vain, never kept in error.
        """
        name = *self._file_key(scene, level), failures_of(scene.source), scene.bands, scene.source.rescale
        with self._telling(scene, level):
            return name, self._open(scene, level)

    def _decode(
        self, scene: Scene, level: int | None, image: Any, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        window = Window.from_slices(rows, cols)
        with self._telling(scene, level):
            bands = image.read(scene.bands, window=window)
            mask = image.dataset_mask(window=window) != 0
        return to_uint8(bands, mask, scene.source.rescale)

    @contextlib.contextmanager
    def _telling(self, scene: Scene, level: int | None) -> Iterator[None]:
        """GDAL's errors inside as the scene's, and the file closed after one."""
        begin = time.monotonic()
        try:
            yield
        except (RasterioError, ValueError) as error:
            self._close(scene, level)
            slow = scene.source.is_remote and took_too_long(begin, self._settings)
            raise _reading_error(scene, self._settings, slow=slow) from error

    def _open(self, scene: Scene, level: int | None) -> Any:
        files: OrderedDict[tuple[object, ...], Any]
        files = self._local.__dict__.setdefault("files", OrderedDict())
        key = self._file_key(scene, level)
        if key in files:
            files.move_to_end(key)
            return files[key]
        image = files[key] = self._open_file(scene, level)
        if len(files) > _OPEN_PER_THREAD:
            files.popitem(last=False)[1].close()
        return image

    def _open_file(self, scene: Scene, level: int | None) -> Any:
        options = {} if level is None else {"overview_level": level}
        return open_dataset(scene.source, self._settings, version=scene.version, **options)

    def _close(self, scene: Scene, level: int | None) -> None:
        """Close a file that failed: GDAL keeps what it has half read."""
        files = self._local.__dict__.get("files", {})
        if image := files.pop(self._file_key(scene, level), None):
            image.close()
        note_failure(scene.source)

    def _file_key(self, scene: Scene, level: int | None) -> tuple[object, ...]:
        path = gdal_path(scene.source)
        return path, scene.version, self._replaced[path], level


def _overview_for(scene: Scene, decimation: int) -> tuple[int | None, int]:
    """(index, factor) of the coarsest overview whose factor divides `decimation`; (None, 1) without one."""
    fitting = [(factor, i) for i, factor in enumerate(scene.overviews) if decimation % factor == 0]
    factor, level = max(fitting, default=(1, None))
    return level, factor


def to_uint8(
    bands: npt.NDArray[Any], mask: npt.NDArray[np.bool_], rescale: tuple[float, float] | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Bands `(3, height, width)` of any dtype as uint8 `(height, width, 3)`; NaN counts as no data."""
    if rescale is not None:
        low, high = rescale
        scaled = (bands.astype(np.float32) - low) * np.float32(255 / (high - low))
        mask = mask & np.isfinite(scaled).all(axis=0)
        bands = np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)
    return np.stack(list(bands), axis=-1), mask  # five times as fast as a contiguous copy of `moveaxis`


def _reading_error(scene: Scene, settings: ReadSettings, *, slow: bool) -> Exception:
    where = public_location(scene.source)
    if slow:
        return SceneTooSlow(f"{where} did not answer within {settings.timeout_s:g} s.")
    return SceneUnreadable(
        f"{where} is truncated or corrupt: a part of it cannot be decoded. Replace the file; "
        "the next request reads it anew."
    )
