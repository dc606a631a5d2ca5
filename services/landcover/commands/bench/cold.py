"""A tile of which nothing is mapped: its latency, beside what its parts cost alone."""

from __future__ import annotations

import statistics
import time
import urllib.request
from typing import Any

from landcover.commands.bench.alone import run_alone
from landcover.commands.bench.figures import Outcome, of_rounds
from landcover.commands.bench.options import Options
from landcover.commands.bench.service import Service, open_service

COMMAND = "landcover bench cold"
AIM = 1.15
"""Times the parts."""
_PARTS = "landcover_worker.parts"


def measure_cold(options: Options) -> Outcome:
    """Time tiles of blocks that nobody asked for before, and in turn the parts of a block in one process.

    Raises:
        LandcoverError: a process does not start, or a tile is not made.
    """
    options.say("starting a service")
    with open_service(options.folder, options.subject) as service:
        rounds: list[dict[str, Any]] = []
        for number in range(options.rounds):
            options.say(f"round {number + 1} of {options.rounds}: the parts of a block alone")
            parts = parts_alone(options, options.blocks)
            options.say(f"round {number + 1} of {options.rounds}: cold tiles")
            service.forget()
            tiles_s = _latencies_s(service, options.blocks)
            rounds.append({"tiles_s": tiles_s, "parts": parts})
        if options.profiler.on:
            options.say("once more, for the profiles")
            for name, process in (("cold-api", "API"), ("cold-worker", "worker 1")):
                service.forget()
                with options.profiler.recording(name, service.pid(process)):
                    _latencies_s(service, options.blocks)
    figure = of_rounds(
        [statistics.median(each["tiles_s"]) * 1000 for each in rounds],
        [each["parts"]["total_s"] * 1000 for each in rounds],
        name="cold tile, median latency",
        against="read + network + encode alone",
        unit="ms",
        better="lower",
        command=COMMAND,
        aim=AIM,
    )
    return Outcome(figures=(figure,), details=rounds)


def parts_alone(options: Options, blocks: int) -> dict[str, Any]:
    """What each part of so many blocks costs in one process, by `landcover_worker.parts`.

    Raises:
        Unavailable: it fails.
    """
    return run_alone(_PARTS, options.subject.location, "--model", options.subject.model.path, "--blocks", blocks)


def _latencies_s(service: Service, count: int) -> list[float]:
    times = []
    for tile in service.subject.tiles(count):
        begin = time.perf_counter()
        with urllib.request.urlopen(f"{service.url}{tile}?wait=60&strict=true", timeout=90) as response:
            response.read()
        times.append(time.perf_counter() - begin)
    return times
