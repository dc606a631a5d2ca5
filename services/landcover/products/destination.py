"""Where products go: whether files can be written there is told before hours of work."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from landcover.errors import DestinationUnwritable


def check_folder(folder: Path) -> None:
    """Make `folder`, if it is not there, and try to write into it.

    Raises:
        DestinationUnwritable: that cannot be done.
    """
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        raise DestinationUnwritable(
            f"{folder} cannot be written into ({error.strerror or error}); make room, or see to its permissions."
        ) from error
