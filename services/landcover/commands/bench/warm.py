"""Finished tiles: how fast the API answers them, beside a bare endpoint and a stock TiTiler."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from landcover import local
from landcover.commands.bench.classmap import mapped_part, write_class_map
from landcover.commands.bench.figures import Better, Figure, Outcome, of_rounds
from landcover.commands.bench.options import Options
from landcover.commands.bench.service import Service, open_service
from landcover.load import LoadResult, load

CONNECTIONS = (1, 16, 256)
COMMAND = "landcover bench warm"
OURS, BARE, TITILER = "this API", "bare Starlette", "stock TiTiler"
_AIMS = {(BARE, "requests"): 0.8, (TITILER, "requests"): 10.0}

_MEASURES: Mapping[str, tuple[Callable[[LoadResult], float], str, Better]] = {
    "requests": (lambda result: result.rate, "/s", "higher"),
    "p50": (lambda result: result.percentile_s(0.5) * 1000, "ms", "lower"),
    "p99": (lambda result: result.percentile_s(0.99) * 1000, "ms", "lower"),
}


def measure_warm(options: Options) -> Outcome:
    """Ask all three for the same tiles in turn, of which there are several, lest one answer do for all who ask.

    Raises:
        LandcoverError: a server does not start or answers wrongly.
    """
    options.say("starting a service and mapping what is asked for")
    with open_service(options.folder, options.subject) as service:
        urls = _servers(service, options)
        figures: list[Figure] = []
        details: list[dict[str, Any]] = []
        for connections in CONNECTIONS:
            results: dict[str, list[LoadResult]] = {name: [] for name in urls}
            for number in range(options.rounds):
                for name, addresses in urls.items():
                    options.say(f"{connections} connection(s), round {number + 1} of {options.rounds}: {name}")
                    results[name].append(load(addresses, connections=connections, seconds=options.seconds))
            figures += _figures(connections, results)
            details.append({"connections": connections, **{name: _rows(each) for name, each in results.items()}})
        if options.profiler.on:
            options.say("16 connections once more, for the profile")
            with options.profiler.recording("warm-api", service.pid("API")):
                load(urls[OURS], connections=16, seconds=options.seconds)
    return Outcome(figures=tuple(figures), details=details)


def _servers(service: Service, options: Options) -> dict[str, list[str]]:
    """Where each of the three has the tiles."""
    class_map = write_class_map(service, options.folder)
    part = mapped_part(options.subject)
    paths = [options.subject.tile(index) for index in part]
    for path in paths:
        with urllib.request.urlopen(f"{service.url}{path}?wait=60&strict=true", timeout=90) as answer:
            answer.read()
    keys = [quote(key) for key in service.cache.scan_iter(match="tile:*", count=10_000)]
    bare_port, titiler_port = local.free_port(), local.free_port()
    urls = {
        OURS: [service.url + path for path in paths],
        BARE: [f"http://127.0.0.1:{bare_port}/{key}" for key in keys],
        TITILER: [
            f"http://127.0.0.1:{titiler_port}/tiles/WebMercatorQuad/{zoom}/{x}/{y}.png"
            for zoom, x, y in map(options.subject.place, part)
        ],
    }
    service.add(BARE, "landcover_api.floor", bare_port)
    service.add(TITILER, "landcover_api.peer", titiler_port, class_map)
    for addresses in urls.values():
        service.wait_until(lambda url=addresses[0]: _answers(url))  # type: ignore[misc]
    return urls


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


def _figures(connections: int, results: Mapping[str, list[LoadResult]]) -> list[Figure]:
    return [
        of_rounds(
            [of(each) for each in results[OURS]],
            [of(each) for each in results[other]],
            name=f"warm tile, {connections} connection(s), {measure}",
            against=other,
            unit=unit,
            better=better,
            command=COMMAND,
            aim=_AIMS.get((other, measure)),
        )
        for other in (BARE, TITILER)
        for measure, (of, unit, better) in _MEASURES.items()
    ]


def _rows(results: list[LoadResult]) -> list[dict[str, float]]:
    """By round."""
    return [{name: of(each) for name, (of, _, _) in _MEASURES.items()} for each in results]
