"""What every section is told: on what it measures, how long, where it may write, and whom it tells of its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from landcover.commands.bench.profile import Profiler
from landcover.commands.bench.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of one run."""

    subject: Subject
    seconds: float
    """How long each thing is measured in a round."""
    rounds: int
    blocks: int
    """How many cold tiles are timed."""
    folder: Path
    """Temporary."""
    profiler: Profiler
    say: Callable[[str], None]
    """Told what is being done now."""
