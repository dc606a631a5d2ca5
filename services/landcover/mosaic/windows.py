"""Reading windows of mosaics across the borders of their images."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import numpy.typing as npt

from landcover.decimation import mean_of_valid
from landcover.errors import SceneChanged, SceneUnsupported
from landcover.geotiff import header
from landcover.geotiff.windows import GeoTiffWindows
from landcover.mosaic.describing import forget
from landcover.mosaic.entries import Placement
from landcover.mosaic.gaps import fill_gaps
from landcover.mosaic.headers import read_header
from landcover.mosaic.layout import same_place
from landcover.mosaic.mosaic import MosaicScene, as_mosaic
from landcover.mosaic.stores import shown
from landcover.mosaic.warping import WarpedWindows
from landcover.scene import Scene, SceneSource
from landcover.settings import ReadSettings

_REMOTE_RECHECK_S = 5.0
"""How long an image elsewhere is believed to be the version it was: as `landcover.reading` does."""

_REMEMBERED = 100_000


class MosaicWindows:
    """Reads windows of any number of mosaics, from any number of threads."""

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._aligned = GeoTiffWindows(settings)
        self._warped = WarpedWindows(settings)
        self._lock = threading.Lock()
        self._confirmed: dict[tuple[str, str], float] = {}
        self._compared: set[tuple[str, str]] = set()

    def read(
        self, scene: Scene, decimation: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """`landcover.kinds.Windows.read`: the topmost image with data at each pixel, then means of those.

        Raises:
            SceneChanged: one of the images read is no longer the version that the mosaic was made of.
        """
        mosaic = as_mosaic(scene)
        factor = max((each for each in mosaic.overviews if decimation % each == 0), default=1)
        k = decimation // factor
        native_rows = rows[0] * k, min(rows[1] * k, math.ceil(mosaic.height_px / factor))
        native_cols = cols[0] * k, min(cols[1] * k, math.ceil(mosaic.width_px / factor))
        pixels, valid = self._compose(mosaic, factor, native_rows, native_cols)
        pixels, valid = mean_of_valid(pixels, valid, k)
        return fill_gaps(pixels, valid), valid

    def forget(self, scene: Scene) -> None:
        """`landcover.kinds.Windows.forget`: nothing, since files are known by their own versions."""

    def _compose(
        self, mosaic: MosaicScene, factor: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Pixels of a window at the overview of `factor`."""
        pixels = np.zeros((rows[1] - rows[0], cols[1] - cols[0], 3), np.uint8)
        valid = np.zeros(pixels.shape[:2], np.bool_)
        for number in mosaic.layout.within(_times(rows, factor), _times(cols, factor)):
            box = mosaic.layout.boxes[number] // factor
            part_rows = max(rows[0], int(box[0])), min(rows[1], int(box[1]))
            part_cols = max(cols[0], int(box[2])), min(cols[1], int(box[3]))
            place = (
                slice(part_rows[0] - rows[0], part_rows[1] - rows[0]),
                slice(part_cols[0] - cols[0], part_cols[1] - cols[0]),
            )
            if valid[place].all():
                continue
            inside = (
                (part_rows[0] - int(box[0]), part_rows[1] - int(box[0])),
                (
                    part_cols[0] - int(box[2]),
                    part_cols[1] - int(box[2]),
                ),
            )
            colours, known = self._read_image(mosaic, int(number), factor, *inside)
            new = known & ~valid[place]
            pixels[place][new] = colours[new]
            valid[place] |= known
        return pixels, valid

    def _read_image(
        self, mosaic: MosaicScene, number: int, factor: int, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        image = mosaic.member(number)
        if number in mosaic.declared:
            self._compare(mosaic, image, mosaic.declared[number])
        windows = self._aligned if mosaic.layout.aligned[number] else self._warped
        part = windows.read(image, factor, rows, cols)
        if mosaic.versions[number]:
            self._confirm(mosaic.source, image, windows)
        if part[1].shape != (rows[1] - rows[0], cols[1] - cols[0]):
            raise SceneChanged(f"{shown(image.source.location)} has another size than its mosaic knows; ask again.")
        return part

    def _confirm(self, mosaic: SceneSource, image: Scene, windows: GeoTiffWindows) -> None:
        """Refuse what was read of an image that is no longer the version that the mosaic was made of.

        Raises:
            SceneChanged: it is not.
            SceneUnreadable, SceneTooSlow: it has gone, or its server does not say.
        """
        key = image.source.location, image.version
        remote = image.source.is_remote
        if remote and time.monotonic() - self._confirmed.get(key, -math.inf) < _REMOTE_RECHECK_S:
            return
        if header.version(image.source, self._settings) != image.version:
            windows.forget(image)
            self._confirmed.pop(key, None)
            forget(mosaic)
            raise SceneChanged(f"{shown(image.source.location)} was replaced; ask again for the mosaic's new version.")
        if remote:
            with self._lock:
                if len(self._confirmed) >= _REMEMBERED:
                    self._confirmed.clear()
                self._confirmed[key] = time.monotonic()

    def _compare(self, mosaic: MosaicScene, image: Scene, declared: Placement) -> None:
        """Compare what the list says of an image's place with what the image says, once.

        Raises:
            SceneUnsupported: they differ.
        """
        key = image.source.location, image.version
        if key in self._compared:
            return
        found = read_header(image.source, image.version, self._settings)
        if found.bands != mosaic.bands or found.dtype != mosaic.dtype:
            raise SceneUnsupported(
                f"{shown(image.source.location)} is {found.dtype}, the mosaic's other images are {mosaic.dtype}; "
                "serve them as different scenes."
            )
        if not same_place(found.placement, declared):
            raise SceneUnsupported(
                f"{shown(image.source.location)} lies elsewhere, or is of another size, than its list says "
                "(proj:transform, proj:shape); correct the list, or leave these fields out."
            )
        with self._lock:
            if len(self._compared) >= _REMEMBERED:
                self._compared.clear()
            self._compared.add(key)


def _times(span: tuple[int, int], factor: int) -> tuple[int, int]:
    return span[0] * factor, span[1] * factor
