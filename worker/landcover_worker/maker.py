"""Making one block: take it up, read, infer, store; and say what went wrong when it cannot be made."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Protocol

import numpy as np

from landcover import block
from landcover.contract import ModelFile
from landcover.coordination import Begin, BlockDesk
from landcover.errors import BlockFailed, LandcoverError, SceneChanged, Unavailable
from landcover.grid import BlockIndex, grid_for
from landcover.keys import BlockKey
from landcover.queue import BlockTask
from landcover.reading import SceneReader
from landcover.scene import Scene, SceneSource, current_version, describe
from landcover.settings import ReadSettings
from landcover_worker import metrics
from landcover_worker.batching import UInt8Array
from landcover_worker.supervision import BlocksInHand

logger = logging.getLogger(__name__)


class Network(Protocol):
    """A model behind its batcher."""

    @property
    def model(self) -> ModelFile:
        """The file it was loaded from."""

    def infer(self, image: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        """Class values and confidence `(height, width)` of a window `(height, width, 3)`."""


class BlockMaker:
    """Makes blocks for any number of threads at once."""

    def __init__(
        self,
        *,
        desk: BlockDesk,
        in_hand: BlocksInHand,
        network_of: Callable[[str], Network | None],
        read: ReadSettings,
        max_attempts: int,
    ) -> None:
        self._desk = desk
        self._in_hand = in_hand
        self._network_of = network_of
        self._read = read
        self._reader = SceneReader(read)
        self._max_attempts = max_attempts
        self._describe = lru_cache(maxsize=1024)(self._described)
        self._describing: dict[SceneSource, threading.Lock] = {}

    def make(self, task: BlockTask) -> str:
        """Make the block that `task` names and return how it ended: a label of `metrics.BLOCKS`."""
        key = task.key
        begin = self._desk.begin(key)
        if begin is not Begin.RUN:
            outcome = begin.value
        else:
            with self._in_hand.holding(key):
                outcome = self._attempt(task, key)
        metrics.BLOCKS.labels(outcome).inc()
        return outcome

    def _attempt(self, task: BlockTask, key: BlockKey) -> str:
        attempt = self._desk.count_attempt(key)
        if attempt > self._max_attempts:
            error = BlockFailed(
                f"Block {key.index.row}/{key.index.col} of scene '{key.scene}' failed {self._max_attempts} times and "
                "was set aside; the worker's log has the reason."
            )
            self._desk.bury(key, error)
            logger.error("block %s is a dead letter after %d attempts", key.text, self._max_attempts)
            return "dead"
        try:
            fields = self._compute(task)
        except LandcoverError as error:
            logger.warning("block %s: %s", key.text, error)
            self._desk.fail(key, error)
            self._desk.forget_attempts(key)  # the source or the model is at fault, and may be well again soon
            return "failed"
        except Exception:
            logger.exception("block %s failed (attempt %d)", key.text, attempt)
            self._desk.fail(key, BlockFailed("The worker failed on this block; its log has the reason."))
            return "error"
        with _stage("store"):
            self._desk.finish(key, fields)
        return "made"

    def _compute(self, task: BlockTask) -> dict[str, bytes]:
        """The block's fields.

        Raises:
            LandcoverError: the model is not here, or the scene cannot be read as it was when the task was sent.
        """
        network = self._network_of(task.digest)
        if network is None:
            raise Unavailable(
                f"This worker has no model {task.digest}; give workers the API's models (LANDCOVER_MODELS)."
            )
        contract = network.model.contract
        with self._describing.setdefault(task.source, threading.Lock()):  # one slow server holds up no other scene
            scene = self._describe(task.source, task.version)
        grid = grid_for(scene, contract)
        index = BlockIndex(task.row, task.col)
        if grid.decimation != task.decimation or index not in grid:
            raise SceneChanged(f"Scene '{scene.id}' has another grid than the request was made for; ask again.")
        with _stage("read"):
            window = self._reader.read(scene, grid, index, contract.halo_px)
        if window.valid.any():
            classes, confidence = network.infer(window.image)
            inner = slice(contract.halo_px, contract.halo_px + contract.block_px)
            classes = np.where(window.valid, classes[inner, inner], 0).astype(np.uint8)
            confidence = np.where(window.valid, confidence[inner, inner], 0).astype(np.uint8)
        else:
            classes = confidence = np.zeros((contract.block_px, contract.block_px), np.uint8)
        with _stage("encode"):
            fields = block.encode(classes, confidence, contract.max_value)
        metrics.PIXELS.inc(int(window.valid.sum()))
        return fields

    def _described(self, source: SceneSource, version: str) -> Scene:
        if current_version(source, self._read) != version:
            raise SceneChanged(f"Scene '{source.id}' was replaced; ask again for its new version.")
        return describe(source, version, self._read)


@contextmanager
def _stage(name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    metrics.STAGE_SECONDS.labels(name).observe(time.perf_counter() - begin)
