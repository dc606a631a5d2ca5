"""The ways in which a CPU can run a model, each one setting away from ONNX Runtime or OpenVINO as they come.

For `cpu_runtimes`, which measures them. What a worker uses is in `runtimes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.runtimes.openvino import import_openvino

Run = Callable[[UInt8Array], tuple[UInt8Array, UInt8Array]]
"""A window `(height, width, 3)` → its class values and confidence, `(height, width)` each."""
OUTPUTS = ["classes", "confidence"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of running a model."""

    name: str
    load: Callable[[bytes, int], Run]
    """From an ONNX file's bytes and the side of the windows in pixels; raises whatever the runtime does."""


def all_ways(cores: int, others: Mapping[str, bytes]) -> list[Way]:
    """Every way, the one that the others are compared with first.

    Args:
        cores: how many threads the runtimes may use.
        others: files of the same model in another form (8 bits, …) by name, for both runtimes as they come.
    """
    ways = [*_onnxruntime(cores), *_openvino(cores)]
    for name, data in others.items():
        ways.append(Way(name=f"onnxruntime, {name}", load=_of(data, _onnx(cores))))
        ways.append(Way(name=f"openvino, {name}", load=_of(data, _vino(cores))))
    return ways


def _onnxruntime(cores: int) -> list[Way]:
    level = ort.GraphOptimizationLevel
    loads: dict[str, Callable[[bytes, int], Run]] = {
        "as it comes": _onnx(cores),
        **{f"{count} of {cores} threads": _onnx(count) for count in range(1, cores)},
        f"{cores + 1} threads": _onnx(cores + 1),
        "threads do not spin": _onnx(cores, {"session.intra_op.allow_spinning": "0"}),
        "threads spin 100 µs": _onnx(cores, {"session.intra_op.spin_duration_us": "100"}),
        "threads stop spinning after a run": _onnx(cores, {"session.force_spinning_stop": "1"}),
        "work in ever smaller parts": _onnx(cores, {"session.dynamic_block_base": "4"}),
        "two operators at once": _onnx(cores, execution_mode=ort.ExecutionMode.ORT_PARALLEL),
        "no arena": _onnx(cores, enable_cpu_mem_arena=False),
        "no memory pattern": _onnx(cores, enable_mem_pattern=False),
        "fixed shape": _onnx(cores, fixed=True),
        "denormals are zero": _onnx(cores, {"session.set_denormal_as_zero": "1"}),
        "depthwise by sliding": _onnx(cores, {"mlas.nchwc_depthwise_sliding": "1"}),
        "graph not optimised": _onnx(cores, graph_optimization_level=level.ORT_DISABLE_ALL),
        "graph optimised, basic": _onnx(cores, graph_optimization_level=level.ORT_ENABLE_BASIC),
        "graph optimised, extended": _onnx(cores, graph_optimization_level=level.ORT_ENABLE_EXTENDED),
        "channels last": _onnx(cores, disabled=["NchwcTransformer"]),
    }
    return [Way(name=f"onnxruntime, {name}", load=load) for name, load in loads.items()]


def _openvino(cores: int) -> list[Way]:
    loads = {
        "as it comes": _vino(cores),
        **{f"{count} of {cores} threads": _vino(count) for count in range(1, cores)},
        "any shape": _vino(cores, fixed=False),
        "bf16": _vino(cores, {"INFERENCE_PRECISION_HINT": "bf16"}),
        "fp16": _vino(cores, {"INFERENCE_PRECISION_HINT": "f16"}),
        "hint: throughput": _vino(cores, {"PERFORMANCE_HINT": "THROUGHPUT"}),
        "threads pinned": _vino(cores, {"ENABLE_CPU_PINNING": True}),
        "denormals are zero": _vino(cores, {"CPU_DENORMALS_OPTIMIZATION": True}),
    }
    return [Way(name=f"openvino, {name}", load=load) for name, load in loads.items()]


def _of(data: bytes, load: Callable[[bytes, int], Run]) -> Callable[[bytes, int], Run]:
    """`load`, but of another file."""
    return lambda _, side_px: load(data, side_px)


def _onnx(
    threads: int,
    entries: Mapping[str, str] | None = None,
    *,
    fixed: bool = False,
    disabled: list[str] | None = None,
    **attributes: Any,
) -> Callable[[bytes, int], Run]:
    """ONNX Runtime with these options: `entries` of its configuration, `attributes` of `SessionOptions`."""

    def load(data: bytes, side_px: int) -> Run:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        for key, value in (entries or {}).items():
            options.add_session_config_entry(key, value)
        for name, value in attributes.items():
            setattr(options, name, value)
        if fixed:
            for axis, size in {"N": 1, "H": side_px, "W": side_px}.items():
                options.add_free_dimension_override_by_name(axis, size)
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)

        def run(window: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
            classes, confidence = session.run(OUTPUTS, {"image": window[np.newaxis]})
            return classes[0], confidence[0]

        return run

    return load


def _vino(
    threads: int, properties: Mapping[str, Any] | None = None, *, fixed: bool = True
) -> Callable[[bytes, int], Run]:
    """OpenVINO with these `properties`; with `fixed` compiled for one shape."""

    def load(data: bytes, side_px: int) -> Run:
        core = import_openvino().Core()
        model = core.read_model(data)
        if fixed:
            model.reshape([1, side_px, side_px, 3])
        wanted = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **(properties or {})}
        compiled = core.compile_model(model, "CPU", wanted)
        if (hint := wanted.get("INFERENCE_PRECISION_HINT")) and (
            has := compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        ) != hint:
            raise RuntimeError(f"this CPU computes in {has}")
        request = compiled.create_infer_request()

        def run(window: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
            request.infer({"image": window[np.newaxis]}, share_inputs=True)
            classes, confidence = (request.get_tensor(name).data[0].copy() for name in OUTPUTS)
            return classes, confidence

        return run

    return load
