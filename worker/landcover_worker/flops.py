"""How much a network has to reckon: the convolutions' multiplications and additions, counted from one run of it."""

from __future__ import annotations

import json
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

_SIDE_PX = 128
"""Of the window that is run; networks are convolutional, so that a larger one costs the same a pixel."""


def flop_a_pixel(data: bytes) -> float:
    """Floating-point operations of the convolutions of `data`, an ONNX file, by pixel of its window.

    A multiplication and an addition are two. All else of a U-Net is a hundredth of them, and is left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # else they are fused
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "run"))
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        session.run(["classes"], {"image": np.zeros((1, _SIDE_PX, _SIDE_PX, 3), np.uint8)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [each["args"] for each in events if each.get("cat") == "Node"]
    return sum(_flop(each) for each in nodes if each.get("op_name") == "Conv") / _SIDE_PX**2


def _flop(node: dict[str, Any]) -> int:
    (output,) = node["output_type_shape"][0].values()
    (weights,) = node["input_type_shape"][1].values()
    return int(2 * prod(output) * prod(weights[1:]))
