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
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Median seconds of each part over `count` blocks of the scene, one after the other."""
    read = ReadSettings()
    source = next(iter(expand_scenes(location)))
    scene = describe(source, current_version(source, read), read)
    model = read_model(model_path)
    contract, grid = model.contract, grid_for(scene, model.contract)
    session = Session(model, WorkerSettings())
    session.warm_up()
    reader = SceneReader(read)
    seconds: dict[str, list[float]] = {"read": [], "infer": [], "encode": []}
    inner = slice(contract.halo_px, contract.halo_px + contract.block_px)
    for index in itertools.islice(itertools.cycle(grid.blocks()), count):
        with _timed(seconds["read"]):
            window = reader.read(scene, grid, index, contract.halo_px)
        with _timed(seconds["infer"]):
            classes, confidence = session.run([window.image])
        with _timed(seconds["encode"]):
            block.encode(classes[0, inner, inner], confidence[0, inner, inner], contract.max_value)
    medians = {f"{part}_s": statistics.median(times) for part, times in seconds.items()}
    return medians | {"provider": session.provider, "blocks": count, "total_s": sum(medians.values())}


@contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    times.append(time.perf_counter() - begin)


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
