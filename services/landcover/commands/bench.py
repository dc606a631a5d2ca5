"""`landcover bench`: what tiles and statistics cost, as ratios to floors measured in the same run."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from landcover import local
from landcover.catalog import demo_model_path
from landcover.connections import connect
from landcover.errors import InvalidConfiguration, InvalidRequest
from landcover.load import LoadResult, load

CONNECTIONS = (1, 16, 64)
COLD_ZOOM = 19
SCALE_SECONDS = 60.0


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "bench",
        help="measure this machine: tiles against their floors, statistics beside exactextract, jobs at scale",
        description="Start a service of its own and measure it. Every figure is a ratio to a floor measured in the\n"
        "same run, since machines and their load differ:\n"
        "  warm tile   requests/s to those of a bare Starlette endpoint that fetches the same bytes from the cache\n"
        "  cold tile   latency to the sum of its parts (read, network, encoding) run alone in one process\n"
        "  statistics  processor time and memory to those of exactextract on a finished map of the same ground\n"
        "  scale       a worker's rate among many to its rate alone; what a job's books cost for each block",
        epilog="examples:\n  landcover bench                            tiles, in two minutes\n"
        "  landcover bench --scene ortho.tif --json bench.json\n"
        "  landcover bench statistics                 polygons of 10 to 1 000 blocks, in two minutes\n"
        "  landcover bench statistics --largest 10000    a 1.7 GB cache, twenty minutes\n"
        "  landcover bench scale                      workers that sleep, in five minutes\n"
        "  landcover bench scale --bookkeeping 1000000    as docs/scale.md has it, half an hour",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "section", nargs="?", choices=("tiles", "statistics", "scale"), default="tiles", help="default: tiles"
    )
    parser.add_argument("--scene", help="a GeoTIFF (default: the drawn demonstration)")
    parser.add_argument("--model", type=Path, default=demo_model_path(), help="an ONNX file (default: demonstration)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each warm measurement (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="each is the median of so many rounds (default: 3)")
    parser.add_argument("--blocks", type=int, default=16, help="cold tiles to time (default: 16)")
    parser.add_argument(
        "--largest",
        type=int,
        choices=(10, 100, 1000, 10_000),
        default=1000,
        help="statistics: largest area, in blocks (default: 1000)",
    )
    parser.add_argument(
        "--workers", type=int, nargs="*", default=(1, 4, 8), help="scale: numbers of workers (default: 1 4 8)"
    )
    parser.add_argument(
        "--bookkeeping", type=int, default=20_000, metavar="BLOCKS", help="scale: blocks of a job (default: 20000)"
    )
    parser.add_argument(
        "--sleep", type=float, default=1.0, metavar="S", help="scale: a batch of 8 takes so long (default: 1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    console = Console(highlight=False, width=130)
    if arguments.section == "statistics":
        figures = _statistics(arguments.model, arguments.largest, console)
    elif arguments.section == "scale":
        figures = _scale(arguments, console)
    else:
        figures = _tiles(arguments, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _statistics(model: Path, largest: int, console: Console) -> dict[str, Any]:
    from landcover.commands.bench_statistics.command import run_statistics  # needs the API's libraries

    return {"statistics": run_statistics(model, largest, console)}


def _scale(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    from landcover.commands.bench_scale.command import run_scale

    if min(arguments.workers, default=1) < 1 or arguments.bookkeeping < 0 or arguments.sleep <= 0:
        raise InvalidRequest("--workers and --sleep are greater than 0, --bookkeeping is not below it.")
    return {
        "scale": run_scale(
            console,
            workers=arguments.workers,
            blocks=arguments.bookkeeping,
            run_s=arguments.sleep,
            seconds=SCALE_SECONDS,
        )
    }


def _tiles(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="landcover-bench-") as name:
        folder = Path(name)
        scene = arguments.scene or str(_demo(folder))
        with console.status("timing the parts of a block alone …"):
            parts = _parts(scene, arguments.model, arguments.blocks)
        service = local.LocalService()
        try:
            with console.status("starting a service …"):
                url, env = _start(service, folder, scene, arguments.model)
            with console.status("cold tiles …"):
                cold = _cold(url, arguments.blocks)
            with console.status("warm tiles …"):
                warm = _warm(service, url, env, arguments)
        finally:
            service.stop()
    figures = {"parts": parts, "cold": cold | {"ratio": cold["median_s"] / parts["total_s"]}, "warm": warm}
    _print(console, figures)
    return figures


def _demo(folder: Path) -> Path:
    from landcover.demo import write_scene

    return write_scene(folder)


def _parts(scene: str, model: Path, blocks: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "landcover_worker.parts", scene, "--model", str(model), "--blocks", str(blocks)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    parts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return parts


def _start(service: local.LocalService, folder: Path, scene: str, model: Path) -> tuple[str, dict[str, str]]:
    env = {
        "LANDCOVER_BROKER_URL": local.start_broker(service, folder),
        "LANDCOVER_CACHE_URL": local.start_cache(service, folder),
        "LANDCOVER_SCENES": json.dumps([scene]),
        "LANDCOVER_MODELS": json.dumps([str(model)]),
        "LANDCOVER_LOG_LEVEL": "WARNING",
    }
    port = local.free_port()
    url = f"http://127.0.0.1:{port}"
    service.add("worker", local.landcover_command("worker"), env)
    service.add("API", local.landcover_command("api", "--port", str(port)), env)
    service.wait_until(lambda: bool(local.readiness(url).get("workers")), timeout_s=120)
    return url, env


def _cold(url: str, count: int) -> dict[str, float]:
    """Latency of tiles that lie inside one block each, and of which none was asked for before.

    Raises:
        InvalidConfiguration: the scene has no whole block.
    """
    times = []
    for address in _tiles_of_single_blocks(url, count):
        begin = time.perf_counter()
        with urllib.request.urlopen(f"{address}?wait=60&strict=true", timeout=90) as response:
            response.read()
        times.append(time.perf_counter() - begin)
    if not times:
        raise InvalidConfiguration("The scene is smaller than two blocks a side; name a larger one with --scene.")
    return {"median_s": statistics.median(times), "worst_s": max(times), "tiles": len(times)}


def _tiles_of_single_blocks(url: str, count: int) -> list[str]:
    """Addresses of tiles near the middles of blocks, a block each."""
    scene = _get(f"{url}/scenes")["scenes"][0]
    west, south, east, north = scene["bounds"]
    grid = scene["landcover"]
    addresses = []
    for row in range(grid["rows"] - 1):
        for col in range(grid["cols"] - 1):
            lon = west + (col + 0.5) * grid["block_px"] / (scene["width_px"] / grid["decimation"]) * (east - west)
            lat = north - (row + 0.5) * grid["block_px"] / (scene["height_px"] / grid["decimation"]) * (north - south)
            x = int((lon + 180) / 360 * 2**COLD_ZOOM)
            y = int((1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**COLD_ZOOM)
            addresses.append(f"{url}/scenes/{scene['id']}/landcover/tiles/WebMercatorQuad/{COLD_ZOOM}/{x}/{y}.png")
    return addresses[:count]


def _warm(
    service: local.LocalService, url: str, env: dict[str, str], arguments: argparse.Namespace
) -> list[dict[str, float]]:
    """Our tile and the bare endpoint in turn, so that both meet the same moods of the machine."""
    tile = _tiles_of_single_blocks(url, 1)[0]
    urllib.request.urlopen(f"{tile}?wait=60", timeout=90).read()
    key = next(
        iter(connect(env["LANDCOVER_CACHE_URL"]).scan_iter(match=f"tile:*:{COLD_ZOOM}:*", count=10_000))
    ).decode()
    port = local.free_port()
    floor = f"http://127.0.0.1:{port}/"
    service.add("floor", [sys.executable, "-m", "landcover_api.floor", str(port), key], env)
    service.wait_until(lambda: _is_up(floor), timeout_s=30)
    rows = []
    for connections in CONNECTIONS:
        ours, bare = [], []
        for _ in range(arguments.rounds):
            ours.append(load(tile, connections=connections, seconds=arguments.seconds))
            bare.append(load(floor, connections=connections, seconds=arguments.seconds))
        rows.append(_warm_row(connections, ours, bare))
    return rows


def _warm_row(connections: int, ours: list[LoadResult], bare: list[LoadResult]) -> dict[str, float]:
    pairs = list(zip(ours, bare, strict=True))
    return {
        "connections": connections,
        "requests_per_s": statistics.median(each.rate for each in ours),
        "floor_requests_per_s": statistics.median(each.rate for each in bare),
        "ratio": statistics.median(a.rate / b.rate for a, b in pairs),
        "p50_s": statistics.median(each.percentile_s(0.5) for each in ours),
        "p99_s": statistics.median(each.percentile_s(0.99) for each in ours),
    }


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as response:
        document: dict[str, Any] = json.load(response)
        return document


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def _print(console: Console, figures: dict[str, Any]) -> None:
    parts, cold = figures["parts"], figures["cold"]
    table = Table("what", "measured", "floor", "ratio", box=None, pad_edge=False)
    floor = " + ".join(f"{name} {parts[f'{name}_s'] * 1000:.0f}" for name in ("read", "infer", "encode"))
    table.add_row(
        "cold tile, latency",
        f"{cold['median_s'] * 1000:.0f} ms",
        f"{floor} = {parts['total_s'] * 1000:.0f} ms",
        f"{cold['ratio']:.2f}",
    )
    for row in figures["warm"]:
        table.add_row(
            f"warm tile, {row['connections']} connection(s)",
            f"{row['requests_per_s']:.0f} /s, p50 {row['p50_s'] * 1000:.1f} ms, p99 {row['p99_s'] * 1000:.1f} ms",
            f"{row['floor_requests_per_s']:.0f} /s",
            f"{row['ratio']:.2f}",
        )
    console.print(f"on {parts['provider']}")
    console.print(table)
