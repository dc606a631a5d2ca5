"""Runs that are kept, and the guard that compares a run with one of them.

Machines differ, so only ratios are compared: a figure has become worse when its ratio has lost more than a third of
what was recorded. Where less is better, that is half as much again.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import landcover
from landcover.commands.bench.figures import Figure
from landcover.errors import InvalidRequest

ALLOWED_LOSS = 1 / 3

_FIELDS = {field.name for field in fields(Figure)} - {"aim"}
"""What is compared; an aim is the program's, not a run's."""


def document(figures: Iterable[Figure], details: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A run as JSON: what was asked for, when and where, every figure, and by section all else that was measured."""
    return {
        "asked": asked,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": landcover.__version__,
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "usable": _usable_cores()},
        "figures": [each.json() for each in figures],
        **details,
    }


def keep(run: Mapping[str, Any], folder: Path) -> Path:
    """Write a run into `folder`, under a name that says when it was."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    return path


def shipped() -> Path:
    """The record that comes with the program: of two CPU cores and the demonstration."""
    return Path(str(files("landcover.commands.bench") / "recorded.json"))


def read(path: Path) -> dict[str, Figure]:
    """The figures of a run that was kept, by `Figure.key`.

    Raises:
        InvalidRequest: the file is not there or is no such run.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["figures"]
        figures = [Figure(**{name: each[name] for name in _FIELDS} | {"ratio": float(each["ratio"])}) for each in found]
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read ({error.strerror}); name a file that a bench wrote.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path} is no run of `landcover bench`; name a file that it wrote.") from error
    return {each.key: each for each in figures}


def lost(figures: Iterable[Figure], recorded: Mapping[str, Figure]) -> list[Figure]:
    """Those that lost more than a third of their recorded value.

    Raises:
        InvalidRequest: nothing that was measured is in the record, so that nothing was compared.
    """
    known = [each for each in figures if each.key in recorded]
    if not known:
        raise InvalidRequest("None of these figures is in the record; name another with --check FILE.")
    return [each for each in known if is_worse(each, recorded[each.key])]


def is_worse(now: Figure, before: Figure) -> bool:
    """Whether a ratio lost more than is allowed."""
    kept = 1 - ALLOWED_LOSS
    return now.ratio < before.ratio * kept if before.better == "higher" else now.ratio > before.ratio / kept


def sentence(now: Figure, before: Figure) -> str:
    """What to say of a loss."""
    direction = "fell" if before.better == "higher" else "rose"
    return (
        f"{now.name} to {now.against} {direction} from {before.ratio:.3g} to {now.ratio:.3g}, by more than a third; "
        f"see it again with `{now.command}`."
    )


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
