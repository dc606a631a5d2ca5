"""Every way in which this CPU can run a model, measured on the same windows in turn.

    python -m landcover_worker.cpu_runtimes [MODEL.onnx] [--rounds 12] [--json FILE]

A machine's pace changes from one second to the next, so each round runs every way once, and a way is judged by its
ratio to the first way in the same round. What came of it is in docs/benchmarks.md; what a worker uses, in `runtimes`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from landcover.catalog import demo_model_path
from landcover.contract import read_model
from landcover.demo import DEMO_SEED, draw
from landcover_worker.cpu_ways import Run, Way, all_ways
from landcover_worker.runtimes.base import UInt8Array
from landcover_worker.seams import read_area
from landcover_worker.settings import available_cpus

SETTLE_S = 0.02
"""Before each run, so that the threads of the way before no longer spin."""
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""What decides how fast 32, 16 and 8 bits are, as Linux names it."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One way; times are of one window."""

    way: str
    fault: str = ""
    """Why it could not be run; then there are no figures."""
    load_s: float | None = None
    min_ms: float | None = None
    median_ms: float | None = None
    ratio_of_min: float | None = None
    """To the first way's."""
    median_ratio: float | None = None
    """Median over the rounds of the ratio to the first way in the same round."""
    equal_share: float | None = None
    """Pixels whose class is the first way's."""
    max_confidence_difference: int | None = None
    """0..255, at any pixel."""


class _Loaded:
    """A way in a thread of its own, since a runtime may set things for whoever calls it (denormals, for one)."""

    def __init__(self, way: Way, data: bytes, window: UInt8Array) -> None:
        """Loads it and runs it once on `window`; raises whatever the way does."""
        self._thread = ThreadPoolExecutor(1)
        begin = time.perf_counter()
        self._run = self._thread.submit(way.load, data, len(window)).result()
        self.run(window)
        self.load_s = time.perf_counter() - begin

    def run(self, window: UInt8Array) -> tuple[tuple[UInt8Array, UInt8Array], float]:
        """The answer, and the seconds that it took."""
        return self._thread.submit(_timed, self._run, window).result()


def _timed(run: Run, window: UInt8Array) -> tuple[tuple[UInt8Array, UInt8Array], float]:
    begin = time.perf_counter()
    answer = run(window)
    return answer, time.perf_counter() - begin


def measure(ways: Sequence[Way], data: bytes, windows: Sequence[UInt8Array], rounds: int) -> list[Measured]:
    """Every way on `windows` `(side, side, 3)` of one size; round by round, each way in turn runs one of them."""
    loaded: dict[str, _Loaded] = {}
    faults: dict[str, str] = {}
    for way in ways:
        try:
            loaded[way.name] = _Loaded(way, data, windows[0])
        except Exception as error:  # each runtime has its own; a way that a machine lacks is a finding
            faults[way.name] = (str(error).strip() or type(error).__name__).splitlines()[0]
    answers = {name: [each.run(window)[0] for window in windows] for name, each in loaded.items()}
    seconds: dict[str, list[float]] = {name: [] for name in loaded}
    for i in track(range(rounds), description=f"{len(loaded)} ways"):
        for name, each in loaded.items():
            time.sleep(SETTLE_S)
            seconds[name].append(each.run(windows[i % len(windows)])[1])
    first = ways[0].name
    return [
        Measured(way=way.name, fault=faults[way.name])
        if way.name in faults
        else Measured(
            way=way.name,
            load_s=loaded[way.name].load_s,
            min_ms=min(seconds[way.name]) * 1e3,
            median_ms=statistics.median(seconds[way.name]) * 1e3,
            ratio_of_min=min(seconds[way.name]) / min(seconds[first]),
            median_ratio=statistics.median(a / b for a, b in zip(seconds[way.name], seconds[first], strict=True)),
            **_agreement(answers[way.name], answers[first]),
        )
        for way in ways
    ]


def _agreement(
    ours: Sequence[tuple[UInt8Array, UInt8Array]], theirs: Sequence[tuple[UInt8Array, UInt8Array]]
) -> dict[str, Any]:
    classes, confidence = (np.stack(each) for each in zip(*ours, strict=True))
    expected, sure = (np.stack(each) for each in zip(*theirs, strict=True))
    return {
        "equal_share": float((classes == expected).mean()),
        "max_confidence_difference": int(np.abs(confidence.astype(int) - sure).max()),
    }


def machine() -> dict[str, Any]:
    """What decides the figures: processor, instructions, cores and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", "").split())
    versions = {}
    for name in ("onnxruntime", "openvino"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": fields.get("model name", "unknown"),
        "instructions": [each for each in INSTRUCTIONS if each in flags],
        "cores": available_cpus(),
        **versions,
    }


def _windows(scene: str | None, model_path: Path, side_px: int, count: int) -> list[UInt8Array]:
    """Up to `count` windows in a row along the middle of a scene, or of the drawn one."""
    across = int(np.ceil(np.sqrt(count)))
    size_px = across * side_px
    image = draw(DEMO_SEED, size_px, size_px)[0] if scene is None else read_area(scene, model_path, size_px)
    rows, cols = range(0, image.shape[0] - side_px + 1, side_px), range(0, image.shape[1] - side_px + 1, side_px)
    places = [(row, col) for row in rows for col in cols]
    return [np.ascontiguousarray(image[row : row + side_px, col : col + side_px]) for row, col in places[:count]]


def _table(rows: Sequence[Measured]) -> Table:
    table = Table()
    table.add_column("way")
    for name in ("ratio", "minima", "ms", "min ms", "load s", "same class", "sure ±"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.fault:
            table.add_row(f"{row.way}: {row.fault}")
        else:
            table.add_row(
                row.way,
                f"{row.median_ratio:.2f}",
                f"{row.ratio_of_min:.2f}",
                f"{row.median_ms:.0f}",
                f"{row.min_ms:.0f}",
                f"{row.load_s:.1f}",
                f"{row.equal_share:.5f}",
                f"{row.max_confidence_difference}",
            )
    return table


def main() -> None:
    """Run from the command line; prints a table, and writes JSON with --json."""
    parser = argparse.ArgumentParser(
        prog="python -m landcover_worker.cpu_runtimes",
        description="Run a model in every way that this CPU has: ONNX Runtime and OpenVINO (if it is installed), with\n"
        "each setting of theirs that may matter, one at a time. Every way runs the same windows, in turn, so\n"
        "that what else the machine does falls on all of them alike.",
        epilog="columns:\n"
        "  ratio         to the first way, ONNX Runtime as it comes: the median over all rounds; below 1 is faster\n"
        "  minima        the same of each way's fastest run; where the two differ, the machine was busy\n"
        "  same class    pixels with the first way's class; sure ± the largest difference in confidence, of 255\n\n"
        "All ways are loaded at once: with windows of 896 px each holds a third of a gigabyte, and a round takes some\n"
        "ten seconds of two cores. --only measures fewer.\n\n"
        "examples:\n"
        "  python -m landcover_worker.cpu_runtimes                              # the model that is shipped\n"
        "  python -m landcover_worker.cpu_runtimes b4.onnx --scene ortho.tif --rounds 20 --json b4.json\n"
        "  python -m landcover_worker.cpu_runtimes m.onnx --other int8=m-int8.onnx --only int8",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, nargs="?", default=demo_model_path(), help="(the model that is shipped)")
    parser.add_argument("--scene", help="whose pixels the model is run on (the drawn demonstration)")
    parser.add_argument("--rounds", type=int, default=12, help="runs of each way (12)")
    parser.add_argument("--windows", type=int, default=4, help="how many different ones, the rounds take turns (4)")
    parser.add_argument("--threads", type=int, default=available_cpus(), help="at most (all cores)")
    parser.add_argument(
        "--other",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="the same model in another form, as of 8 bits, for both runtimes as they come",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="the first way, and those whose names hold any of these"
    )
    parser.add_argument("--json", type=Path, help="write the figures and the machine's description here")
    arguments = parser.parse_args()
    others = {name: Path(file).read_bytes() for name, _, file in (each.partition("=") for each in arguments.other)}
    ways = all_ways(arguments.threads, others)
    if arguments.only:
        ways = ways[:1] + [each for each in ways[1:] if any(text in each.name for text in arguments.only)]
    contract = read_model(arguments.model).contract
    windows = _windows(arguments.scene, arguments.model, contract.window_px, arguments.windows)
    rows = measure(ways, arguments.model.read_bytes(), windows, arguments.rounds)
    about = machine()
    console = Console()
    console.print(f"{arguments.model.name}, {contract.window_px} px;", ", ".join(f"{k} {v}" for k, v in about.items()))
    console.print(_table(rows))
    if arguments.json:
        report = {
            "machine": about,
            "model": arguments.model.name,
            "window_px": contract.window_px,
            "rounds": arguments.rounds,
            "ways": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
