"""Everything that is to be known of a GPU machine, in one go: rates, agreement of 16 bits, and the worker around it.

    python -m landcover_worker.gpu_check MODEL.onnx [MODEL-fp16.onnx …]

`runtimes.onnx_gpu` is what it runs, as a worker does. With `--device cpu` it is a rehearsal: the same code, no GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime as ort
import rasterio
from rich.console import Console
from rich.table import Table

from landcover import block
from landcover.catalog import demo_model_path, expand_scenes
from landcover.contract import ModelFile, read_model
from landcover.demo import DEMO_SEED, draw
from landcover.errors import InvalidConfiguration, LandcoverError
from landcover.grid import BlockIndex, Grid, grid_for
from landcover.reading import SceneReader
from landcover.scene import Scene, current_version, describe
from landcover.settings import ReadSettings
from landcover_worker.batching import Batcher
from landcover_worker.flops import flop_a_pixel
from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.runtimes.onnx_gpu import CPU, OnnxGpu
from landcover_worker.service import slots_for
from landcover_worker.settings import WorkerSettings, available_cpus

MIN_EQUAL_SHARE = 0.995
"""Of pixels to which all models must give the first one's class."""
JAPAN_PX, JAPAN_S = 1.6e12, 4 * 3600
"""378 000 km² at 0.48 m, and how long a machine may take over them."""
_GSD_M = 0.5
_MOST_BLOCKS = 1024
"""Of a scene that are made, again and again."""
_ALONE = 64
"""Blocks that are read one by one for the time that takes."""
_DRAWN_PX = 2048

Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The network in a bare loop, windows in memory, at its best size of batch."""

    side_px: int
    batch: int
    mpx_per_s: float
    """Of windows, halos included."""
    tflop_per_s: float
    peak_share: float | None
    """Of what the GPU can do at most, as --peak-tflops says."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What came of one model."""

    model: str
    engine: str
    load_and_warm_s: float
    equal_share: float
    """Pixels with the class that the first model gives them by CUDA's kernels, neither TensorRT's nor captured."""
    rates: tuple[Rate, ...]
    bare_blocks_per_s: float
    """Windows of the contract's size in the bare loop."""
    worker_blocks_per_s: float
    """Read from the image, batched, run, and encoded, all at once."""
    worker_share: float
    read_cpu_s: float
    """Processor time of reading a block's window, and of encoding a block; alone."""
    encode_cpu_s: float
    output_mpx_per_s: float
    """Of the worker, without halos: what a map grows by."""
    km2_per_h: float
    """Of the worker, at 0.5 m a pixel."""
    cores_needed: float
    """That reading and encoding take while the network never waits."""


def check(path: Path, reference: Path, scene_path: str, options: argparse.Namespace) -> Checked:
    """Measure one model on one scene.

    Raises:
        LandcoverError: the scene and the model are no match, or there is no GPU and one is demanded.
    """
    begin = time.perf_counter()
    model, runtime = _load(path, options)
    contract = model.contract
    read = ReadSettings()
    source = next(iter(expand_scenes(scene_path)))
    scene = describe(source, current_version(source, read), read)
    grid = grid_for(scene, contract)
    indices = list(itertools.islice(grid.blocks(), _MOST_BLOCKS))
    inner = slice(contract.halo_px, contract.halo_px + contract.block_px)
    reader = SceneReader(read)

    def image(index: BlockIndex) -> UInt8Array:
        return reader.read(scene, grid, index, contract.halo_px).image

    def encode(classes: UInt8Array) -> dict[str, bytes]:
        return block.encode(classes[inner, inner], classes[inner, inner], contract.max_value)

    read_s, windows = _timed(image, indices[:_ALONE])
    for count in runtime.warm_sizes:
        runtime.run([windows[i % len(windows)] for i in range(count)])
    ready_s = time.perf_counter() - begin - read_s * len(windows)
    classes = [runtime.run([window])[0][0] for window in windows[:8]]
    first = OnnxGpu(reference.read_bytes(), WorkerSettings(max_batch=1))
    expected = [first.run([window])[0][0] for window in windows[:8]]
    encode_s, _ = _timed(encode, classes)
    flop = flop_a_pixel(path.read_bytes())
    rates = tuple(
        _best_rate(runtime, _cut(windows, side), flop, options) for side in sorted({*options.sides, contract.window_px})
    )
    bare = next(each for each in rates if each.side_px == contract.window_px).mpx_per_s * 1e6 / contract.window_px**2
    made = _worker_rate(runtime, model, scene, grid, indices, options.seconds)
    output = made * contract.block_px**2
    return Checked(
        model=path.name,
        engine=runtime.engine,
        load_and_warm_s=ready_s,
        equal_share=float(np.mean(np.stack(classes) == np.stack(expected))),
        rates=rates,
        bare_blocks_per_s=bare,
        worker_blocks_per_s=made,
        worker_share=made / bare,
        read_cpu_s=read_s,
        encode_cpu_s=encode_s,
        output_mpx_per_s=output / 1e6,
        km2_per_h=output * _GSD_M**2 * 3600 / 1e6,
        cores_needed=bare * (read_s + encode_s),
    )


def _load(path: Path, options: argparse.Namespace) -> tuple[ModelFile, OnnxGpu]:
    model = read_model(path)
    settings = WorkerSettings(max_batch=options.batch, tensorrt=options.tensorrt, cuda_graphs=options.cuda_graphs)
    runtime = OnnxGpu(path.read_bytes(), settings)
    if options.device == "cuda" and runtime.engine == CPU:
        raise InvalidConfiguration(
            f"There is no GPU that ONNX Runtime {ort.__version__} can use (it has {ort.get_available_providers()}); "
            "install `landcover-tiles[gpu]`, or rehearse with --device cpu."
        )
    return model, runtime


def _timed(work: Callable[[Given], Found], things: Sequence[Given]) -> tuple[float, list[Found]]:
    """Mean processor time of this thread over `work` on each of `things`, and what it returned."""
    begin = time.thread_time()
    found = [work(thing) for thing in things]
    return (time.thread_time() - begin) / len(things), found


def _cut(windows: Sequence[UInt8Array], side_px: int) -> list[UInt8Array]:
    """The windows' upper left corners, or of larger sides their mirrored enlargements."""
    beyond = max(0, side_px - windows[0].shape[0])
    return [
        np.ascontiguousarray(np.pad(each, ((0, beyond), (0, beyond), (0, 0)), mode="symmetric")[:side_px, :side_px])
        for each in windows
    ]


def _best_rate(runtime: OnnxGpu, windows: Sequence[UInt8Array], flop: float, options: argparse.Namespace) -> Rate:
    rates = {size: _rate(runtime, windows, size, options.seconds) for size in runtime.warm_sizes}
    batch = max(rates, key=rates.__getitem__)
    side = len(windows[0])
    tflop_per_s = rates[batch] * side**2 * flop / 1e12
    return Rate(
        side_px=side,
        batch=batch,
        mpx_per_s=rates[batch] * side**2 / 1e6,
        tflop_per_s=tflop_per_s,
        peak_share=tflop_per_s / options.peak_tflops if options.peak_tflops else None,
    )


def _rate(runtime: OnnxGpu, windows: Sequence[UInt8Array], size: int, seconds: float) -> float:
    """Windows per second in batches of `size`, after two that capture graphs and choose kernels."""
    batch = [windows[i % len(windows)] for i in range(size)]
    for _ in range(2):
        runtime.run(batch)
    count = 0
    begin = time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        runtime.run(batch)
        count += size
    return count / elapsed


def _worker_rate(
    runtime: OnnxGpu, model: ModelFile, scene: Scene, grid: Grid, indices: Sequence[BlockIndex], seconds: float
) -> float:
    """Blocks per second from image to encoded map, with a worker's threads and batches, without queue and cache."""
    contract = model.contract
    inner = slice(contract.halo_px, contract.halo_px + contract.block_px)
    batcher = Batcher(runtime.run, runtime.max_batch, model.name)
    threads = slots_for(runtime.max_batch)
    begin = time.perf_counter()

    def make_some(first: int) -> int:
        made = 0
        while True:
            reader = SceneReader(ReadSettings())  # anew in each round: what GDAL has decoded must not be there again
            for index in indices[first % len(indices) :: threads]:
                if time.perf_counter() - begin >= seconds:
                    return made
                window = reader.read(scene, grid, index, contract.halo_px)
                classes, confidence = batcher.infer(window.image)
                block.encode(classes[inner, inner], confidence[inner, inner], contract.max_value)
                made += 1

    with ThreadPoolExecutor(threads) as pool:
        count = sum(pool.map(make_some, range(threads)))
    rate = count / (time.perf_counter() - begin)
    batcher.close()
    return rate


@contextmanager
def _scene(given: str | None, side_px: int) -> Iterator[str]:
    """The scene to read: the one given, or the drawn one as a GeoTIFF of JPEG tiles."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "drawn.tif")
        across = -(-side_px // _DRAWN_PX)
        image = np.tile(draw(DEMO_SEED, _DRAWN_PX, _DRAWN_PX)[0], (across, across, 1))[:side_px, :side_px]
        profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": side_px, "width": side_px}
        profile |= {"crs": "EPSG:32654", "transform": rasterio.Affine(_GSD_M, 0, 5e5, 0, -_GSD_M, 4e6)}
        profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512}
        profile |= {"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 85}
        with rasterio.open(path, "w", **profile) as file:
            file.write(np.moveaxis(image, -1, 0))
        yield str(path)


def _print(console: Console, found: Sequence[Checked]) -> None:
    table = Table(title="the network alone, windows in memory")
    for name in ("model", "engine", "side px", "batch", "Mpx/s", "TFLOP/s", "of the peak"):
        table.add_column(name)
    for each in found:
        for rate in each.rates:
            share = "" if rate.peak_share is None else f"{rate.peak_share:.0%}"
            row = each.model, each.engine.removesuffix("ExecutionProvider"), rate.side_px, rate.batch
            table.add_row(*map(str, row), f"{rate.mpx_per_s:.1f}", f"{rate.tflop_per_s:.2f}", share)
    console.print(table)
    table = Table(title="the worker around it")
    for name in ("model", "same class", "bare /s", "worker /s", "share", "Mpx/s out", "km²/h", "cores needed", "Japan"):
        table.add_column(name)
    for each in found:
        hours = JAPAN_PX / (each.output_mpx_per_s * 1e6) / 3600
        figures = f"{each.equal_share:.4%}", f"{each.bare_blocks_per_s:.2f}", f"{each.worker_blocks_per_s:.2f}"
        more = f"{each.worker_share:.2f}", f"{each.output_mpx_per_s:.2f}", f"{each.km2_per_h:.0f}"
        table.add_row(each.model, *figures, *more, f"{each.cores_needed:.1f}", f"{hours:.1f} h")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 if a model disagrees with the first."""
    parser = argparse.ArgumentParser(
        prog="python -m landcover_worker.gpu_check",
        description="Check and time models on a GPU as a worker runs them: Mpx/s alone and as share of its peak,\n"
        "agreement with the first model, and a whole worker, JPEG in and compressed maps out, beside it.",
        epilog="on a GPU machine, once the package is installed (`pip install 'landcover-tiles[gpu]'`), with models\n"
        "that a machine with torch has made:\n"
        "  landcover export --random --network openearthmap-b4 --name b4 --out b4.onnx\n"
        "  landcover export --random --network openearthmap-b4 --name b4-fp16 --precision fp16 --out b4-fp16.onnx\n"
        "(random weights are right for speed; for agreement export a trained checkpoint in both precisions)\n"
        "  python -m landcover_worker.gpu_check b4.onnx b4-fp16.onnx --peak-tflops 989 --json gpu.json\n"
        "  python -m landcover_worker.gpu_check b4-fp16.onnx --cuda-graphs --batch 16\n"
        "  python -m landcover_worker.gpu_check b4.onnx --tensorrt engines/ --sides\n\n"
        "a rehearsal where there is no GPU:\n"
        "  python -m landcover_worker.gpu_check --device cpu --batch 1 --seconds 2\n\n"
        f"'cores needed' is what reading and encoding take at the network's own rate: more than the {available_cpus()} "
        "cores\nhere, and they are the wall. 'Japan' is 1.6e12 pixels at the worker's rate; the aim is four hours.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", type=Path, nargs="*", help="ONNX files; the first is what others must agree with")
    parser.add_argument("--scene", help="a GeoTIFF to read (one is drawn)")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: go on where there is no GPU (cuda)"
    )
    parser.add_argument("--batch", type=int, help="the most windows in a run (8)")
    parser.add_argument("--sides", type=int, nargs="*", default=[512, 1024], help="windows, too (512 1024), px")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement (10)")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU: 989 for an H100 or H200 at 16 bits, dense")
    parser.add_argument("--tensorrt", type=Path, help="a folder for engines: TensorRT runs the models")
    parser.add_argument("--cuda-graphs", action="store_true", help="capture each size of batch")
    parser.add_argument("--side", type=int, default=8192, help="of the drawn scene (8192), px")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args(arguments)
    models = options.models or [demo_model_path()]
    try:
        with _scene(options.scene, options.side) as scene:
            found = [check(path, models[0], scene, options) for path in models]
    except LandcoverError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console()
    _print(console, found)
    if options.json:
        report = {"onnxruntime": ort.__version__, "cores": available_cpus(), "models": [asdict(each) for each in found]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if odd := [each.model for each in found if each.equal_share < MIN_EQUAL_SHARE]:
        console.print(
            f"{', '.join(odd)}: fewer than {MIN_EQUAL_SHARE:.1%} of pixels have the class of {models[0].name}"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
