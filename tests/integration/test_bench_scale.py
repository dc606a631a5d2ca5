"""`landcover bench scale`, so small that it takes seconds: the parts are real, only the network sleeps."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from landcover import block
from landcover.cli import main
from landcover.commands.bench import command
from landcover.commands.bench.scale import writing
from landcover.commands.bench.scale.finisher import key_of, made_up_fields
from landcover.commands.bench.scale.parts import milliseconds, slope
from landcover.grid import BlockIndex
from landcover.keys import BlockKey
from landcover.queue import BlockTask
from landcover.scene import SceneSource


def test_a_made_up_block_is_one() -> None:
    fields = made_up_fields(64, 16)
    classes = block.decode(fields["c0"], 64)
    assert (classes == np.kron(classes[::16, ::16], np.ones((16, 16), np.uint8))).all()
    assert set(fields) == {"h", "j", *(f"{layer}{level}" for layer in "cq" for level in range(7))}


def test_a_message_says_whose_block_it_asks_for() -> None:
    task = BlockTask(
        source=SceneSource(id="a", location="/a.tif"), version="v", digest="sha256:1", decimation=1, row=2, col=3
    )
    body = base64.b64encode(json.dumps([[], task.model_dump(mode="json"), {}]).encode()).decode()
    assert key_of(json.dumps({"body": body})) == BlockKey("a", "v", "sha256:1", 1, BlockIndex(2, 3))


def test_figures_by_hand() -> None:
    """Ten events, two a second; of two workers 3 s over 100 blocks."""
    assert slope([0.5 * i for i in range(10)]) == pytest.approx(2)
    used = milliseconds({"worker 0": 1, "worker 1": 2, "cache": 0}, {"worker 0": 2, "worker 1": 4, "cache": 1}, 100)
    assert used == pytest.approx({"worker": 30, "cache": 10})


def test_what_is_written_is_what_is_measured(tmp_path: Path) -> None:
    without, with_confidence = writing.measure_writing(tmp_path / "w", 6, block_px=512, blobs=16)
    assert (without.confidence, with_confidence.confidence) == (False, True)
    assert without.confidence_bytes == 0
    assert with_confidence.confidence_bytes == (tmp_path / "w" / "map.confidence.tif").stat().st_size
    with rasterio.open(tmp_path / "w" / "map.tif") as image:
        assert (image.height, image.width) == (512, 6 * 512)
        assert np.array_equal(image.read(1)[:, :512], block.decode(made_up_fields(512, 16)["c0"], 512))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "SCALE_SECONDS", 2.0)
    report = tmp_path / "bench.json"
    arguments = ["--workers", "1", "--sleep", "0.2", "--bookkeeping", "100", "--json", str(report)]
    assert main(["bench", "scale", *arguments]) == 0
    figures = json.loads(report.read_text())["scale"]
    (row,) = figures["throughput"]
    assert (row["workers"], row["slots"], row["blocks"]) == (1, 16, 80)
    assert 0 < row["share"] < 1.2  # of ten runs of the network, the last begins before the clock ends
    assert set(row["cpu_ms"]) == {"broker", "cache", "worker", "engine"}
    for books in figures["books"]:
        assert (books["blocks"], books["made"]) == (100, 100)
        assert [mark["blocks"] for mark in books["marks"]] == sorted(mark["blocks"] for mark in books["marks"])
        assert books["marks"][-1]["spool_mb"] * 1e6 > 100 * books["bytes_a_block"] / 2
    assert [each["confidence"] for each in figures["writing"]] == [False, True]
    assert "of one worker's" in capsys.readouterr().out


def test_numbers_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scale", "--workers", "0"]) == 1
    assert "--workers and --sleep are greater than 0" in capsys.readouterr().err
