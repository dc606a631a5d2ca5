"""What processes have used, as Linux counts it: processor time, and the most memory at a time."""

from __future__ import annotations

import time
from pathlib import Path

from landcover.errors import InvalidConfiguration

_CPU_CLOCK = 2
"""CPUCLOCK_SCHED of the kernel: nanoseconds, of all threads."""


def processor_s(pid: int) -> float:
    """Processor time of a process since its start, seconds; unlike the clock's it does not grow with others' load.

    Raises:
        InvalidConfiguration: the system does not tell.
    """
    try:
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK)  # as clock_getcpuclockid(3) makes it
    except OSError as error:
        raise _untold(error) from error


def forget_peak(pid: int) -> None:
    """Count the peak of a process from now on.

    Raises:
        InvalidConfiguration: the system does not tell.
    """
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    except OSError as error:
        raise _untold(error) from error


def peak_mb(pid: int) -> float:
    """The largest resident set of a process since its start or `forget_peak`, in 10⁶ bytes.

    Raises:
        InvalidConfiguration: the system does not tell.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise _untold(error) from error
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024 / 1e6


def _untold(error: OSError) -> InvalidConfiguration:
    return InvalidConfiguration(f"This measures processes as only Linux lets it ({error}); run it there.")
