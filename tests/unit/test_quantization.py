"""From 32 bits to 8: the file, its contract, and what is refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from PIL import Image

from landcover.catalog import demo_model_path
from landcover.cli import main
from landcover.contract import read_model
from landcover.demo import draw
from landcover.errors import InvalidConfiguration, InvalidModel
from landcover_export.checkpoints import CheckpointError, load_checkpoint
from landcover_export.onnx_export import BOUNDS, ParityError
from landcover_export.quantization import drawn_windows, quantize

SHIPPED = read_model(demo_model_path())


@pytest.fixture(scope="module")
def of_8_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantized") / "small.onnx"
    parity = quantize(SHIPPED, path, drawn_windows([1000, 1001], 256), "small")
    assert parity.precision == "int8"
    assert 0.97 <= parity.equal_share < 1
    return path


def test_the_contract_is_the_models_but_for_what_changed(of_8_bits: Path) -> None:
    model = read_model(of_8_bits)
    assert model.digest != SHIPPED.digest
    changed = {"name": "small", "precision": "int8", "metrics": None}
    assert model.contract == SHIPPED.contract.model_copy(update=changed)
    assert SHIPPED.contract.metrics is not None
    assert of_8_bits.stat().st_size < 0.35 * SHIPPED.path.stat().st_size
    assert [each.name for each in of_8_bits.parent.iterdir()] == ["small.onnx"]


def test_normalisation_first_and_last_convolution_and_head_stay_at_32_bits(of_8_bits: Path) -> None:
    graph = onnx.load(str(of_8_bits)).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    weights = [made_by.get(node.input[1], "initializer") for node in graph.node if node.op_type == "Conv"]
    assert weights == ["initializer", *["DequantizeLinear"] * (len(weights) - 2), "initializer"]
    for operator in ("ArgMax", "ReduceMax", "Exp", "Cast"):
        taken = [made_by.get(name) for node in graph.node if node.op_type == operator for name in node.input]
        assert "DequantizeLinear" not in taken


def test_every_runtime_makes_nearly_the_same_map(of_8_bits: Path) -> None:
    from landcover_worker.runtimes.choice import MIN_EQUAL_SHARE, equal_share
    from landcover_worker.runtimes.onnx_cpu import OnnxCpu
    from landcover_worker.runtimes.openvino import OpenVino
    from landcover_worker.settings import WorkerSettings

    data, settings = of_8_bits.read_bytes(), WorkerSettings(device="cpu")
    assert equal_share(OpenVino(data, settings), OnnxCpu(data, settings), 320) >= MIN_EQUAL_SHARE["int8"]
    assert equal_share(OpenVino(data, settings), OnnxCpu(SHIPPED.path.read_bytes(), settings), 320) >= BOUNDS["int8"][0]


def test_8_bits_are_neither_made_again_nor_trained(of_8_bits: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="has int8 already"):
        quantize(read_model(of_8_bits), tmp_path / "again.onnx", drawn_windows([1000], 64), "again")
    with pytest.raises(CheckpointError, match="can be run but not trained"):
        load_checkpoint(of_8_bits)


def test_a_network_that_does_not_bear_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BOUNDS, "int8", (0.9999, 255))
    with pytest.raises(ParityError, match=r"With 8 bits 9\d\.\d+% of 65536 pixels keep their class"):
        quantize(SHIPPED, tmp_path / "worse.onnx", drawn_windows([1000], 256), "worse")
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_network(pixel_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="no network of convolutions"):
        quantize(read_model(pixel_model), tmp_path / "a.onnx", drawn_windows([1000], 64), "pixels")
    with pytest.raises(InvalidConfiguration, match="'Two words' is no name"):
        quantize(SHIPPED, tmp_path / "a.onnx", drawn_windows([1000], 64), "Two words")


def test_the_original_is_kept(tmp_path: Path) -> None:
    data = SHIPPED.path.read_bytes()
    (tmp_path / "a.onnx").write_bytes(data)
    for out in (tmp_path / "a.onnx", tmp_path):
        with pytest.raises(InvalidConfiguration, match="is a folder or the model itself"):
            quantize(read_model(tmp_path / "a.onnx"), out, drawn_windows([1000], 64), "a")
    assert (tmp_path / "a.onnx").read_bytes() == data


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1000, 1001):
        Image.fromarray(draw(seed, 512, 512)[0]).save(tmp_path / f"{seed}.png")
    images = [str(tmp_path / f"{seed}.png") for seed in (1000, 1001)]
    out = tmp_path / "int8.onnx"
    assert main(["quantize", str(SHIPPED.path), "--image", *images, "--out", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert read_model(out).name == "landcover-demo-int8"
    assert main(["quantize", str(SHIPPED.path), "--image", str(tmp_path / "absent.png"), "--out", str(out)]) == 1
