"""The measurement of a CPU's ways: what it reports of ways that answer alike, otherwise, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from landcover_worker import cpu_runtimes
from landcover_worker.cpu_runtimes import measure
from landcover_worker.cpu_ways import Run, Way, all_ways
from landcover_worker.runtimes.base import UInt8Array
from onnx_models import pixel_contract, write_pixel_model
from rasters import noise

CONTRACT = pixel_contract("pixels", window_px=64, halo_px=0)


def test_every_way_gives_the_exact_map(tmp_path: Path) -> None:
    data = write_pixel_model(tmp_path / "a.onnx", CONTRACT).read_bytes()
    rows = measure(all_ways(2, {"again": data}), data, [noise(64, 64, seed=i) for i in range(2)], 3)
    ran = [row for row in rows if not row.fault and row.way != "openvino, any shape"]  # which is wrong at 8 bits
    assert all((row.equal_share, row.max_confidence_difference) == (1, 0) for row in ran)
    assert (rows[0].way, rows[0].median_ratio, rows[0].ratio_of_min) == ("onnxruntime, as it comes", 1, 1)
    assert {"onnxruntime, 1 of 2 threads", "onnxruntime, again"} <= {row.way for row in ran}
    assert all(row.way.startswith("openvino") for row in rows if row.fault)  # no bf16 here, or not installed
    assert np.float64(5e-324) * np.float64(1) > 0, "a way that takes denormals for zero left that to its caller"


def test_ways_that_answer_otherwise_or_not_at_all() -> None:
    def answering(value: int, sure: int) -> Run:
        def run(window: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
            classes = np.ones(window.shape[:2], np.uint8)
            classes[0, 0] = value
            return classes, np.full_like(classes, sure)

        return run

    def missing(data: bytes, side_px: int) -> Run:
        raise ImportError("No module named 'fast'\nand more")

    ways = [
        Way(name="first", load=lambda data, side_px: answering(1, 200)),
        Way(name="other", load=lambda data, side_px: answering(2, 255)),
        Way(name="fast", load=missing),
    ]
    first, other, fast = measure(ways, b"", [noise(4, 4)], 2)
    assert (first.equal_share, first.max_confidence_difference) == (1, 0)
    assert (other.equal_share, other.max_confidence_difference) == (15 / 16, 55)
    assert (fast.fault, fast.min_ms, fast.equal_share) == ("No module named 'fast'", None, None)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model, report = write_pixel_model(tmp_path / "a.onnx", CONTRACT), tmp_path / "report.json"
    arguments = ["", str(model), "--rounds", "2", "--threads", "1", "--only", "arena", "int8", "--json", str(report)]
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.argv", [*arguments, "--other", f"int8={model}"])
    cpu_runtimes.main()
    assert "onnxruntime, no arena" in capsys.readouterr().out
    written = json.loads(report.read_text())
    assert (written["model"], written["window_px"], written["rounds"]) == ("a.onnx", 64, 2)
    assert [row["way"] for row in written["ways"]][:3] == [
        "onnxruntime, as it comes",
        "onnxruntime, no arena",
        "onnxruntime, int8",
    ]
    assert written["machine"]["cores"] >= 1
