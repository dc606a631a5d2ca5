"""Running it: the ground, a service of its own without workers, and a table at the end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from landcover import local
from landcover.api_keys import WITHOUT_KEYS
from landcover.commands.bench.figures import Figure, Outcome, of_rounds
from landcover.commands.bench.profile import Profiler
from landcover.commands.bench.statistics import shapes
from landcover.commands.bench.statistics.ground import Ground, make_ground, map_ground
from landcover.commands.bench.statistics.measure import Asked, Measurement
from landcover.commands.bench.statistics.peers import EXACTEXTRACT, is_installed
from landcover.commands.bench.statistics.shapes import CIRCLE
from landcover.connections import connect
from landcover.errors import InvalidConfiguration
from landcover.service_client import ServiceClient

_CACHE_BYTES_A_BLOCK = 120_000
_COMPARED_BLOCKS = 1_000
"""Beyond, other tools are asked about circles only: it takes them minutes."""


COMMAND = "landcover bench statistics"


def measure_statistics(model: Path, largest: int, console: Console, profiler: Profiler) -> Outcome:
    """Measure polygons up to `largest` blocks and print a table of its own.

    Raises:
        InvalidConfiguration: there is nothing to compare with, or the system does not tell what processes use.
        LandcoverError: the model cannot be used, or the service fails.
    """
    if not is_installed(EXACTEXTRACT):
        raise InvalidConfiguration("Statistics are compared with exactextract: `pip install exactextract`.")
    with tempfile.TemporaryDirectory(prefix="landcover-bench-") as name, _progress(console) as progress:
        folder = Path(name)
        ground = make_ground(folder, model, largest)
        service = local.LocalService()
        try:
            measurement = _start(service, ground, folder, progress)
            idle_mb = measurement.warm_up()
            village = shapes.parcels(ground.grid)
            due = [
                *shapes.areas(ground.grid, largest),
                shapes.many_vertices(ground.grid),
                shapes.zigzag(ground.grid),
                village,
            ]
            asking = progress.add_task("asking for polygons", total=len(due) + 1)
            rows = []
            for shape in due:
                compared = shape.blocks <= _COMPARED_BLOCKS or shape.name == CIRCLE
                rows.append(measurement.measure(shape, compared=compared))
                progress.advance(asking)
            alone_s = measurement.alone_s(village)
            progress.advance(asking)
            if profiler.on:
                with profiler.recording("statistics-api", _pid(service.children[-1])):
                    for shape in shapes.areas(ground.grid, largest):
                        measurement.measure(shape, compared=False)
        finally:
            service.stop()
    figures = {
        "idle_mb": idle_mb,
        "rows": [asdict(row) for row in rows],
        "exponents": exponents(rows),
        "parcels_alone_s": alone_s,
    }
    _print(console, rows, figures)
    return Outcome(figures=tuple(_figure(row) for row in rows if row.exactextract_s), details=figures)


def _figure(row: Asked) -> Figure:
    return of_rounds(
        [row.warm_s * 1000],
        [(row.exactextract_s or 0.0) * 1000],
        name=f"statistics, {row.shape} of {row.blocks:.0f} blocks, processor time",
        against="exactextract on a finished map",
        unit="ms",
        better="lower",
        command=COMMAND,
    )


def _start(service: local.LocalService, ground: Ground, folder: Path, progress: Progress) -> Measurement:
    """A service without workers in which all of the ground is mapped."""
    blocks = ground.grid.rows * ground.grid.cols
    options = {"maxmemory": str(blocks * _CACHE_BYTES_A_BLOCK), "maxmemory-policy": "noeviction", "save": ""}
    cache_url = local.start_valkey(service, "cache", folder / "cache", options)
    cache_pid = _pid(service.children[-1])
    cache = connect(cache_url)
    mapping = progress.add_task("mapping the ground, in blocks", total=blocks)
    map_ground(ground, cache, lambda count: progress.advance(mapping, count))
    env = {
        **WITHOUT_KEYS,
        "LANDCOVER_BROKER_URL": local.start_broker(service, folder),
        "LANDCOVER_CACHE_URL": cache_url,
        "LANDCOVER_DATABASE_URL": f"sqlite:///{folder / 'landcover.sqlite'}",
        "LANDCOVER_SCENES": json.dumps([str(ground.image)]),
        "LANDCOVER_MODELS": json.dumps([str(ground.model.path)]),
        "LANDCOVER_LOG_LEVEL": "WARNING",
    }
    url = local.start_landcover(service, env, workers=0, port=local.free_port())
    api_pid = _pid(service.children[-1])
    service.wait_until(lambda: local.is_ready(url, workers=0), timeout_s=120)
    return Measurement(ground, ServiceClient(url=url), cache, api_pid=api_pid, cache_pid=cache_pid, folder=folder)


def _pid(child: local.Child) -> int:
    if child.process is None:
        raise RuntimeError(f"the {child.name} process was not started")
    return child.process.pid


def exponents(rows: Sequence[Asked]) -> dict[str, float]:
    """How warm cost, edge blocks and exactextract's cost grow with a circle's area: slopes of logarithms."""
    circles = [row for row in rows if row.shape == CIRCLE]
    if len(circles) < 2:
        return {}
    blocks = np.log([row.blocks for row in circles])
    return {
        name: float(np.polyfit(blocks, np.log([getattr(row, name) for row in circles]), 1)[0])
        for name in ("warm_s", "edges", "exactextract_s")
    }


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def _print(console: Console, rows: Sequence[Asked], figures: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("shape", "blocks", "edge", "first", "warm", "MB", "exactextract", "MB", "ratio", "apart"):
        table.add_column(name, justify="left" if name == "shape" else "right")
    with_rasterstats = any(row.rasterstats_s for row in rows)
    if with_rasterstats:
        for name in ("rasterstats", "MB"):
            table.add_column(name, justify="right")
    for row in rows:
        cells = [
            f"{row.shape}{' (job)' if row.job else ''}",
            f"{row.blocks:.0f}",
            f"{row.edges}",
            _ms(row.first_s),
            _ms(row.warm_s),
            f"{row.peak_mb:.0f}",
            _ms(row.exactextract_s),
            _number(row.exactextract_peak_mb, ".0f"),
            _number(row.ratio, ".2g"),
            _number(row.difference, ".0e"),
        ]
        if with_rasterstats:
            cells += [_ms(row.rasterstats_s), _number(row.rasterstats_peak_mb, ".0f")]
        table.add_row(*cells)
    console.print(table)
    if slopes := figures["exponents"]:
        console.print(
            f"circles: cost grows with the area to the power of {slopes['warm_s']:.2f} (edge blocks "
            f"{slopes['edges']:.2f}, exactextract {slopes['exactextract_s']:.2f})"
        )
    console.print(f"before it is asked the API holds {figures['idle_mb']:.0f} MB")
    console.print(
        f"the parcels one by one: {_ms(figures['parcels_alone_s'])}, "
        f"{figures['parcels_alone_s'] / rows[-1].warm_s:.1f} times as long as together"
    )


def _number(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.0f} ms"
