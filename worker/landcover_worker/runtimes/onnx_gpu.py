"""ONNX Runtime on a GPU: CUDA's kernels, or TensorRT's engines where a folder for them is set.

Batches have one of few sizes (`padded_size`), each with buffers of its own in pinned memory and on the GPU, so that no
run has a shape that is new to cuDNN or TensorRT, and a captured CUDA graph finds its data where it was.
"""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from landcover.contract import parse_metadata
from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
GPU_BATCH = 8
_OUTPUTS = ("classes", "confidence")
_CUDA_RUNTIME = "libcudart.so.13"
"""Of the CUDA that onnxruntime-gpu is built for; `preload_dlls` has loaded it."""


class OnnxGpu:
    """Batches are padded to one of few sizes: every new shape would cost a search for kernels."""

    def __init__(self, data: bytes, settings: WorkerSettings) -> None:
        """Raises ONNX Runtime's own errors if it cannot load `data`, an ONNX file."""
        self.max_batch = settings.max_batch or GPU_BATCH
        self.warm_sizes = sorted({padded_size(count, self.max_batch) for count in range(1, self.max_batch + 1)})
        providers = [each for each in providers_for(data, settings, self.max_batch) if _is_here(each)]
        if len(providers) > 1:
            ort.preload_dlls()  # CUDA and cuDNN from their wheels, where they are not on the system
        self._session = ort.InferenceSession(data, ort.SessionOptions(), providers=providers)
        self.engine: str = self._session.get_providers()[0]
        """`TensorrtExecutionProvider`, `CUDAExecutionProvider`, or `CPUExecutionProvider` where neither can be used."""
        self.provider = CPU if self.engine == CPU else CUDA
        """What the model runs on; TensorRT's engines run on CUDA, too."""
        self._buffers: dict[tuple[int, ...], _Buffers] = {}

    def run(self, windows: Sequence[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        """`base.Runtime.run`."""
        shape = padded_size(len(windows), self.max_batch), *windows[0].shape
        if shape not in self._buffers:
            device = "cpu" if self.engine == CPU else "cuda"
            self._buffers[shape] = _Buffers(self._session, shape, device, graph_id=len(self._buffers) + 1)
        return self._buffers[shape].run(windows)


class _Buffers:
    """Where batches of one shape lie, in this machine's memory and on the device."""

    def __init__(self, session: ort.InferenceSession, shape: tuple[int, ...], device: str, *, graph_id: int) -> None:
        self._session = session
        self._on_gpu = device == "cuda"
        self._images = np.zeros(shape, np.uint8)
        if self._on_gpu and not pin(self._images):
            logger.warning("windows cannot be kept in pinned memory: copying them to the GPU takes longer")
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.uint8, device, 0)
        self._outputs = {
            name: ort.OrtValue.ortvalue_from_shape_and_type(list(shape[:3]), np.uint8, device, 0) for name in _OUTPUTS
        }
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("image", self._input)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph_id))

    def run(self, windows: Sequence[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        """Classes and confidence of at most as many windows as fit; the rest of the batch is what was there before.

        Raises:
            ValueError: the windows differ in size.
        """
        count = len(windows)
        np.stack(windows, out=self._images[:count])
        self._input.update_inplace(self._images)
        self._session.run_with_iobinding(self._binding, self._options)
        classes, confidence = (self._output(name)[:count] for name in _OUTPUTS)
        return classes, confidence

    def _output(self, name: str) -> UInt8Array:
        """The caller's own: from a GPU it is copied, on the CPU it would be the buffer itself."""
        values: UInt8Array = self._outputs[name].numpy()
        return values if self._on_gpu else values.copy()


def pin(array: UInt8Array) -> bool:
    """Keep `array` where the GPU reads it directly, until it is freed; whether that could be done.

    ONNX Runtime's Python interface has no pinned arrays.
    """
    try:
        cuda = ctypes.CDLL(_CUDA_RUNTIME)
        register, unregister = cuda.cudaHostRegister, cuda.cudaHostUnregister
    except (OSError, AttributeError):
        return False
    register.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
    unregister.argtypes = (ctypes.c_void_p,)
    if register(array.ctypes.data, array.nbytes, 0) != 0:
        return False
    weakref.finalize(array, unregister, array.ctypes.data)
    return True


def providers_for(data: bytes, settings: WorkerSettings, max_batch: int) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers for the model `data` in order of preference, each with its options."""
    graphs = "1" if settings.cuda_graphs else "0"
    cuda = {
        "cudnn_conv_algo_search": "EXHAUSTIVE",  # shapes are few and warmed up: no user waits for the search
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
        "enable_cuda_graph": graphs,
    }
    providers: list[tuple[str, dict[str, str]]] = [(CUDA, cuda), (CPU, {})]
    if settings.tensorrt is not None:
        properties = onnx.load_model_from_string(data).metadata_props
        side = parse_metadata({each.key: each.value for each in properties}, source="the model").window_px
        folder = str(settings.tensorrt)
        tensorrt = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
            "trt_fp16_enable": "1",
            "trt_cuda_graph_enable": graphs,
            # one engine for all sizes of batch: none has it built again
            "trt_profile_min_shapes": f"image:1x{side}x{side}x3",
            "trt_profile_opt_shapes": f"image:{max_batch}x{side}x{side}x3",
            "trt_profile_max_shapes": f"image:{max_batch}x{side}x{side}x3",
        }
        providers.insert(0, (TENSORRT, tensorrt))
    return providers


def _is_here(provider: tuple[str, Any]) -> bool:
    return provider[0] in ort.get_available_providers()


def padded_size(count: int, max_batch: int) -> int:
    """The next power of two, or `max_batch` if that is less: few sizes, and none above what memory was measured for."""
    return int(min(1 << (count - 1).bit_length(), max_batch))
