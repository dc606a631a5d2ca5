"""Reading a block's window and halo from a scene, as the network takes it.

Decimation goes through the overview whose factor divides the grid's, then a k × k mean: a pixel of the grid is
the same whatever window it is read in, which resampling by GDAL to an output shape would not promise.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioError
from rasterio.windows import Window

from landcover.errors import SceneChanged, SceneTooSlow, SceneUnreadable
from landcover.grid import BlockIndex, Grid
from landcover.scene import (
    Scene,
    current_version,
    gdal_env,
    note_failure,
    open_dataset,
    public_location,
    took_too_long,
)
from landcover.settings import ReadSettings

_OPEN_PER_THREAD = 8
_REMOTE_RETRY_DELAYS_S = (0.25, 0.75)


@dataclass(frozen=True, kw_only=True)
class BlockWindow:
    """What the network sees of a block."""

    image: npt.NDArray[np.uint8]
    """`(block + 2 halo, block + 2 halo, 3)`; past the scene's edge it is mirrored, never black."""
    valid: npt.NDArray[np.bool_]
    """`(block, block)`, without halo: True where the scene has data (numpy masks mean the opposite)."""


class SceneReader:
    """Reads windows of any number of scenes; each thread keeps its own few open files.

    GDAL releases the GIL while it reads and decodes, but a dataset may be used by one thread at a time.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._local = threading.local()

    def read(self, scene: Scene, grid: Grid, index: BlockIndex, halo_px: int) -> BlockWindow:
        """The window of block `index`, with its halo.

        Raises:
            SceneChanged: the file is no longer `scene.version`.
            SceneUnreadable, SceneTooSlow: it cannot be read.
        """
        top, left = index.row * grid.block_px - halo_px, index.col * grid.block_px - halo_px
        side = grid.block_px + 2 * halo_px
        rows = max(0, top), min(grid.height_px, top + side)
        cols = max(0, left), min(grid.width_px, left + side)
        self._check_version(scene)
        pixels, valid = self._read_patiently(scene, grid.decimation, rows, cols)
        if not scene.source.is_remote:
            self._check_version(scene)  # overwritten meanwhile? Half of one image and half of another is neither
        beyond = (rows[0] - top, top + side - rows[1]), (cols[0] - left, left + side - cols[1])
        image = np.pad(pixels, (*beyond, (0, 0)), mode="reflect")
        inside = np.pad(valid, beyond, constant_values=False)
        block = slice(halo_px, halo_px + grid.block_px)
        return BlockWindow(image=image, valid=inside[block, block])

    def _check_version(self, scene: Scene) -> None:
        if not scene.source.is_remote and current_version(scene.source, self._settings) != scene.version:
            raise SceneChanged(f"{scene.source.location} was replaced; ask again for its new version.")

    def _read_patiently(
        self, scene: Scene, decimation: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """`_read_decimated`, tried again when a server fails at once; one that is silent is not asked twice."""
        for delay_s in _REMOTE_RETRY_DELAYS_S if scene.source.is_remote else ():
            try:
                return self._read_decimated(scene, decimation, rows, cols)
            except SceneUnreadable:
                time.sleep(delay_s)
        return self._read_decimated(scene, decimation, rows, cols)

    def _read_decimated(
        self, scene: Scene, decimation: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Pixels `(rows, cols, 3)` and validity `(rows, cols)` of a range of the grid inside the scene."""
        level, factor = _overview_for(scene, decimation)
        begin = time.monotonic()
        with gdal_env(scene.source, self._settings):
            try:
                image = self._open(scene, level)
                if (image.height, image.width) != (-(-scene.height_px // factor), -(-scene.width_px // factor)):
                    image, level, factor = self._open(scene, None), None, 1  # its pixels are no multiples
                k = decimation // factor
                window = Window.from_slices(
                    (rows[0] * k, min(rows[1] * k, image.height)),
                    (cols[0] * k, min(cols[1] * k, image.width)),
                )
                bands = image.read(scene.bands, window=window)
                mask = image.dataset_mask(window=window) != 0
            except (RasterioError, ValueError) as error:
                self._forget(scene, level)
                slow = scene.source.is_remote and took_too_long(begin, self._settings)
                raise _reading_error(scene, self._settings, slow=slow) from error
        pixels, mask = _to_uint8(bands, mask, scene.source.rescale)
        return _mean(pixels, k), _mean(mask[..., np.newaxis].view(np.uint8) * np.uint8(255), k)[..., 0] > 127

    def _open(self, scene: Scene, level: int | None) -> Any:
        files: OrderedDict[tuple[str, str, int | None], Any]
        files = self._local.__dict__.setdefault("files", OrderedDict())
        key = (scene.source.gdal_path, scene.version, level)
        if key in files:
            files.move_to_end(key)
            return files[key]
        options = {} if level is None else {"overview_level": level}
        image = files[key] = open_dataset(scene.source, self._settings, version=scene.version, **options)
        if len(files) > _OPEN_PER_THREAD:
            files.popitem(last=False)[1].close()
        return image

    def _forget(self, scene: Scene, level: int | None) -> None:
        """Close a file that failed: GDAL keeps what it has half read."""
        files = self._local.__dict__.get("files", {})
        if image := files.pop((scene.source.gdal_path, scene.version, level), None):
            image.close()
        note_failure(scene.source)


def _overview_for(scene: Scene, decimation: int) -> tuple[int | None, int]:
    """(index, factor) of the coarsest overview whose factor divides `decimation`; (None, 1) without one."""
    fitting = [(factor, i) for i, factor in enumerate(scene.overviews) if decimation % factor == 0]
    factor, level = max(fitting, default=(1, None))
    return level, factor


def _to_uint8(
    bands: npt.NDArray[Any], mask: npt.NDArray[np.bool_], rescale: tuple[float, float] | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Bands `(3, height, width)` of any dtype as uint8 `(height, width, 3)`; NaN counts as no data."""
    if rescale is not None:
        low, high = rescale
        scaled = (bands.astype(np.float32) - low) * np.float32(255 / (high - low))
        mask = mask & np.isfinite(scaled).all(axis=0)
        bands = np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(bands, 0, -1)), mask


def _mean(pixels: npt.NDArray[np.uint8], k: int) -> npt.NDArray[np.uint8]:
    """Means of k × k pixels of a `(height, width, bands)` array; the last row and column may hold fewer."""
    if k == 1:
        return pixels
    height, width, bands = pixels.shape
    padded = np.pad(pixels, ((0, -height % k), (0, -width % k), (0, 0)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // k, k, padded.shape[1] // k, k, bands)
    total = blocks.sum(axis=(1, 3), dtype=np.uint32)
    means: npt.NDArray[np.uint8] = ((total + k * k // 2) // (k * k)).astype(np.uint8)
    return means


def _reading_error(scene: Scene, settings: ReadSettings, *, slow: bool) -> Exception:
    where = public_location(scene.source)
    if slow:
        return SceneTooSlow(f"{where} did not answer within {settings.timeout_s:g} s.")
    return SceneUnreadable(
        f"{where} is truncated or corrupt: a part of it cannot be decoded. Replace the file; "
        "the next request reads it anew."
    )
