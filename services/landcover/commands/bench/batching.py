"""Clients that ask for what is not mapped, more and more of them: how full batches are, and how long windows wait.

API, broker, cache, tasks, leases and batches are real; the network sleeps as long for one window as for eight, which is
what makes batches worth while, and no image is read. Each tile lies in a block of its own.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import httpx

from landcover import local
from landcover.commands.bench.figures import Better, Figure, Outcome, of_rounds
from landcover.commands.bench.options import Options
from landcover.commands.bench.service import open_service
from landcover.commands.bench.statistics.ground import make_ground
from landcover.commands.bench.subject import subject_of
from landcover.errors import Unavailable

COMMAND = "landcover bench batching"
CLIENTS = (1, 4, 16, 64, 256)
MAX_BATCH = 8
RUN_S = 0.25
"""What the network takes for a batch."""
_GROUND_BLOCKS = 3_000
_LONGER = 2
"""Times as long as others."""
_METRIC = re.compile(r"^landcover_worker_(batch_windows|batch_wait_seconds)_(sum|count) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What so many clients met, each of which asks for its next tile when it has one."""

    clients: int
    tiles: int
    tiles_per_s: float
    latency_s: float
    """Median, as a client sees it."""
    batch: float
    """Windows in a run of the network, the mean of runs."""
    wait_s: float
    """Of a window for its turn, in the worker: the mean."""

    @property
    def full(self) -> int:
        """Windows in a run if nothing stood in the way."""
        return min(self.clients, MAX_BATCH)


def measure_batching(options: Options) -> Outcome:
    """Ask for tiles with each number of clients.

    Raises:
        LandcoverError: a process does not start, or a tile is not made.
    """
    options.say("starting a service whose network sleeps")
    ground = make_ground(options.folder, options.subject.model.path, _GROUND_BLOCKS)
    subject = subject_of(str(ground.image), ground.model.path)
    worker = [sys.executable, "-m", "landcover_worker.simulation", "--digest", subject.model.digest]
    worker += ["--batch", str(MAX_BATCH), "--seconds", str(RUN_S), "--block-px", str(subject.grid.block_px)]
    port = local.free_port()
    env = {"LANDCOVER_WORKER_METRICS_PORT": str(port)}
    tiles = iter(subject.tiles(_GROUND_BLOCKS))
    seconds = options.seconds * _LONGER
    with open_service(options.folder, subject, worker=worker, env=env) as service:
        _ask(service.url, port, tiles, 1, seconds=0)  # whatever is done once
        asked = []
        for clients in CLIENTS:
            options.say(f"{clients} client(s)")
            asked.append(_ask(service.url, port, tiles, clients, seconds=seconds))
        if options.profiler.on:
            for name, process in (("batching-api", "API"), ("batching-worker", "worker 1")):
                options.say(f"64 clients once more, for the profile of the {process}")
                with options.profiler.recording(name, service.pid(process)):
                    _ask(service.url, port, tiles, 64, seconds=seconds)
    figures = [figure for each in asked for figure in _figures(each)]
    return Outcome(figures=tuple(figures), details=[asdict(each) for each in asked])


def _ask(url: str, metrics_port: int, tiles: Iterator[str], clients: int, *, seconds: float) -> Asked:
    before = _metrics(metrics_port)
    begin = time.perf_counter()
    latencies_s = asyncio.run(_all_clients(url, tiles, clients, begin + seconds))
    elapsed_s = time.perf_counter() - begin
    found = {name: value - before.get(name, 0.0) for name, value in _metrics(metrics_port).items()}
    return Asked(
        clients=clients,
        tiles=len(latencies_s),
        tiles_per_s=len(latencies_s) / elapsed_s,
        latency_s=statistics.median(latencies_s),
        batch=found["batch_windows_sum"] / found["batch_windows_count"],
        wait_s=found["batch_wait_seconds_sum"] / found["batch_wait_seconds_count"],
    )


async def _all_clients(url: str, tiles: Iterator[str], clients: int, until: float) -> list[float]:
    """Latencies of them all, seconds."""
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=90.0) as client:

        async def ask() -> list[float]:
            latencies_s: list[float] = []
            while not latencies_s or time.perf_counter() < until:
                begin = time.perf_counter()
                answer = await client.get(next(tiles), params={"wait": "60", "strict": "true"})
                if answer.status_code != 200:
                    raise Unavailable(f"A tile was answered {answer.status_code}: {answer.text[:200]}")
                latencies_s.append(time.perf_counter() - begin)
            return latencies_s

        return [each for some in await asyncio.gather(*(ask() for _ in range(clients))) for each in some]


def _metrics(port: int) -> dict[str, float]:
    """What the worker counts of its batches."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return {f"{name}_{of}": float(value) for name, of, value in _METRIC.findall(answer.read().decode())}


def _figures(asked: Asked) -> Iterator[Figure]:
    run_ms = RUN_S * 1000
    rows: tuple[tuple[str, float, float, str, str, Better], ...] = (
        ("batch", asked.batch, asked.full, "windows", "as many as ask, or the most", "higher"),
        ("wait for a turn", asked.wait_s * 1000, run_ms, "ms", "a run of the network", "lower"),
        (
            "latency",
            asked.latency_s * 1000,
            run_ms * asked.clients / asked.full,
            "ms",
            "runs until all are served",
            "lower",
        ),
        ("tiles", asked.tiles_per_s, asked.full / RUN_S, "/s", "such batches without a pause", "higher"),
    )
    for name, measured, floor, unit, against, better in rows:
        yield of_rounds(
            [measured],
            [floor],
            name=f"batching, {asked.clients} client(s), {name}",
            against=against,
            unit=unit,
            better=better,
            command=COMMAND,
        )
