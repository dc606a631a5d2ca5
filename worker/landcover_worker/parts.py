"""What a block costs when nothing is around it: read, network and encoding alone, in one process.

    python -m landcover_worker.parts SCENE.tif [--model FILE.onnx] [--blocks 8]

Prints JSON. `landcover bench` compares a cold tile and a worker's rate with the sum.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landcover import block
from landcover.catalog import demo_model_path, expand_scenes
from landcover.contract import read_model
from landcover.grid import grid_for
from landcover.reading import SceneReader
from landcover.scene import current_version, describe
from landcover.settings import ReadSettings
from landcover_worker.session import Session
from landcover_worker.settings import WorkerSettings


def measure(location: str, model_path: Path, count: int) -> dict[str, Any]:
    """Median seconds of each part over `count` blocks of the scene, one after the other, and of processor time."""
    read = ReadSettings()
    source = next(iter(expand_scenes(location)))
    scene = describe(source, current_version(source, read), read)
    model = read_model(model_path)
    contract, grid = model.contract, grid_for(scene, model.contract)
    session = Session(model, WorkerSettings())
    session.warm_up()
    reader = SceneReader(read)
    parts = {"read": _Times(time.thread_time), "infer": _Times(time.process_time), "encode": _Times(time.thread_time)}
    inner = slice(contract.halo_px, contract.halo_px + contract.block_px)
    for index in itertools.islice(itertools.cycle(grid.blocks()), count):
        with parts["read"].taken():
            window = reader.read(scene, grid, index, contract.halo_px)
        with parts["infer"].taken():
            classes, confidence = session.run([window.image])
        with parts["encode"].taken():
            block.encode(classes[0, inner, inner], confidence[0, inner, inner], contract.max_value)
    medians = {f"{name}_s": statistics.median(part.wall_s) for name, part in parts.items()}
    return medians | {
        "provider": session.provider,
        "blocks": count,
        "total_s": sum(medians.values()),
        "cpu_s": {name: statistics.median(part.cpu_s) for name, part in parts.items()},
    }


@dataclass
class _Times:
    """How long one part took, each time."""

    clock: Callable[[], float]
    """Of processor time: the thread's, for what runs in it alone, since a network's threads spin on for a while."""
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Time the body."""
        begin, used = time.perf_counter(), self.clock()
        yield
        self.wall_s.append(time.perf_counter() - begin)
        self.cpu_s.append(self.clock() - used)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Time the parts of a block alone, in one process.")
    parser.add_argument("scene")
    parser.add_argument("--model", type=Path, default=demo_model_path())
    parser.add_argument("--blocks", type=int, default=8)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.scene, arguments.model, arguments.blocks)))


if __name__ == "__main__":
    main()
