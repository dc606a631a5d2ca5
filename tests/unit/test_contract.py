"""A model file keeps its contract or is refused with a sentence that names every fault."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from landcover.catalog import demo_model_path
from landcover.classes import OPENEARTHMAP, LandCoverClass, palette
from landcover.contract import Contract, GsdRange, read_model
from landcover.errors import InvalidModel
from onnx_models import pixel_contract, write_pixel_model


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    return onnx.load(str(write_pixel_model(tmp_path / "good.onnx", pixel_contract("pixels"))))


def saved(model: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_good_file(tmp_path: Path) -> None:
    contract = pixel_contract("pixels")
    path = write_pixel_model(tmp_path / "a.onnx", contract)
    model = read_model(path)
    assert model.contract == contract
    assert model.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_model(path, expected_digest=model.digest) == model


def test_what_is_checked_is_what_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced as soon as it has been read: the answer is of the first one throughout."""
    path = write_pixel_model(tmp_path / "a.onnx", pixel_contract("first"))
    other = write_pixel_model(tmp_path / "b.onnx", pixel_contract("second")).read_bytes()
    first = path.read_bytes()
    original = Path.read_bytes

    def read_and_replace(self: Path) -> bytes:
        data = original(self)
        self.write_bytes(other)
        return data

    monkeypatch.setattr(Path, "read_bytes", read_and_replace)
    model = read_model(path)
    assert model.name == "first"
    assert model.digest == "sha256:" + hashlib.sha256(first).hexdigest()


def test_the_shipped_model_keeps_its_contract() -> None:
    model = read_model(demo_model_path())
    assert model.contract.classes == OPENEARTHMAP
    assert model.name == "landcover-demo"


def test_deepness_finds_its_keys() -> None:
    """The QGIS plugin's own names and units: https://qgis-plugin-deepness.readthedocs.io."""
    props = pixel_contract("pixels", window_px=320, halo_px=32).metadata_props()
    assert json.loads(props["model_type"]) == "Segmentor"
    assert json.loads(props["class_names"])["8"] == "building"
    assert json.loads(props["resolution"]) == 20  # cm: 0.2 m
    assert json.loads(props["tiles_size"]) == 320
    assert json.loads(props["tiles_overlap"]) == 20  # percent: 64 of 320


def change_dtype(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def change_output_dtype(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[1].name = "probability"


def drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def channels_first(model: onnx.ModelProto) -> None:
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (None, 3, None, None), strict=True):
        dim.Clear()
        if size:
            dim.dim_value = size


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def fix_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 512


def lose_an_axis(model: onnx.ModelProto) -> None:
    del model.graph.output[0].type.tensor_type.shape.dim[0]


def use_a_custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Fancy", ["red"], ["extra"], domain="com.example"))


def import_a_custom_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def put_outside(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def external_weights(model: onnx.ModelProto) -> None:
    put_outside(model.graph.initializer[0])


def external_constant(model: onnx.ModelProto) -> None:
    tensor = put_outside(numpy_helper.from_array(np.zeros(4, np.float32), "w"))
    model.graph.node.append(helper.make_node("Constant", [], ["extra"], value=tensor))


def branch(node: onnx.NodeProto, initializer: list[onnx.TensorProto]) -> onnx.NodeProto:
    """An `If` whose branches hold `node`."""
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "branch", [], [output], initializer)
    return helper.make_node("If", ["condition"], ["extra"], then_branch=graph, else_branch=graph)


def external_weights_in_a_branch(model: onnx.ModelProto) -> None:
    weights = put_outside(numpy_helper.from_array(np.zeros(4, np.float32), "w"))
    model.graph.node.append(branch(helper.make_node("Identity", ["w"], ["inner"]), [weights]))


def custom_operator_in_a_branch(model: onnx.ModelProto) -> None:
    model.graph.node.append(branch(helper.make_node("Fancy", [], ["inner"], domain="com.example"), []))


@pytest.mark.parametrize(
    ("fault", "clause"),
    [
        (change_dtype, "input 'image' is float, not uint8"),
        (change_output_dtype, "output 'classes' is int64, not uint8"),
        (rename_output, "its outputs are classes, probability, not classes and confidence"),
        (drop_output, "its outputs are classes, not classes and confidence"),
        (channels_first, "any number of channels in its last axis, not 3"),
        (fix_batch, "fixed batch of 1; make it dynamic"),
        (fix_height, "its height is fixed at 512 px, the contract's window is 320"),
        (lose_an_axis, "output 'classes' has 2 axes, not 3"),
        (use_a_custom_operator, r"custom operators \(com.example\)"),
        (import_a_custom_domain, r"custom operators \(com.microsoft\)"),
        (custom_operator_in_a_branch, r"custom operators \(com.example\)"),
        (external_weights, "its weights lie in another file"),
        (external_constant, "its weights lie in another file"),
        (external_weights_in_a_branch, "its weights lie in another file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_graph_that_breaks_the_contract(model: onnx.ModelProto, tmp_path: Path, fault: Any, clause: str) -> None:
    fault(model)
    with pytest.raises(InvalidModel, match=clause) as caught:
        read_model(saved(model, tmp_path))
    assert "model.onnx does not keep its contract: " in str(caught.value)


def test_all_faults_are_named_at_once(model: onnx.ModelProto, tmp_path: Path) -> None:
    for fault in (change_dtype, fix_batch, external_weights):
        fault(model)
    with pytest.raises(InvalidModel, match=r"another file.*float.*fixed batch"):
        read_model(saved(model, tmp_path))


def test_a_fixed_window_of_the_right_size_is_fine(model: onnx.ModelProto, tmp_path: Path) -> None:
    for axis in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 320
    assert read_model(saved(model, tmp_path)).name == "pixels"


def test_the_wrong_digest(tmp_path: Path) -> None:
    path = write_pixel_model(tmp_path / "a.onnx", pixel_contract("pixels"))
    with pytest.raises(InvalidModel, match=r"has the digest sha256:[0-9a-f]{64}, but sha256:0+ was expected"):
        read_model(path, expected_digest="sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "There is no model file"), (b"\xff\x00 garbage", "is no ONNX file"), (b"", "no 'landcover' contract")],
    ids=["missing", "garbage", "empty"],
)
def test_what_is_no_model(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidModel, match=sentence):
        read_model(path)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        pytest.param({}, "carries no 'landcover' contract.*landcover export", id="none"),
        pytest.param({"landcover": "{"}, "contract in .* is not valid: .*JSON", id="no JSON"),
        pytest.param({"landcover": "{}"}, "name: Field required; version: Field required", id="empty"),
    ],
)
def test_metadata_that_is_no_contract(
    model: onnx.ModelProto, tmp_path: Path, metadata: dict[str, str], sentence: str
) -> None:
    del model.metadata_props[:]
    helper.set_model_props(model, metadata)
    with pytest.raises(InvalidModel, match=sentence):
        read_model(saved(model, tmp_path))


CONTRACT = pixel_contract("pixels").model_dump(mode="json")
METRICS = {
    "dataset": "d", "overall_accuracy": 1, "average_accuracy": 1, "mean_iou": 1, "confusion_matrix": [[1] * 8] * 8,
}  # fmt: skip
ROAD = {"value": 4, "name": "road", "color": "#ffffff"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "Has Blanks"}, "name"),
        ({"window_px": 300}, "multiple of 32"),
        ({"halo_px": 33}, "must be a power of two"),
        ({"halo_px": 160}, "block of 0 px"),
        ({"classes": []}, "classes"),
        ({"classes": [ROAD, ROAD | {"name": "path"}]}, "share a value or a name"),
        ({"classes": [ROAD, ROAD | {"value": 5}]}, "share a value or a name"),
        ({"classes": [ROAD | {"value": 0}]}, "greater than or equal to 1"),
        ({"classes": [ROAD | {"value": 255}]}, "less than or equal to 254"),
        ({"classes": [ROAD | {"color": "#FFFFFF"}]}, "pattern"),
        ({"gsd": {"min_m": 2, "max_m": 1}}, "min_m 2.0 is larger than max_m 1.0"),
        ({"gsd": {"min_m": 0, "max_m": 1}}, "greater than 0"),
        ({"metrics": METRICS | {"confusion_matrix": [[1] * 8] * 7}}, "classes × classes"),
        ({"metrics": METRICS | {"confusion_matrix": [[1] * 9] * 8}}, "classes × classes"),
        ({"contract_version": 2}, "contract_version"),
        ({"surprise": 1}, "Extra inputs"),
    ],
    ids=str,
)
def test_a_contract_that_contradicts_itself(change: dict[str, Any], sentence: str) -> None:
    assert Contract.model_validate(CONTRACT | {"metrics": METRICS}).block_px == 256
    with pytest.raises(ValidationError, match=sentence):
        Contract.model_validate(CONTRACT | change)


def test_the_largest_value_is_of_the_classes_not_of_their_number() -> None:
    few = (
        LandCoverClass(value=8, name="building", color="#de1f07"),
        LandCoverClass(value=4, name="road", color="#ffffff"),
    )
    contract = Contract(name="few", version="1", classes=few, gsd=GsdRange(min_m=1, max_m=1), window_px=64, halo_px=0)
    assert contract.max_value == 8
    colors = palette(few)
    assert colors[8].tolist() == [0xDE, 0x1F, 0x07, 255]
    assert colors[[0, 1, 5, 255], 3].tolist() == [0, 0, 0, 0]
