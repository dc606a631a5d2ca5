"""What other tools need for the same areas, each in a process of its own.

    python -m landcover.commands.bench.statistics.peers exactextract MAP.tif POLYGONS.geojson MAX_VALUE

Prints JSON. Polygons are in the map's CRS.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from landcover.commands.bench.processes import peak_mb
from landcover.errors import Unavailable
from landcover.local import end_with_parent

EXACTEXTRACT = "exactextract"
RASTERSTATS = "rasterstats"
_ROUNDS = 3
_LONG_S = 1.0
"""What takes longer is timed once."""
_GDAL_CACHE_MB = 64
"""GDAL's own default is a twentieth of the machine's memory, which would be measured instead of the tool's need."""


@dataclass(frozen=True, kw_only=True)
class PeerFigures:
    """What one tool needed for some polygons."""

    seconds: float
    """Of processor time: the median, from opening the map on; importing is left out."""
    peak_mb: float
    """Of the whole process."""
    pixels: tuple[tuple[float, ...], ...]
    """Of each polygon and class value, index 0 = unknown."""


def is_installed(tool: str) -> bool:
    """Whether the tool can be measured here."""
    return find_spec(tool) is not None


def measure_peer(tool: str, class_map: Path, polygons: Path, max_value: int) -> PeerFigures:
    """Run a tool over the polygons of a file.

    Raises:
        Unavailable: it fails; it has said why.
    """
    command = [sys.executable, "-m", __name__, tool, str(class_map), str(polygons), str(max_value)]
    environment = os.environ | {"GDAL_CACHEMAX": str(_GDAL_CACHE_MB)}
    done = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C is ours alone, and ends it
        preexec_fn=end_with_parent,
    )
    if done.returncode:
        raise Unavailable(f"{tool} ended with status {done.returncode}; what it said stands above.")
    found = json.loads(done.stdout)
    return PeerFigures(
        seconds=found["seconds"], peak_mb=found["peak_mb"], pixels=tuple(tuple(each) for each in found["pixels"])
    )


def _exactextract(class_map: str, features: Sequence[Any], max_value: int) -> list[list[float]]:
    from exactextract import exact_extract

    answers = exact_extract(class_map, list(features), ["unique", "frac", "count"])
    tables = []
    for answer in answers:
        found = answer["properties"]
        pixels = [0.0] * (max_value + 1)
        for value, share in zip(found["unique"], found["frac"], strict=True):
            pixels[int(value)] = float(share) * float(found["count"])
        tables.append(pixels)
    return tables


def _rasterstats(class_map: str, features: Sequence[Any], max_value: int) -> list[list[float]]:
    tool = import_module(RASTERSTATS)  # no part of any extra: measured where somebody has installed it
    answers = tool.zonal_stats(list(features), class_map, categorical=True, stats=[])
    return [[float(answer.get(value, 0)) for value in range(max_value + 1)] for answer in answers]


_TOOLS: dict[str, Callable[[str, Sequence[Any], int], list[list[float]]]] = {
    EXACTEXTRACT: _exactextract,
    RASTERSTATS: _rasterstats,
}


def main(arguments: Sequence[str]) -> None:
    """Run from the command line."""
    tool, class_map, polygons, max_value = arguments
    import_module(tool)
    features = json.loads(Path(polygons).read_text(encoding="utf-8"))["features"]
    seconds: list[float] = []
    pixels: list[list[float]] = []
    while len(seconds) < _ROUNDS and (not seconds or seconds[-1] < _LONG_S):
        begin = time.process_time()
        pixels = _TOOLS[tool](class_map, features, int(max_value))
        seconds.append(time.process_time() - begin)
    print(json.dumps({"seconds": statistics.median(seconds), "peak_mb": peak_mb(os.getpid()), "pixels": pixels}))


if __name__ == "__main__":
    main(sys.argv[1:])
