"""`landcover bench tiles`, so small that it takes seconds; what is measured is real, how much of it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from landcover.cli import main
from landcover.commands.bench import records, warm
from landcover.demo import write_scene


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(warm, "CONNECTIONS", (1, 4))
    scene = write_scene(tmp_path / "scene", size_px=1100)
    report, runs = tmp_path / "bench.json", tmp_path / "runs"
    arguments = ["--scene", str(scene), "--seconds", "0.2", "--rounds", "1", "--blocks", "2"]
    assert main(["bench", "tiles", *arguments, "--json", str(report), "--runs", str(runs)]) == 0
    found = json.loads(report.read_text())
    assert found["asked"]["sections"] == ["warm", "cold"]
    assert found["machine"]["usable"] >= 1
    assert {each["name"] for each in found["figures"]} == {
        "cold tile, median latency",
        *(f"warm tile, {n} connection(s), {what}" for n in (1, 4) for what in ("requests", "p50", "p99")),
    }
    assert {each["against"] for each in found["figures"]} == {
        "bare Starlette",
        "stock TiTiler",
        "read + network + encode alone",
    }
    for each in found["figures"]:
        assert each["measured"] > 0 and each["floor"] > 0
        assert each["ratio"] == pytest.approx(each["measured"] / each["floor"])
    (round_,) = found["cold"]
    assert len(round_["tiles_s"]) == 2
    assert round_["parts"]["total_s"] == pytest.approx(
        sum(round_["parts"][f"{x}_s"] for x in ("read", "infer", "encode"))
    )
    (kept,) = runs.iterdir()
    assert list(records.read(kept)) == list(records.read(report))
    assert "stock TiTiler" in capsys.readouterr().out


def test_a_scene_without_four_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "scene", size_px=700)
    assert main(["bench", "read", "--scene", str(scene)]) == 1
    assert "name a larger one with --scene" in capsys.readouterr().err
