"""Reading a block's window and halo from a scene, as the network takes it, whatever kind of scene it is."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcover.errors import SceneChanged
from landcover.grid import BlockIndex, Grid
from landcover.kinds import Kind, Windows, kind_of
from landcover.scene import Scene, SceneSource, current_version, public_location
from landcover.settings import ReadSettings

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
    """Reads windows of any number of scenes, from any number of threads."""

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._versions = _RemoteVersions(settings)
        self._lock = threading.Lock()
        self._windows: dict[Kind, Windows] = {}

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
        kind = kind_of(scene.source)
        if kind.version_is_instant(scene.source):
            self._check_version(scene)
        pixels, valid = self._windows_of(kind).read(scene, grid.decimation, rows, cols)
        self._check_version(scene)  # overwritten meanwhile? Half of one image and half of another is neither
        beyond = (rows[0] - top, top + side - rows[1]), (cols[0] - left, left + side - cols[1])
        if any(map(any, beyond)):  # padding copies a window even by nothing
            pixels = np.pad(pixels, (*beyond, (0, 0)), mode="reflect")
            valid = np.pad(valid, beyond, constant_values=False)
        block = slice(halo_px, halo_px + grid.block_px)
        return BlockWindow(image=pixels, valid=valid[block, block])

    def _check_version(self, scene: Scene) -> None:
        kind = kind_of(scene.source)
        instant = kind.version_is_instant(scene.source)
        current = current_version(scene.source, self._settings) if instant else self._versions.current(scene)
        if current != scene.version:
            self._windows_of(kind).forget(scene)
            raise SceneChanged(f"{public_location(scene.source)} was replaced; ask again for its new version.")

    def _windows_of(self, kind: Kind) -> Windows:
        with self._lock:
            if kind not in self._windows:
                self._windows[kind] = kind.windows(self._settings)
            return self._windows[kind]


class _RemoteVersions:
    """What servers say of their images' versions: at most one question for a scene every few seconds.

    A file that is open goes on reading from its URL when the image there is replaced, and would give pieces of both.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[SceneSource, str], tuple[float, Future[str]]] = OrderedDict()

    def current(self, scene: Scene) -> str:
        """The scene's version of late; threads that want to know at once share one question.

        Raises:
            SceneUnreadable, SceneTooSlow: the server does not say.
        """
        key, now = (scene.source, scene.version), time.monotonic()
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
        return answer.result()
