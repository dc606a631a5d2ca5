"""OpenVINO on the CPU; an optional extra, imported only when it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.settings import WorkerSettings, available_cpus

OPENVINO = "OpenVINO"


def import_openvino() -> Any:
    """The module `openvino` without its tools.

    As it comes, importing it imports them as well, which takes a second and reports to its maker over HTTPS.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # fails to import, as it may
    return importlib.import_module("openvino")


class OpenVino:
    """Compiled anew for each shape that comes, of which a worker has `max_batch`.

    One graph for all shapes would be as fast at 32 bits; but of arithmetic in 8 bits (quantized networks, tests' models
    of pixels) OpenVINO 2026.4 then makes noise, without a word. Where the CPU has instructions for bf16, it uses them.
    """

    provider = OPENVINO

    def __init__(self, data: bytes, settings: WorkerSettings) -> None:
        """Raises ImportError where OpenVINO is not installed, and its own errors if it cannot read `data`."""
        self._core = import_openvino().Core()
        self._model = self._core.read_model(data)
        self._properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": settings.cpu_threads or available_cpus(),
            # Two processes whose threads are pinned to the same core would wait for each other.
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: dict[tuple[int, ...], Any] = {}
        self.max_batch = settings.max_batch or 1
        self.warm_sizes = range(1, self.max_batch + 1)

    def run(self, windows: Sequence[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        """`base.Runtime.run`."""
        images = windows[0][np.newaxis] if len(windows) == 1 else np.stack(windows)
        if images.shape not in self._requests:
            self._requests[images.shape] = self._compile(images.shape)
        request = self._requests[images.shape]
        request.infer({"image": images}, share_inputs=True)
        classes, confidence = (request.get_tensor(name).data.copy() for name in ("classes", "confidence"))
        return classes, confidence

    def _compile(self, shape: tuple[int, ...]) -> Any:
        model = self._model.clone()
        model.reshape(list(shape))
        return self._core.compile_model(model, "CPU", self._properties).create_infer_request()


def has_native_bf16() -> bool:
    """Whether this CPU has instructions for bf16 (AVX512-BF16, AMX).

    Raises:
        ImportError: OpenVINO is not installed.
    """
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
