"""Reading the windows of blocks, beside GDAL and libjpeg-turbo decoding the whole image once."""

from __future__ import annotations

import os

from landcover.commands.bench.alone import run_alone
from landcover.commands.bench.figures import Outcome, of_rounds
from landcover.commands.bench.options import Options

COMMAND = "landcover bench read"
_MODULE = "landcover.commands.bench.reading_alone"
_FLOORS = {
    "gdal_mpx_per_s": "GDAL decoding the image once",
    "jpeg_mpx_per_s": "libjpeg-turbo decoding it in memory",
}
"""Names in what it prints, and in the table."""


def measure_reading(options: Options) -> Outcome:
    """With one thread, and with one for each core.

    Raises:
        Unavailable: the scene cannot be read.
    """
    figures = []
    details = []
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        options.say(f"windows of blocks, GDAL and libjpeg-turbo in turn, {threads} thread(s)")
        found = run_alone(
            _MODULE,
            options.subject.location,
            *("--model", options.subject.model.path, "--threads", threads, "--seconds", options.seconds),
            *("--rounds", options.rounds),
        )
        details.append(found)
        for what, name in (("windows_mpx_per_s", "windows with halo"), ("ground_mpx_per_s", "ground without halo")):
            figures += [
                of_rounds(
                    found[what],
                    found[floor],
                    name=f"read, {threads} thread(s), {name}",
                    against=against,
                    unit="Mpx/s",
                    better="higher",
                    command=COMMAND,
                )
                for floor, against in _FLOORS.items()
                if found[floor]
            ]
    if options.profiler.on:
        options.say("once more, for the profile")
        run_alone(
            _MODULE,
            options.subject.location,
            *("--model", options.subject.model.path, "--threads", 1, "--seconds", options.seconds),
            *("--rounds", 1, "--only-windows"),
            profile=(options.profiler, "read"),
        )
    return Outcome(figures=tuple(figures), details=details)
