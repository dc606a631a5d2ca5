"""Encoding a tile of classes, beside other encoders of the same pixels: microseconds and bytes."""

from __future__ import annotations

from typing import Any

from landcover.commands.bench.alone import run_alone
from landcover.commands.bench.classmap import write_class_map
from landcover.commands.bench.figures import Figure, Outcome, of_rounds
from landcover.commands.bench.options import Options
from landcover.commands.bench.service import open_service

COMMAND = "landcover bench encode"
_MODULE = "landcover_api.encoding_alone"


def measure_encoding(options: Options) -> Outcome:
    """Draw a part of a finished map as PNG and WebP, in tiles of 256 and 512 px.

    Raises:
        LandcoverError: there is no map.
    """
    options.say("mapping what is encoded")
    with open_service(options.folder, options.subject, api=False) as service:
        class_map = write_class_map(service, options.folder)
    options.say("encoders in turn")
    found = run_alone(_MODULE, class_map, "--seconds", options.seconds, "--rounds", options.rounds)
    figures = []
    for row in found["rows"]:
        figures += _figures(row)
    if options.profiler.on:
        options.say("once more, for the profile")
        arguments = (class_map, "--seconds", options.seconds, "--rounds", 1, "--only-ours")
        run_alone(_MODULE, *arguments, profile=(options.profiler, "encode"))
    return Outcome(figures=tuple(figures), details=found["rows"])


def _figures(row: dict[str, Any]) -> list[Figure]:
    """Of one size and format: ours to the fastest, and to that which makes the fewest bytes."""
    ours, others = row["ours"], row["others"]
    fastest = min(others, key=lambda name: min(others[name]["us"]))
    smallest = min(others, key=lambda name: min(others[name]["bytes"]))
    return [
        of_rounds(
            ours[unit],
            others[other][unit],
            name=f"encode, {row['side_px']} px {row['format']}, {what}",
            against=other,
            unit={"us": "µs", "bytes": "bytes"}[unit],
            better="lower",
            command=COMMAND,
        )
        for unit, other, what in (("us", fastest, "time"), ("bytes", smallest, "size"))
    ]
