"""From a model of 32 bits to one of 8, for CPUs: static, calibrated on real pixels, checked against the original.

Only the network is turned: normalisation, softmax and argmax stay as they are, and so do the first convolution, which
sees pixels, and the last, which makes the logits. Weights have a scale for each channel and use seven of their eight
bits: CPUs without VNNI add two products in 16 bits, which eight overflow (measured: 9 % of the pixels wrong, not 1 %).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from pydantic import ValidationError

from landcover.atomic import atomic_path
from landcover.contract import Contract, ModelFile, read_model
from landcover.demo import draw
from landcover.errors import InvalidConfiguration, InvalidModel
from landcover_export.onnx_export import Parity, ParityError, compare

CALIBRATION_PX = 448
"""Side of the windows that activations' ranges are measured on, unless the model's own is smaller."""
OPERATORS = ["Conv", "Add", "Concat", "Resize", "Clip", "Relu", "MaxPool", "Pad"]
CHECKED = 5
"""Every fifth window is kept from calibration, for the check."""


def quantize(model: ModelFile, path: Path, windows: npt.NDArray[np.uint8], name: str) -> Parity:
    """Write `model` with 8 bits to `path`, whole or not at all, with its contract but without its figures.

    Those are of the original: measure the new file (`landcover evaluate … --write-contract`).

    Args:
        model: of 32 bits.
        path: the ONNX file to write.
        windows: what it will be used on, uint8 `(n, side, side, 3)`, at least two, sides multiples of 32.
        name: by which requests ask for it: another than the model's, if both are to be served.

    Raises:
        InvalidConfiguration: `name` is none, or `path` is the model's or a folder's.
        InvalidModel: the model is not of 32 bits, or has no two convolutions between which anything could be turned.
        ParityError: the new file differs too much from the original; it is not left behind.
    """
    if path.is_dir() or path.resolve() == model.path.resolve():
        raise InvalidConfiguration(f"{path} is a folder or the model itself, which is kept; name another file.")
    if model.contract.precision != "fp32":
        raise InvalidModel(f"{model.path} has {model.contract.precision} already; 8 bits are made of fp32.")
    changed = {"name": name, "precision": "int8", "metrics": None}
    try:
        contract = Contract.model_validate(model.contract.model_dump() | changed)
    except ValidationError as error:
        raise InvalidConfiguration(f"{name!r} is no name for a model.") from error
    checked = np.arange(len(windows)) % CHECKED == CHECKED - 1
    checked[-1] = True
    with atomic_path(path) as temporary, TemporaryDirectory() as folder:
        merged = _merged(model.path, Path(folder) / "merged.onnx")
        quantize_static(
            merged,
            str(temporary),
            _Windows(windows[~checked]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=_kept(merged, model.path),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        proto = onnx.load(str(temporary))
        used = {node.domain for node in proto.graph.node}
        imports = [each for each in proto.opset_import if each.domain in used]
        del proto.opset_import[:], proto.metadata_props[:]
        proto.opset_import.extend(imports)
        proto.producer_name = "landcover-tiles"
        onnx.helper.set_model_props(proto, contract.metadata_props())
        onnx.save(proto, str(temporary))
        read_model(temporary)
        parity = _parity(model.path, temporary, windows[checked])
        if not parity.holds:
            raise ParityError(
                f"With 8 bits {parity.equal_share:.2%} of {parity.pixels} pixels keep their class (at least "
                f"{parity.bounds[0]:.0%} is needed): this network does not bear it, or the images are not like its own."
            )
    return parity


def drawn_windows(seeds: list[int], side_px: int) -> npt.NDArray[np.uint8]:
    """Four windows `(n, side, side, 3)` of each of the scenes drawn from `seeds`."""
    images = [draw(seed, 2 * side_px, 2 * side_px)[0] for seed in seeds]
    corners = [(row, col) for row in (0, side_px) for col in (0, side_px)]
    return np.stack([image[row : row + side_px, col : col + side_px] for image in images for row, col in corners])


class _Windows(CalibrationDataReader):  # type: ignore[misc]  # untyped
    def __init__(self, windows: npt.NDArray[np.uint8]) -> None:
        self._windows: Iterator[npt.NDArray[np.uint8]] = iter(windows)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        window = next(self._windows, None)
        return None if window is None else {"image": window[np.newaxis]}


def _merged(path: Path, out: Path) -> onnx.ModelProto:
    """The model with batch normalisation merged into its convolutions and constants folded, as a runtime would."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    proto = onnx.load(str(out))
    proto.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")  # else it advises what was done
    return proto


def _kept(proto: onnx.ModelProto, path: Path) -> list[str]:
    """Names of the nodes that stay at 32 bits: up to the first convolution, and from the last on."""
    nodes = list(proto.graph.node)  # in the order of their work, by ONNX's rules
    at = [i for i, node in enumerate(nodes) if node.op_type == "Conv"]
    if len(at) < 3:
        raise InvalidModel(f"{path} is no network of convolutions.")
    return [node.name for node in nodes[: at[0] + 1] + nodes[at[-1] :]]


def _parity(path: Path, quantized: Path, windows: npt.NDArray[np.uint8]) -> Parity:
    """How far the file of 8 bits lies from that of 32, both in ONNX Runtime."""
    original, ours = (
        onnxruntime.InferenceSession(str(each), providers=["CPUExecutionProvider"]) for each in (path, quantized)
    )
    return compare(
        lambda image: original.run(["classes", "confidence"], {"image": image}),
        lambda image: ours.run(["classes", "confidence"], {"image": image}),
        windows,
        "int8",
    )
