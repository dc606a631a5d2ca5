"""A worker with more than enough to do: its rate, beside that of its network in a bare loop."""

from __future__ import annotations

import os
from typing import Any

from landcover.commands.bench.alone import run_alone
from landcover.commands.bench.cold import parts_alone
from landcover.commands.bench.figures import Outcome, of_rounds
from landcover.commands.bench.options import Options
from landcover.commands.bench.queueing import Made, make_blocks
from landcover.commands.bench.service import open_service
from landcover.commands.bench.subject import enlarged

COMMAND = "landcover bench worker"
AIM = 0.95
"""Of the bare loop."""
_BARE_LOOP = "landcover_worker.bare_loop"
_FEWEST_BLOCKS = 4
_PARTS_BLOCKS = 8
_LONGER = 4
"""Times as long as others: a block takes a fifth of a second where there is no GPU."""


def measure_worker(options: Options) -> Outcome:
    """Measure both in turn, and what the parts of a block cost each core.

    Raises:
        LandcoverError: a process does not start, or a block is not made.
    """
    seconds = options.seconds * _LONGER
    bare: list[dict[str, Any]] = []
    made: list[Made] = []
    parts: list[dict[str, Any]] = []
    options.say("the network in a bare loop, to know how many blocks are needed")
    expected = _bare_loop(options, options.seconds)["blocks_per_s"] * seconds
    subject = enlarged(options.subject, options.folder, round(expected))
    options.say("starting a worker")
    with open_service(options.folder, subject, api=False) as service:
        for number in range(options.rounds):
            options.say(f"round {number + 1} of {options.rounds}: the network in a bare loop")
            bare.append(_bare_loop(options, seconds))
            options.say(f"round {number + 1} of {options.rounds}: the parts of a block alone")
            parts.append(parts_alone(options, min(options.blocks, _PARTS_BLOCKS)))
            options.say(f"round {number + 1} of {options.rounds}: a worker whose queue is full")
            made.append(make_blocks(service, max(_FEWEST_BLOCKS, round(expected))))
        if options.profiler.on:
            options.say("once more, for the profile")
            with options.profiler.recording("worker", service.pid("worker 1")):
                make_blocks(service, made[-1].blocks)
    rates, floors = [each.blocks_per_s for each in made], [each["blocks_per_s"] for each in bare]
    figures = [
        of_rounds(
            rates,
            floors,
            name="worker, blocks",
            against=f"its network in a bare loop ({bare[-1]['provider'].removesuffix('ExecutionProvider')})",
            unit="/s",
            better="higher",
            command=COMMAND,
            aim=AIM,
        )
    ]
    if bare[-1]["provider"].startswith("CPU"):
        cores = len(os.sched_getaffinity(0))
        figures.append(
            of_rounds(
                rates,
                [cores / sum(each["cpu_s"].values()) for each in parts],
                name="worker, blocks",
                against=f"read + network + encode on {cores} cores that never idle",
                unit="/s",
                better="higher",
                command=COMMAND,
            )
        )
    details = [
        {
            "blocks": ours.blocks,
            "blocks_per_s": ours.blocks_per_s,
            "cpu_ms_a_block": ours.cpu_ms,
            "bare": loop,
            "parts": alone,
        }
        for ours, loop, alone in zip(made, bare, parts, strict=True)
    ]
    return Outcome(figures=tuple(figures), details=details)


def _bare_loop(options: Options, seconds: float) -> dict[str, Any]:
    return run_alone(_BARE_LOOP, options.subject.location, "--model", options.subject.model.path, "--seconds", seconds)
