"""ONNX Runtime on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.settings import WorkerSettings

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
GPU_BATCH = 8


class OnnxGpu:
    """Batches are padded to one of few sizes: every new shape would cost a search for kernels."""

    def __init__(self, data: bytes, settings: WorkerSettings) -> None:
        """Raises ONNX Runtime's own errors if it cannot load `data`, an ONNX file."""
        ort.preload_dlls()  # CUDA and cuDNN from their wheels, where they are not on the system
        cuda = {"cudnn_conv_algo_search": "HEURISTIC", "do_copy_in_default_stream": "1"}
        self._session = ort.InferenceSession(data, ort.SessionOptions(), providers=[(CUDA, cuda), CPU])
        self.provider: str = self._session.get_providers()[0]
        """`CUDAExecutionProvider`, or `CPUExecutionProvider` where the GPU cannot be used."""
        self.max_batch = settings.max_batch or GPU_BATCH
        self.warm_sizes = sorted({padded_size(count, self.max_batch) for count in range(1, self.max_batch + 1)})

    def run(self, windows: Sequence[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        """`base.Runtime.run`."""
        count = len(windows)
        images = np.empty((padded_size(count, self.max_batch), *windows[0].shape), np.uint8)
        for i in range(len(images)):
            images[i] = windows[min(i, count - 1)]
        classes, confidence = self._session.run(["classes", "confidence"], {"image": images})
        return classes[:count], confidence[:count]


def padded_size(count: int, max_batch: int) -> int:
    """The next power of two, or `max_batch` if that is less: few sizes, and none above what memory was measured for."""
    return int(min(1 << (count - 1).bit_length(), max_batch))
