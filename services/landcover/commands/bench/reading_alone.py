"""How fast a scene's windows are read and how fast GDAL decodes the whole of it, in turn.

    python -m landcover.commands.bench.reading_alone SCENE.tif --model FILE.onnx [--threads 2] [--seconds 3]

Prints JSON. Windows overlap by their halos, so that all of them together are more than the image; the floor decodes
each of its tiles once.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import rasterio
from rasterio.windows import Window

from landcover.commands.bench.subject import Subject, subject_of
from landcover.reading import SceneReader
from landcover.settings import ReadSettings

_STRIP_PX = 512
"""Rows that the floor reads at a time; a multiple of a COG's tiles."""

Thing = TypeVar("Thing")


def read_windows(subject: Subject, threads: int) -> int:
    """Read the window of every whole block with nothing in GDAL's cache; how many there are."""
    reader = SceneReader(ReadSettings())
    halo_px = subject.model.contract.halo_px

    def read(some: Iterable[Any]) -> int:
        return sum(reader.read(subject.scene, subject.grid, index, halo_px).valid.shape[0] > 0 for index in some)

    return sum(_share(list(subject.whole_blocks()), threads, read))


def read_all(location: str, threads: int) -> int:
    """Decode the whole image once, each thread a part with a dataset of its own; how many pixels it has."""
    with rasterio.open(location) as image:
        height, width = image.shape

    def read(tops: Iterable[int]) -> int:
        with rasterio.open(location) as image:
            for top in tops:
                image.read(window=Window(0, top, width, min(_STRIP_PX, height - top)))
        return 0

    _share(list(range(0, height, _STRIP_PX)), threads, read)
    return int(height * width)


def _share(things: list[Thing], threads: int, work: Callable[[list[Thing]], int]) -> list[int]:
    """Give each of so many new threads a run of neighbours."""
    size = -(-len(things) // threads)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, [things[at : at + size] for at in range(0, len(things), size)]))


def measure(
    subject: Subject, *, threads: int, seconds: float, rounds: int, only_windows: bool = False
) -> dict[str, Any]:
    """Megapixels per second of both by round, each measured for so many seconds or a little longer."""
    contract = subject.model.contract
    decimation = subject.grid.decimation
    window_mpx, ground_mpx = ((side * decimation) ** 2 / 1e6 for side in (contract.window_px, contract.block_px))
    windows, gdal = [], []
    for _ in range(rounds):
        windows.append(_rate(lambda: read_windows(subject, threads), seconds))
        if not only_windows:
            gdal.append(_rate(lambda: read_all(subject.location, threads), seconds) / 1e6)
    return {
        "threads": threads,
        "windows_mpx_per_s": [rate * window_mpx for rate in windows],
        "ground_mpx_per_s": [rate * ground_mpx for rate in windows],
        "gdal_mpx_per_s": gdal,
    }


def _rate(work: Callable[[], int], seconds: float) -> float:
    """What `work` returns, per second."""
    begin = time.perf_counter()
    done = 0
    for _ in itertools.count():
        done += work()
        if (elapsed := time.perf_counter() - begin) >= seconds:
            break
    return done / elapsed


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Rates of reading windows and of decoding the whole image.")
    parser.add_argument("scene")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-windows", action="store_true", help="for a profile: without GDAL alone")
    arguments = parser.parse_args()
    found = measure(
        subject_of(arguments.scene, arguments.model),
        threads=arguments.threads,
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        only_windows=arguments.only_windows,
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
