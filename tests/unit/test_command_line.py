"""The one entry point: what it says when a file cannot be used, and how its commands end when they are told to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from landcover import local
from landcover.catalog import demo_model_path
from landcover.cli import main


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("where a folder would have to be")
    out = tmp_path / "file" / "small.onnx"
    assert main(["quantize", str(demo_model_path()), "--drawn", "1", "--out", str(out)]) == 1
    assert capsys.readouterr().err == f"landcover: {tmp_path / 'file'}: File exists\n"


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_open_is_closed_when_a_command_is_ended(kind: signal.Signals) -> None:
    before = signal.getsignal(kind)
    closed = False
    with pytest.raises(SystemExit) as left, local.leaving_on_signals():
        try:
            os.kill(os.getpid(), kind)
            signal.sigtimedwait([], 5)
        finally:
            closed = True
    assert closed and left.value.code == 128 + kind
    assert signal.getsignal(kind) is before
