"""More workers with the real network: does each do as much as one alone?

Where there is no GPU, each worker is bound to a core of its own, since one that may use all cores leaves none for a
second. With a GPU they share it.
"""

from __future__ import annotations

import os

from landcover.commands.bench.figures import Outcome, of_rounds
from landcover.commands.bench.options import Options
from landcover.commands.bench.queueing import Made, make_blocks
from landcover.commands.bench.service import Service, open_service
from landcover.commands.bench.subject import enlarged

COMMAND = "landcover bench scaling"
_LONGER = 2
"""Times as long as others."""
_PILOT_BLOCKS = 8
_MOST_WORKERS = 8


def measure_scaling(options: Options) -> Outcome:
    """From one worker to as many as there are cores, or eight.

    Raises:
        LandcoverError: a worker does not start, or a block is not made.
    """
    options.say("one worker, to know what runs the network and how many blocks are needed")
    with open_service(options.folder, options.subject, api=False) as service:
        on_cpu = service.provider.startswith("CPU")
        rate = make_blocks(service, _PILOT_BLOCKS).blocks_per_s
    subject = enlarged(options.subject, options.folder, round(rate * options.seconds * _LONGER))
    usable = sorted(os.sched_getaffinity(0))
    counts = [count for count in (1, 2, 4, 8) if count <= min(len(usable), _MOST_WORKERS)]
    made: dict[int, list[Made]] = {count: [] for count in counts}
    for number in range(options.rounds):
        for count in counts:
            options.say(f"round {number + 1} of {options.rounds}: {count} worker(s)")
            cores = usable[:count] if on_cpu else [None] * count
            with open_service(options.folder, subject, cores=cores, api=False) as service:
                made[count].append(_made_for(service, options.seconds * _LONGER, count))
    if options.profiler.on:
        options.say("one worker of the most once more, for the profile")
        cores = usable[: counts[-1]] if on_cpu else [None] * counts[-1]
        with (
            open_service(options.folder, subject, cores=cores, api=False) as service,
            options.profiler.recording("scaling-worker", service.pid("worker 1")),
        ):
            _made_for(service, options.seconds * _LONGER, counts[-1])
    one = [each.blocks_per_s for each in made[1]]
    figures = tuple(
        of_rounds(
            [each.blocks_per_s for each in rounds],
            [count * rate for rate in one],
            name=f"scaling, {count} workers{', a core each' if on_cpu else ', one GPU'}",
            against=f"{count} × one worker",
            unit="blocks/s",
            better="higher",
            command=COMMAND,
        )
        for count, rounds in made.items()
        if count > 1
    )
    details = [
        {"workers": count, "blocks_per_s": [each.blocks_per_s for each in rounds], "cpu_ms_a_block": rounds[-1].cpu_ms}
        for count, rounds in made.items()
    ]
    return Outcome(figures=figures, details=details)


def _made_for(service: Service, seconds: float, workers: int) -> Made:
    pilot = make_blocks(service, _PILOT_BLOCKS * workers)
    return make_blocks(service, max(pilot.blocks, round(pilot.blocks_per_s * seconds)))
