"""Measuring modules run in processes of their own: a floor shares nothing with the service beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from landcover.commands.bench.profile import Profiler
from landcover.errors import Unavailable


def run_alone(
    module: str, *arguments: object, env: Mapping[str, str] | None = None, profile: tuple[Profiler, str] | None = None
) -> dict[str, Any]:
    """Run `python -m module arguments` and return the JSON document that it prints.

    Args:
        module: the module.
        arguments: its words.
        env: the whole environment; None for ours.
        profile: who records it, and under which name.

    Raises:
        Unavailable: it fails; it has said why.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,  # Ctrl-C is ours alone, and ends it
    )
    try:
        if profile:
            profiler, name = profile
            with profiler.recording(name, process.pid):
                said, _ = process.communicate()
        else:
            said, _ = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise Unavailable(f"`python -m {module}` ended with status {process.returncode}; what it said stands above.")
    document: dict[str, Any] = json.loads(said.splitlines()[-1])
    return document
