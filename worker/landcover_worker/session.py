"""An ONNX model ready to run, on the GPU when ONNX Runtime can use one, else on the CPU."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from landcover.contract import ModelFile, digest_of
from landcover.errors import InvalidConfiguration, InvalidModel
from landcover_worker.settings import WorkerSettings, available_cpus

logger = logging.getLogger(__name__)

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
GPU_BATCH = 8


class Session:
    """One model loaded by ONNX Runtime. `run` is for one thread: the batching thread's."""

    def __init__(self, model: ModelFile, settings: WorkerSettings) -> None:
        """
        Raises:
            InvalidModel: ONNX Runtime cannot load it, or it is not the file that was checked.
            InvalidConfiguration: a GPU is demanded and cannot be used.
        """
        self.model = model
        wanted = choose_providers(settings)
        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.cpu_threads or available_cpus()
        try:
            data = model.path.read_bytes()
        except OSError as error:
            raise InvalidModel(f"{model.path} cannot be read ({error.strerror or error}).") from error
        if digest_of(data) != model.digest:
            raise InvalidModel(f"{model.path} was replaced after it was checked; start again.")
        try:
            self._session = ort.InferenceSession(data, options, providers=wanted)
        except Exception as error:  # onnxruntime raises its own types for each fault, none public
            raise InvalidModel(f"{model.path} cannot be loaded by ONNX Runtime: {error}") from error
        self.provider: str = self._session.get_providers()[0]
        """What really runs it, `CUDAExecutionProvider` or `CPUExecutionProvider`."""
        if settings.device == "cuda" and self.provider != CUDA:
            raise InvalidConfiguration("LANDCOVER_WORKER_DEVICE=cuda, but the model fell back to the CPU.")
        self.max_batch = settings.max_batch or (GPU_BATCH if self.provider == CUDA else 1)

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Class values and confidence, `(n, height, width)` each, of `images` `(n, height, width, 3)`.

        On a GPU the batch is padded to a size that `warm_up` has run: every new shape would cost a search for kernels.
        """
        count = len(images)
        if self.provider == CUDA and (padding := padded_size(count, self.max_batch) - count) > 0:
            images = np.concatenate([images, np.repeat(images[-1:], padding, axis=0)])
        classes, confidence = self._session.run(["classes", "confidence"], {"image": images})
        return classes[:count], confidence[:count]

    def warm_up(self) -> None:
        """Run every padded batch size once and check what comes back, so that the first user waits for neither.

        Raises:
            InvalidModel: the outputs are not what the contract says.
        """
        side = self.model.contract.window_px
        values = {0} | {each.value for each in self.model.contract.classes}
        noise = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        for count in sorted({padded_size(count, self.max_batch) for count in range(1, self.max_batch + 1)}):
            try:
                classes, confidence = self.run(np.repeat(noise, count, axis=0))
            except Exception as error:
                raise InvalidModel(f"{self.model.path} fails on {count} × {side} × {side} px: {error}") from error
            if classes.shape != (count, side, side) or confidence.shape != (count, side, side):
                raise InvalidModel(f"{self.model.path}: outputs are {classes.shape}, the input {noise.shape}.")
            if odd := set(np.unique(classes).tolist()) - values:
                raise InvalidModel(f"{self.model.path} returns the values {sorted(odd)}, no class of its contract.")
        logger.info("model %s is warm on %s, batches of up to %d", self.model.name, self.provider, self.max_batch)


def padded_size(count: int, max_batch: int) -> int:
    """The next power of two, or `max_batch` if that is less: few sizes, and none above what memory was measured for."""
    return int(min(1 << (count - 1).bit_length(), max_batch))


def choose_providers(settings: WorkerSettings) -> list[Any]:
    """ONNX Runtime's execution providers in order of preference.

    Raises:
        InvalidConfiguration: a GPU is demanded and there is none to use.
    """
    if settings.device == "cpu":
        return [CPU]
    if CUDA in ort.get_available_providers():
        ort.preload_dlls()  # CUDA and cuDNN from their wheels, where they are not on the system
        return [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "do_copy_in_default_stream": "1"}), CPU]
    if settings.device == "cuda":
        raise InvalidConfiguration(
            "LANDCOVER_WORKER_DEVICE=cuda, but this onnxruntime has no CUDA provider; install `landcover-tiles[gpu]`."
        )
    return [CPU]
