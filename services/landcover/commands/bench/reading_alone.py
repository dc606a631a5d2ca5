"""How fast a scene's windows are read and how fast GDAL decodes the whole of it, in turn.

    python -m landcover.commands.bench.reading_alone SCENE.tif --model FILE.onnx [--threads 2] [--seconds 3]

Prints JSON. Windows overlap by their halos, so that all of them together are more than the image; the floors decode
each of its tiles once: GDAL from the file, and, where the tiles are JPEG, libjpeg-turbo (Pillow's) from memory.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import rasterio
from PIL import Image
from rasterio.windows import Window

from landcover.commands.bench.subject import Subject, subject_of
from landcover.grid import BlockIndex
from landcover.reading import SceneReader
from landcover.settings import ReadSettings

_STRIP_PX = 512
"""Rows that the floor reads at a time; a multiple of a COG's tiles."""

Thing = TypeVar("Thing")


def read_windows(subject: Subject, threads: int) -> None:
    """Read the window of every whole block with nothing decoded before."""
    reader = SceneReader(ReadSettings())
    halo_px = subject.model.contract.halo_px

    def read(some: Iterable[BlockIndex]) -> None:
        for index in some:
            reader.read(subject.scene, subject.grid, index, halo_px)

    _share(list(subject.whole_blocks()), threads, read)


def read_all(location: str, threads: int) -> None:
    """Have GDAL decode the whole image once, each thread a part with a dataset of its own."""
    with rasterio.open(location) as image:
        height, width = image.shape

    def read(tops: Iterable[int]) -> None:
        with rasterio.open(location) as image:
            for top in tops:
                image.read(window=Window(0, top, width, min(_STRIP_PX, height - top)))

    _share(list(range(0, height, _STRIP_PX)), threads, read)


def jpeg_tiles(location: str) -> list[bytes]:
    """Every tile of the image as a JPEG file of its own, whose colours need no conversion but JPEG's; else none.

    A TIFF keeps the tables of all its tiles once, between a start and an end marker of two bytes each.
    """
    with rasterio.open(location) as image:
        if (image.profile.get("compress"), image.profile.get("photometric")) != ("jpeg", "ycbcr"):
            return []
        tables = bytes.fromhex(image.get_tag_item("JPEGTABLES", "TIFF", bidx=1) or "")
        height, width = image.block_shapes[0]
        places = itertools.product(range(-(-image.width // width)), range(-(-image.height // height)))
        spans = [
            [int(image.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE")]
            for row, col in places
        ]
    with Path(location).open("rb") as file:
        return [tables[:-2] + _bytes_at(file, *span)[2 if tables else 0 :] for span in spans]


def _bytes_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def decode_all(tiles: list[bytes], threads: int) -> None:
    """Decode each once; nothing is kept."""

    def decode(some: Iterable[bytes]) -> None:
        for tile in some:
            Image.open(io.BytesIO(tile)).load()

    _share(tiles, threads, decode)


def _share(things: list[Thing], threads: int, work: Callable[[list[Thing]], None]) -> None:
    """Give each of so many new threads a run of neighbours."""
    size = -(-len(things) // threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [things[at : at + size] for at in range(0, len(things), size)]))


def measure(
    subject: Subject, *, threads: int, seconds: float, rounds: int, only_windows: bool = False
) -> dict[str, Any]:
    """Megapixels per second by round, each measured for so many seconds or a little longer; of JPEG if it is JPEG."""
    contract = subject.model.contract
    decimation = subject.grid.decimation
    window_mpx, ground_mpx = ((side * decimation) ** 2 / 1e6 for side in (contract.window_px, contract.block_px))
    image_mpx = subject.scene.height_px * subject.scene.width_px / 1e6
    count = len(list(subject.whole_blocks()))
    tiles = [] if only_windows else jpeg_tiles(subject.location)
    windows, gdal, jpeg = [], [], []
    for _ in range(rounds):
        windows.append(_rate(lambda: read_windows(subject, threads), seconds) * count)
        if not only_windows:
            gdal.append(_rate(lambda: read_all(subject.location, threads), seconds) * image_mpx)
        if tiles:
            jpeg.append(_rate(lambda: decode_all(tiles, threads), seconds) * image_mpx)
    return {
        "threads": threads,
        "windows_mpx_per_s": [rate * window_mpx for rate in windows],
        "ground_mpx_per_s": [rate * ground_mpx for rate in windows],
        "gdal_mpx_per_s": gdal,
        "jpeg_mpx_per_s": jpeg,
    }


def _rate(work: Callable[[], object], seconds: float) -> float:
    """How often `work` is done, per second."""
    begin = time.perf_counter()
    for times in itertools.count(1):
        work()
        if (elapsed := time.perf_counter() - begin) >= seconds:
            return times / elapsed
    raise AssertionError


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
