"""How much blocks disagree where they meet, by block size and halo, against what it costs.

    python -m landcover_worker.seams SCENE.tif [SCENE.tif …] [--model FILE.onnx] [--size 2048]

The reference for every pixel is a window in which it has at least `REFERENCE_HALO_PX` of context on each side. A
network's view has no edge in theory (squeeze-and-excitation sees its whole window) and a wide one in practice, so
the halo is chosen by this measurement, recorded in docs/seams.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from landcover.catalog import demo_model_path, expand_scenes
from landcover.contract import read_model
from landcover.grid import BlockIndex, grid_for
from landcover.reading import SceneReader
from landcover.scene import current_version, describe
from landcover.settings import ReadSettings
from landcover_worker.session import Session
from landcover_worker.settings import WorkerSettings

UInt8Array = npt.NDArray[np.uint8]

REFERENCE_BLOCK_PX = 512
REFERENCE_HALO_PX = 384
BORDER_PX = 8
"""Width of the strip along a block's border that is looked at on its own."""
BLOCKS_PX = (256, 512, 1024)
HALOS_PX = (0, 16, 32, 64, 96, 128, 192)


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One choice of block and halo, over all scenes."""

    block_px: int
    halo_px: int
    overall: float
    """Share of pixels whose class differs from the reference's."""
    border: float
    """The same, within `BORDER_PX` of a block's border."""
    cost: float
    """Pixels inferred for each pixel kept."""
    seconds_per_mpx: float
    """Network time for each million pixels kept."""


def read_area(location: str, model_path: Path, size_px: int) -> UInt8Array:
    """The middle `(size, size, 3)` of a scene on the model's grid, mirrored where the scene is smaller."""
    read = ReadSettings()
    source = next(iter(expand_scenes(location)))
    scene = describe(source, current_version(source, read), read)
    grid = grid_for(scene, read_model(model_path).contract)
    reader = SceneReader(read)
    rows = [
        np.concatenate([reader.read(scene, grid, BlockIndex(row, col), 0).image for col in range(grid.cols)], axis=1)
        for row in range(grid.rows)
    ]
    image = np.concatenate(rows)[: grid.height_px, : grid.width_px]
    top, left = max(0, (image.shape[0] - size_px) // 2), max(0, (image.shape[1] - size_px) // 2)
    return image[top : top + size_px, left : left + size_px]


def map_by_blocks(session: Session, image: UInt8Array, block_px: int, halo_px: int) -> tuple[UInt8Array, float]:
    """Class map `(height, width)` block by block, and the seconds the network took."""
    height, width = image.shape[:2]
    tall, wide = -height % block_px, -width % block_px
    padded = np.pad(image, ((halo_px, halo_px + tall), (halo_px, halo_px + wide), (0, 0)), mode="reflect")
    out = np.zeros((height + tall, width + wide), np.uint8)
    side, seconds = block_px + 2 * halo_px, 0.0
    for row in range(0, height, block_px):
        for col in range(0, width, block_px):
            begin = time.perf_counter()
            classes, _ = session.run([padded[row : row + side, col : col + side]])
            seconds += time.perf_counter() - begin
            inner = slice(halo_px, halo_px + block_px)
            out[row : row + block_px, col : col + block_px] = classes[0, inner, inner]
    return out[:height, :width], seconds


def compare(
    session: Session, images: Sequence[UInt8Array], choices: Iterable[tuple[int, int]]
) -> Iterator[Disagreement]:
    """Every choice of (block px, halo px) against the reference."""
    references = [map_by_blocks(session, image, REFERENCE_BLOCK_PX, REFERENCE_HALO_PX)[0] for image in images]
    for block_px, halo_px in choices:
        differs, border, seconds = [], [], 0.0
        for image, reference in zip(images, references, strict=True):
            ours, taken = map_by_blocks(session, image, block_px, halo_px)
            seconds += taken
            wrong = ours != reference
            differs.append(wrong.ravel())
            border.append(wrong[_border(wrong.shape, block_px)])
        pixels = sum(each.size for each in differs)
        yield Disagreement(
            block_px=block_px,
            halo_px=halo_px,
            overall=float(np.concatenate(differs).mean()),
            border=float(np.concatenate(border).mean()),
            cost=((block_px + 2 * halo_px) / block_px) ** 2,
            seconds_per_mpx=seconds / pixels * 1e6,
        )


def _border(shape: tuple[int, ...], block_px: int) -> npt.NDArray[np.bool_]:
    """Pixels within `BORDER_PX` of a line between two blocks (the image's own edge is none)."""
    near = []
    for size in shape:
        at = np.arange(size)
        distance = np.minimum(at % block_px, block_px - 1 - at % block_px)
        interior = (at >= BORDER_PX) & (at < size - BORDER_PX)
        near.append((distance < BORDER_PX) & interior)
    return np.logical_or(near[0][:, None], near[1][None, :])


def main() -> None:
    """Run from the command line; prints a Markdown table, and JSON with --json."""
    parser = argparse.ArgumentParser(description="Measure how much blocks disagree where they meet.")
    parser.add_argument("scenes", nargs="+")
    parser.add_argument("--model", type=Path, default=demo_model_path())
    parser.add_argument("--size", type=int, default=2048, help="pixels a side of each scene's middle (default: 2048)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    session = Session(read_model(arguments.model), WorkerSettings(device="auto"))
    images = [read_area(scene, arguments.model, arguments.size) for scene in arguments.scenes]
    choices = [(block, halo) for block in BLOCKS_PX for halo in HALOS_PX if halo <= block // 2]
    rows = list(compare(session, images, track(choices, description="block and halo")))
    print("| block px | halo px | differs | differs at borders | px inferred per px kept | s per Mpx |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.block_px} | {row.halo_px} | {row.overall:.3%} | {row.border:.3%} | {row.cost:.2f} "
            f"| {row.seconds_per_mpx:.2f} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
