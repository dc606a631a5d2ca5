"""Making one block: take it up, read, infer, store; and say what went wrong when it cannot be made."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
import redis

from landcover import block, tracing
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
from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.supervision import BlockInHand, BlocksInHand

logger = logging.getLogger(__name__)


class Network(Protocol):
    """A model behind its batcher."""

    @property
    def model(self) -> ModelFile:
        """The file it was loaded from."""

    def infer(
        self, image: UInt8Array, *, on_start: Callable[[], None], alone: bool, urgent: bool
    ) -> tuple[UInt8Array, UInt8Array]:
        """`Batcher.infer`."""


@dataclass(frozen=True)
class Made:
    """A block, not yet stored."""

    fields: dict[str, bytes]
    pixels: int
    """Of the scene, not counting what is outside it or has no data."""


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

    def make(self, task: BlockTask, *, urgent: bool = True) -> str:
        """Make the block that `task` names and return how it ended: a label of `metrics.BLOCKS`.

        `urgent` is what a person waits for; the network takes it before what is not.
        """
        try:
            outcome = self._take_up(task, task.key, urgent=urgent)
        except redis.RedisError as error:  # the lease lapses; whoever still waits has it made again
            logger.warning("block %s: the cache or the broker cannot be used: %s", task.key.text, error)
            outcome = "unstored"
        metrics.BLOCKS.labels(outcome).inc()
        logger.debug("block %s: %s", task.key.text, outcome)
        return outcome

    def _take_up(self, task: BlockTask, key: BlockKey, *, urgent: bool) -> str:
        begin = self._desk.begin(key)
        if begin is not Begin.RUN:
            return begin.value
        with self._in_hand.holding(key) as held:
            attempt = self._desk.count_attempt(key)
            metrics.ATTEMPTS.inc()
            try:
                return self._attempt(task, held, attempt, urgent=urgent)
            except redis.RedisError:
                self._desk.uncount_attempts([key])
                raise

    def _attempt(self, task: BlockTask, held: BlockInHand, attempt: int, *, urgent: bool) -> str:
        key = held.key
        if attempt > self._max_attempts:
            error = BlockFailed(
                f"Block {key.index.row}/{key.index.col} of scene '{key.scene}' failed {self._max_attempts} times and "
                "was set aside; the worker's log has the reason."
            )
            self._desk.bury(key, task.model_dump(mode="json"), error)
            metrics.DEAD_LETTERS.inc()
            logger.error("block %s is a dead letter after %d attempts", key.text, self._max_attempts)
            return "dead"
        try:
            made = self._compute(task, held, alone=attempt > 1, urgent=urgent)
        except LandcoverError as error:
            logger.warning("block %s: %s", key.text, error)
            self._desk.fail(key, error)
            self._desk.forget_attempts(key)  # the source or the model is at fault, and may be well again soon
            return "failed"
        except Exception:
            logger.exception("block %s failed (attempt %d)", key.text, attempt)
            self._desk.fail(key, BlockFailed("The worker failed on this block; its log has the reason."))
            return "error"
        with _stage(held, "store"):
            self._desk.finish(key, made.fields)
        metrics.PIXELS.inc(made.pixels)
        return "made"

    def _compute(self, task: BlockTask, held: BlockInHand, *, alone: bool, urgent: bool) -> Made:
        """The block; `alone` keeps one that may hang the network from taking others with it.

        Raises:
            LandcoverError: the model is not here, or the scene cannot be read as it was when the task was sent.
        """
        network = self._network_of(task.digest)
        if network is None:
            raise Unavailable(
                f"This worker has no model {task.digest}; give workers the API's models (LANDCOVER_MODELS)."
            )
        contract = network.model.contract
        held.wait()
        with self._describing.setdefault(task.source, threading.Lock()):  # one slow server holds up no other scene
            held.enter("describe")
            with tracing.span("describe"):
                scene = self._describe(task.source, task.version)
        grid = grid_for(scene, contract)
        index = BlockIndex(task.row, task.col)
        if grid.decimation != task.decimation or index not in grid:
            raise SceneChanged(f"Scene '{scene.id}' has another grid than the request was made for; ask again.")
        with _stage(held, "read"):
            window = self._reader.read(scene, grid, index, contract.halo_px)
        if window.valid.any():
            held.wait()
            with tracing.span("infer"):
                classes, confidence = network.infer(
                    window.image, on_start=partial(held.enter, "infer"), alone=alone, urgent=urgent
                )
            inner = slice(contract.halo_px, contract.halo_px + contract.block_px)
            classes, confidence = classes[inner, inner], confidence[inner, inner]
            if not window.valid.all():
                classes, confidence = (each * window.valid for each in (classes, confidence))
        else:
            classes = confidence = np.zeros((contract.block_px, contract.block_px), np.uint8)
        with _stage(held, "encode"):
            fields = block.encode(classes, confidence, contract.max_value)
        return Made(fields, int(window.valid.sum()))

    def _described(self, source: SceneSource, version: str) -> Scene:
        if current_version(source, self._read) != version:
            raise SceneChanged(f"Scene '{source.id}' was replaced; ask again for its new version.")
        return describe(source, version, self._read)


@contextmanager
def _stage(held: BlockInHand, name: str) -> Iterator[None]:
    held.enter(name)
    begin = time.perf_counter()
    with tracing.span(name):
        yield
    metrics.STAGE_SECONDS.labels(name).observe(time.perf_counter() - begin)
