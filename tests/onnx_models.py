"""ONNX models made by code, whose answer for every pixel is known: for tests where the exact map matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from landcover.classes import OPENEARTHMAP
from landcover.contract import Contract, GsdRange

BAND_STEP = 32
"""`pixel_model` gives class 1 + red // 32 (1..8) with green as the confidence."""


def pixel_contract(name: str, *, window_px: int = 320, halo_px: int = 32) -> Contract:
    """Eight classes, any aerial GSD."""
    return Contract(
        name=name,
        version="1",
        classes=OPENEARTHMAP,
        gsd=GsdRange(min_m=0.2, max_m=2.0),
        window_px=window_px,
        halo_px=halo_px,
        description="Made for tests: class 1 + red // 32, confidence = green.",
    )


def expected_classes(image: np.ndarray) -> np.ndarray:
    """What `pixel_model` says of pixels `(…, 3)` uint8."""
    return (image[..., 0] // BAND_STEP + 1).astype(np.uint8)


def write_pixel_model(
    path: Path,
    contract: Contract,
    *,
    band_step: int = BAND_STEP,
    busy_loops: int = 0,
    busy_above: int | None = None,
) -> Path:
    """An ONNX file that keeps `contract` and maps each pixel by itself.

    With `busy_loops` each run also multiplies 512 × 512 matrices so often, a few milliseconds each, to be slow
    in a way no optimizer removes. With `busy_above` only runs with a window of which a tenth is redder than that
    (a hundredth of noise is redder than 252).
    """
    nodes = [
        helper.make_node("Gather", ["image", "zero"], ["red"], axis=3),
        helper.make_node("Gather", ["image", "one"], ["green"], axis=3),
        helper.make_node("Div", ["red", "step"], ["band"]),
        helper.make_node("Add", ["band", "first"], ["fast"]),
    ]
    constants = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "step": np.array(band_step, np.uint8),
        "first": np.array(1, np.uint8),
    }
    classes = "fast"
    if busy_loops:
        nodes += _busy(busy_loops, busy_above, constants)
        nodes.append(helper.make_node("Add", ["fast", "nothing"], ["slow"]))
        classes = "slow"
    nodes += [
        helper.make_node("Identity", [classes], ["classes"]),
        helper.make_node("Identity", ["green"], ["confidence"]),
    ]
    shape = ["n", "h", "w"]
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*shape, 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("classes", "confidence")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, contract.metadata_props())
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _busy(loops: int, above: int | None, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """Nodes that end in `nothing`, a uint8 zero that depends on `loops` matrix products, or on none."""
    constants |= {
        "loops": np.array(loops, np.int64),
        "above": np.array(-1 if above is None else above, np.float32),
        "tenth": np.array(0.1, np.float32),
        "true": np.array(True),
        "matrix": np.random.default_rng(0).normal(0, 1 / 23, (512, 512)).astype(np.float32),
        "zero_f": np.array(0, np.float32),
    }
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "matrix"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [512, 512]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [512, 512]),
        ],
    )
    return [
        helper.make_node("Cast", ["red"], ["red_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["red_f"], ["peak"], keepdims=0),
        helper.make_node("Greater", ["red_f", "above"], ["is_red"]),
        helper.make_node("Cast", ["is_red"], ["is_red_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["is_red_f"], ["share"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMax", ["share"], ["largest_share"], keepdims=0),
        helper.make_node("Greater", ["largest_share", "tenth"], ["is_busy"]),
        helper.make_node("Cast", ["is_busy"], ["once"], to=TensorProto.INT64),
        helper.make_node("Mul", ["loops", "once"], ["trips"]),
        helper.make_node("Mul", ["peak", "zero_f"], ["seed"]),
        helper.make_node("Add", ["matrix", "seed"], ["start"]),
        helper.make_node("Loop", ["trips", "true", "start"], ["end"], body=body),
        helper.make_node("ReduceMax", ["end"], ["last"], keepdims=0),
        helper.make_node("Mul", ["last", "zero_f"], ["nothing_f"]),
        helper.make_node("Cast", ["nothing_f"], ["nothing"], to=TensorProto.UINT8),
    ]
