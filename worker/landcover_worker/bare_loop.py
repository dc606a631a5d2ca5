"""What a network does when nothing else has to be done: one session over windows that are already in memory.

    python -m landcover_worker.bare_loop SCENE.tif [--model FILE.onnx] [--seconds 5]

Prints JSON: the best rate of all sizes of batch that a worker would run. `landcover bench` compares a worker's rate
with it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landcover.catalog import demo_model_path, expand_scenes
from landcover.contract import read_model
from landcover.grid import grid_for
from landcover.reading import SceneReader
from landcover.scene import current_version, describe
from landcover.settings import ReadSettings
from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.session import Session
from landcover_worker.settings import WorkerSettings

_WINDOWS = 16


def measure(location: str, model_path: Path, seconds: float) -> dict[str, Any]:
    """Blocks per second of each size of batch, and the best of them."""
    read = ReadSettings()
    source = next(iter(expand_scenes(location)))
    scene = describe(source, current_version(source, read), read)
    model = read_model(model_path)
    grid, reader = grid_for(scene, model.contract), SceneReader(read)
    session = Session(model, WorkerSettings())
    session.warm_up()
    some = itertools.islice(itertools.cycle(grid.blocks()), max(_WINDOWS, session.max_batch))
    windows = [reader.read(scene, grid, index, model.contract.halo_px).image for index in some]
    sizes = _sizes(session.max_batch)
    rates = {size: _rate(session, windows, size, seconds / len(sizes)) for size in sizes}
    best = max(rates, key=rates.__getitem__)
    return {"provider": session.provider, "blocks_per_s": rates[best], "batch": best, "rates": rates}


def _sizes(most: int) -> list[int]:
    """Powers of two, and the most."""
    return sorted({min(1 << power, most) for power in range(most.bit_length() + 1)})


def _rate(session: Session, windows: Sequence[UInt8Array], size: int, seconds: float) -> float:
    blocks, at = 0, 0
    begin = time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        session.run(windows[at : at + size])
        blocks += size
        at = (at + size) % (len(windows) - size + 1)
    return blocks / elapsed


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="The rate of a network in a bare loop.")
    parser.add_argument("scene")
    parser.add_argument("--model", type=Path, default=demo_model_path())
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.scene, arguments.model, arguments.seconds)))


if __name__ == "__main__":
    main()
