"""Which runtime a machine gives a model: the GPU when it has one, else the CPU, by the runtime that is faster there."""

from __future__ import annotations

import importlib.util
import logging

import numpy as np
import onnxruntime as ort

from landcover.contract import Contract
from landcover.demo import DEMO_SEED, draw
from landcover.errors import InvalidConfiguration
from landcover_worker.runtimes.base import Runtime
from landcover_worker.runtimes.onnx_cpu import OnnxCpu
from landcover_worker.runtimes.onnx_gpu import CUDA, OnnxGpu
from landcover_worker.runtimes.openvino import OpenVino, has_native_bf16
from landcover_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

MIN_EQUAL_SHARE = {"fp32": 0.999, "fp16": 0.999, "int8": 0.98}
"""Share of a window's pixels, by the weights' precision, that must have the same class in OpenVINO and in ONNX Runtime.

Measured: 0.9999997 at 32 bits, 0.9996 with bf16. Of 8 bits the two round differently: 0.982 to 0.999, and 0.15 where
something is wrong."""


def load_runtime(data: bytes, contract: Contract, settings: WorkerSettings) -> Runtime:
    """The best that this machine has for `data`, an ONNX file that has this contract.

    Raises:
        InvalidConfiguration: a GPU or OpenVINO is demanded and there is none to use.
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
    return _on_cpu(data, contract, settings)


def _on_cpu(data: bytes, contract: Contract, settings: WorkerSettings) -> Runtime:
    installed = importlib.util.find_spec("openvino") is not None
    if settings.runtime == "openvino":
        if not installed:
            raise InvalidConfiguration(
                "LANDCOVER_WORKER_RUNTIME=openvino, but it is not installed; install `landcover-tiles[openvino]`."
            )
        try:
            return OpenVino(data, settings)
        except ImportError as error:
            raise InvalidConfiguration(f"OpenVINO is installed, but cannot be loaded: {error}") from error
    plain = OnnxCpu(data, settings)
    if settings.runtime == "onnxruntime" or not installed:
        return plain
    return _faster(data, contract, settings, plain) or plain


def _faster(data: bytes, contract: Contract, settings: WorkerSettings, plain: Runtime) -> Runtime | None:
    """OpenVINO, where it is faster than `plain` and gives the same classes; else the log says why not."""
    try:
        if contract.precision != "int8" and not has_native_bf16():
            return None  # at 32 bits the two are equally fast: see docs/benchmarks.md
        faster = OpenVino(data, settings)
        share = equal_share(faster, plain, contract.window_px)
    except Exception as error:  # OpenVINO's own, of no public type; ONNX Runtime has just loaded the file
        logger.warning("OpenVINO cannot run %s, ONNX Runtime does: %s", contract.name, error)
        return None
    if share < MIN_EQUAL_SHARE[contract.precision]:
        logger.warning(
            "OpenVINO gives %.2f %% of the pixels the class that ONNX Runtime does, too few: ONNX Runtime runs %s",
            100 * share,
            contract.name,
        )
        return None
    logger.info("OpenVINO runs %s; %.3f %% of the pixels have ONNX Runtime's class", contract.name, 100 * share)
    return faster


def equal_share(one: Runtime, other: Runtime, side_px: int) -> float:
    """Share of the pixels of a drawn window to which the two give the same class.

    Drawn and not noise: to noise a network gives few classes, and some wrong arithmetic the same ones.
    """
    window, _ = draw(DEMO_SEED, side_px, side_px)
    return float(np.mean(one.run([window])[0] == other.run([window])[0]))
