"""The check of a GPU machine, rehearsed on the CPU with small models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from landcover.catalog import demo_model_path
from landcover_worker.flops import flop_a_pixel
from landcover_worker.gpu_check import main
from onnx_models import pixel_contract, write_pixel_model

QUICK = ("--seconds", "0.1", "--side", "300", "--batch", "2", "--sides", "32")


def model(folder: Path, name: str, *, band_step: int = 32) -> Path:
    contract = pixel_contract(name, window_px=96, halo_px=16)
    return write_pixel_model(folder / f"{name}.onnx", contract, band_step=band_step)


def test_a_rehearsal_on_the_cpu(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    models = [str(model(tmp_path, "one")), str(model(tmp_path, "two"))]
    assert main([*models, "--device", "cpu", "--peak-tflops", "1", "--json", str(report), *QUICK]) == 0
    found = json.loads(report.read_text())["models"]
    assert [each["model"] for each in found] == ["one.onnx", "two.onnx"]
    for each in found:
        assert each["engine"] == "CPUExecutionProvider"
        assert each["equal_share"] == 1
        assert [rate["side_px"] for rate in each["rates"]] == [32, 96]
        assert min(each["worker_blocks_per_s"], each["read_cpu_s"], each["encode_cpu_s"]) > 0
        assert each["worker_share"] == each["worker_blocks_per_s"] / each["bare_blocks_per_s"]
        assert each["output_mpx_per_s"] == pytest.approx(each["worker_blocks_per_s"] * 64 * 64 / 1e6)


def test_a_model_that_disagrees_with_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(model(tmp_path, "one")), str(model(tmp_path, "two", band_step=40))]
    assert main([*models, "--device", "cpu", *QUICK]) == 1
    assert "two.onnx: fewer than 99.5% of pixels" in " ".join(capsys.readouterr().out.split())


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model(tmp_path, "one")), *QUICK]) == 2
    assert "no GPU that ONNX Runtime" in capsys.readouterr().err


def test_operations_are_counted(tmp_path: Path) -> None:
    assert flop_a_pixel(model(tmp_path, "one").read_bytes()) == 0
    assert 40_000 < flop_a_pixel(demo_model_path().read_bytes()) < 50_000
