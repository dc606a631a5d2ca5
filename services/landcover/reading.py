"""Reading a block's window and halo from a scene, as the network takes it.

Decimation goes through the overview whose factor divides the grid's, then a k × k mean: a pixel of the grid is
the same whatever window it is read in, which resampling by GDAL to an output shape would not promise.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from concurrent.futures import Future
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

_REMOTE_RECHECK_S = 5.0
"""How long a remote image is believed to be the version it was: a request for each block would slow every read."""

_REMEMBERED_VERSIONS = 1024


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
        self._versions = _RemoteVersions(settings)

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
        if not scene.source.is_remote:
            self._check_version(scene)
        pixels, valid = self._read_patiently(scene, grid.decimation, rows, cols)
        self._check_version(scene)  # overwritten meanwhile? Half of one image and half of another is neither
        beyond = (rows[0] - top, top + side - rows[1]), (cols[0] - left, left + side - cols[1])
        image = np.pad(pixels, (*beyond, (0, 0)), mode="reflect")
        inside = np.pad(valid, beyond, constant_values=False)
        block = slice(halo_px, halo_px + grid.block_px)
        return BlockWindow(image=image, valid=inside[block, block])

    def _check_version(self, scene: Scene) -> None:
        remote = scene.source.is_remote
        current = self._versions.current(scene) if remote else current_version(scene.source, self._settings)
        if current != scene.version:
            raise SceneChanged(f"{public_location(scene.source)} was replaced; ask again for its new version.")

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
        return _mean_of_valid(pixels, mask, k)

    def _open(self, scene: Scene, level: int | None) -> Any:
        files: OrderedDict[tuple[str, str, int, int | None], Any]
        files = self._local.__dict__.setdefault("files", OrderedDict())
        key = self._file_key(scene, level)
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
        if image := files.pop(self._file_key(scene, level), None):
            image.close()
        note_failure(scene.source)

    def _file_key(self, scene: Scene, level: int | None) -> tuple[str, str, int, int | None]:
        path = scene.source.gdal_path
        return path, scene.version, self._versions.replaced(path), level


class _RemoteVersions:
    """What servers say of their images' versions: at most one question for a scene every few seconds.

    A file that is open goes on reading from its URL when the image there is replaced, and would give pieces of both.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[str, str], tuple[float, Future[str]]] = OrderedDict()
        self._replaced: Counter[str] = Counter()

    def current(self, scene: Scene) -> str:
        """The scene's version of late; threads that want to know at once share one question.

        Raises:
            SceneUnreadable, SceneTooSlow: the server does not say.
        """
        key, now = (scene.source.gdal_path, scene.version), time.monotonic()
        with self._lock:
            asked, answer = self._answers.get(key, (-math.inf, Future[str]()))
            mine = now - asked >= _REMOTE_RECHECK_S
            if mine:
                answer = Future()
                self._answers[key] = now, answer
                self._answers.move_to_end(key)
                if len(self._answers) > _REMEMBERED_VERSIONS:
                    self._answers.popitem(last=False)
        if mine:
            try:
                answer.set_result(current_version(scene.source, self._settings))
            except BaseException as error:
                answer.set_exception(error)
            with self._lock:
                if answer.exception() or answer.result() != scene.version:
                    self._answers.pop(key, None)  # not to be believed for long
                if not answer.exception() and answer.result() != scene.version:
                    self._replaced[scene.source.gdal_path] += 1
                    note_failure(scene.source)
        return answer.result()

    def replaced(self, path: str) -> int:
        """How often the image was found replaced: files that were open then are not read again, even if it returns."""
        return self._replaced[path]


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


def _mean_of_valid(
    pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], k: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Means of k × k pixels, and which of them have data: those of which at least half has.

    Where a part has none, only the rest counts: the colour of nodata must not bleed into the scene's edge. Where
    nothing has, one pixel stands for all.
    """
    if k == 1:
        return pixels, mask
    if mask.all():
        means = _mean(pixels, k)
        return means, np.ones(means.shape[:2], np.bool_)
    weights = _sums(mask[..., np.newaxis].view(np.uint8), k)
    sums = _sums(pixels * mask[..., np.newaxis], k)
    means = np.where(weights, (sums + weights // 2) // np.maximum(weights, 1), pixels[::k, ::k]).astype(np.uint8)
    return means, 2 * weights[..., 0] >= k * k


def _mean(pixels: npt.NDArray[np.uint8], k: int) -> npt.NDArray[np.uint8]:
    means: npt.NDArray[np.uint8] = ((_sums(pixels, k) + k * k // 2) // (k * k)).astype(np.uint8)
    return means


def _sums(pixels: npt.NDArray[np.uint8], k: int) -> npt.NDArray[np.uint32]:
    """Sums of k × k pixels of a `(height, width, bands)` array; at the far edges the last row and column repeat."""
    height, width, bands = pixels.shape
    padded = np.pad(pixels, ((0, -height % k), (0, -width % k), (0, 0)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // k, k, padded.shape[1] // k, k, bands)
    sums: npt.NDArray[np.uint32] = blocks.sum(axis=(1, 3), dtype=np.uint32)
    return sums


def _reading_error(scene: Scene, settings: ReadSettings, *, slow: bool) -> Exception:
    where = public_location(scene.source)
    if slow:
        return SceneTooSlow(f"{where} did not answer within {settings.timeout_s:g} s.")
    return SceneUnreadable(
        f"{where} is truncated or corrupt: a part of it cannot be decoded. Replace the file; "
        "the next request reads it anew."
    )
