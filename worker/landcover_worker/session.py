"""A model that is loaded, checked and warm, on whatever of this machine runs it best."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from landcover.contract import ModelFile, digest_of
from landcover.errors import InvalidConfiguration, InvalidModel
from landcover_worker.runtimes.base import Runtime, UInt8Array
from landcover_worker.runtimes.choice import load_runtime
from landcover_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


class Session:
    """One model in its runtime. `run` is for one thread: the batching thread's."""

    def __init__(self, model: ModelFile, settings: WorkerSettings) -> None:
        """
        Raises:
            InvalidModel: the runtime cannot load it, or it is not the file that was checked.
            InvalidConfiguration: a GPU or OpenVINO is demanded and cannot be used.
        """
        self.model = model
        try:
            data = model.path.read_bytes()
        except OSError as error:
            raise InvalidModel(f"{model.path} cannot be read ({error.strerror or error}).") from error
        if digest_of(data) != model.digest:
            raise InvalidModel(f"{model.path} was replaced after it was checked; start again.")
        try:
            self._runtime: Runtime = load_runtime(data, model.contract, settings)
        except InvalidConfiguration:
            raise
        except Exception as error:  # runtimes raise types of their own for each fault, none public
            raise InvalidModel(f"{model.path} cannot be loaded: {error}") from error
        self.provider = self._runtime.provider
        """What really runs it: `CUDAExecutionProvider`, `CPUExecutionProvider` or `OpenVINO`."""
        self.max_batch = self._runtime.max_batch

    def run(self, windows: Sequence[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        """Class values and confidence, `(n, height, width)` each, of n windows `(height, width, 3)` of one size."""
        return self._runtime.run(windows)

    def warm_up(self) -> None:
        """Run every size of batch once and check what comes back, so that the first user waits for neither.

        Raises:
            InvalidModel: the outputs are not what the contract says.
        """
        side = self.model.contract.window_px
        values = {0} | {each.value for each in self.model.contract.classes}
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        for count in self._runtime.warm_sizes:
            try:
                classes, confidence = self.run([noise] * count)
            except Exception as error:
                raise InvalidModel(f"{self.model.path} fails on {count} × {side} × {side} px: {error}") from error
            if classes.shape != (count, side, side) or confidence.shape != (count, side, side):
                raise InvalidModel(f"{self.model.path}: outputs are {classes.shape}, the input {side} × {side} px.")
            if odd := set(np.unique(classes).tolist()) - values:
                raise InvalidModel(f"{self.model.path} returns the values {sorted(odd)}, no class of its contract.")
        logger.info("model %s is warm on %s, batches of up to %d", self.model.name, self.provider, self.max_batch)
