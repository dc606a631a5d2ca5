"""The Dockerfile, read by hadolint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sys.prefix) / "bin" / "hadolint"


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(HADOLINT), "--no-color", "--config", str(ROOT / ".hadolint.yaml"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = lint(ROOT / "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_is_asked_with_our_rules(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM debian:latest\nRUN cd /tmp && sudo apt-get install curl\n", encoding="utf-8")
    done = lint(wrong)
    assert done.returncode != 0
    assert "DL3007" in done.stdout
    assert "DL3008" not in done.stdout
