"""Where API processes count: one in its memory; several, that share a port, in files of a folder made for them.

Then whichever of them is asked answers for all (prometheus_client's multiprocess mode). That library decides when it is
imported, by an environment variable; so this module does without it until it is needed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def count_alone() -> None:
    """This process counts in its memory, whatever it was started with."""
    os.environ.pop(_VARIABLE, None)


@contextmanager
def count_together() -> Iterator[None]:
    """Processes that the body starts count in one folder, which is removed when they have ended."""
    with tempfile.TemporaryDirectory(prefix="landcover-counters-") as folder:
        os.environ[_VARIABLE] = folder
        try:
            yield
        finally:
            count_alone()


def shared_folder() -> Path | None:
    """Where this process and others count; None if it counts alone."""
    folder = os.environ.get(_VARIABLE)
    return Path(folder) if folder else None


def forget_the_dead(folder: Path) -> None:
    """Drop what a process that is gone said of its present state; what it counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    for pid in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*_*.db")}:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # another process was asked, too
                mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]
