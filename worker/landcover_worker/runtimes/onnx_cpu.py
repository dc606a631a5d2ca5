"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.settings import WorkerSettings, available_cpus

CPU = "CPUExecutionProvider"


class OnnxCpu:
    """One window at a time unless told otherwise: batching was measured to lose.

    ONNX Runtime's own options stay as they come, but for the threads. Measured (`cpu_runtimes`): without its arena a
    window takes 1.4 times as long, on more threads than cores 1.7, and none of those that concern spinning, memory
    patterns, fixed shapes or the layout of convolutions gains anything.
    """

    provider = CPU

    def __init__(self, data: bytes, settings: WorkerSettings) -> None:
        """Raises ONNX Runtime's own errors if it cannot load `data`, an ONNX file."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.cpu_threads or available_cpus()
        self._session = ort.InferenceSession(data, options, providers=[CPU])
        self.max_batch = settings.max_batch or 1
        self.warm_sizes = range(1, self.max_batch + 1)

    def run(self, windows: Sequence[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        """`base.Runtime.run`."""
        images = windows[0][np.newaxis] if len(windows) == 1 else np.stack(windows)
        classes, confidence = self._session.run(["classes", "confidence"], {"image": images})
        return classes, confidence
