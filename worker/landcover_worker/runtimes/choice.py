"""Which runtime a machine gives a model: the GPU when it has one, else the CPU."""

from __future__ import annotations

import logging

import onnxruntime as ort

from landcover.errors import InvalidConfiguration
from landcover_worker.runtimes.base import Runtime
from landcover_worker.runtimes.onnx_cpu import OnnxCpu
from landcover_worker.runtimes.onnx_gpu import CUDA, OnnxGpu
from landcover_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


def load_runtime(data: bytes, settings: WorkerSettings) -> Runtime:
    """The best that this machine has for `data`, an ONNX file.

    Raises:
        InvalidConfiguration: a GPU is demanded and there is none to use.
        Exception: of the runtime's own, if it cannot load the file.
    """
    if settings.device != "cpu" and CUDA in ort.get_available_providers():
        gpu = OnnxGpu(data, settings)
        if gpu.provider == CUDA:
            return gpu
        if settings.device == "cuda":
            raise InvalidConfiguration("LANDCOVER_WORKER_DEVICE=cuda, but the model fell back to the CPU.")
        logger.warning("ONNX Runtime has a CUDA provider, but cannot use a GPU here: the CPU runs the model")
    elif settings.device == "cuda":
        raise InvalidConfiguration(
            "LANDCOVER_WORKER_DEVICE=cuda, but this onnxruntime has no CUDA provider; install `landcover-tiles[gpu]`."
        )
    return OnnxCpu(data, settings)
