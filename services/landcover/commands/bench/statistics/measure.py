"""Asking a service and other tools for the same areas: what that costs, and whether they agree."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from landcover.commands.bench.processes import forget_peak, peak_mb, processor_s
from landcover.commands.bench.statistics import peers, shapes
from landcover.commands.bench.statistics.ground import CRS, Ground, forget_sums
from landcover.commands.bench.statistics.peers import EXACTEXTRACT, RASTERSTATS, PeerFigures
from landcover.commands.bench.statistics.shapes import Shape
from landcover.errors import Unavailable
from landcover.service_client import Answer, ServiceClient
from landcover.statistics import cells
from landcover.statistics.region import polygon_region

_ROUNDS = 5
_LONG_S = 5.0
"""What takes longer is timed once."""
_JOB_POLL_S = 0.5
_ASKED_ALONE = 100
_RASTERSTATS_BLOCKS = 1_000
"""It holds the bounding box of a polygon in memory, several times."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one shape cost."""

    shape: str
    blocks: float
    """Its area."""
    edges: int
    """Blocks that its edge runs through."""
    first_s: float
    """Processor time of API and cache with every block mapped, but no square of blocks summed yet."""
    warm_s: float
    """And when asked again: the median."""
    warm_clock_s: float
    """Until the answer, by the clock: with whatever else the machine was doing."""
    job: bool
    """Whether it was too much for one request."""
    peak_mb: float
    """Of the API's process."""
    exactextract_s: float | None
    """Of processor time, too; None where it was not measured."""
    exactextract_peak_mb: float | None
    ratio: float | None
    """`warm_s` to `exactextract_s`."""
    difference: float | None
    """The largest of any class' pixels to exactextract's, as a share of all pixels."""
    rasterstats_s: float | None
    rasterstats_peak_mb: float | None


@dataclass(frozen=True, kw_only=True)
class _Answered:
    processor_s: float
    clock_s: float
    document: dict[str, Any]
    job: bool


class Measurement:
    """One service on one ground, asked shape by shape."""

    def __init__(
        self, ground: Ground, client: ServiceClient, cache: redis.Redis, *, api_pid: int, cache_pid: int, folder: Path
    ) -> None:
        self._ground = ground
        self._client = client
        self._api_pid = api_pid
        self._cache_pid = cache_pid
        self._cache = cache
        self._folder = folder
        self._rasterstats = peers.is_installed(RASTERSTATS)

    def warm_up(self) -> float:
        """Have the service load what it needs for any polygon; its peak then, in MB."""
        self._statistics(next(shapes.areas(self._ground.grid, 10)))
        forget_peak(self._api_pid)
        return peak_mb(self._api_pid)

    def measure(self, shape: Shape, *, compared: bool) -> Asked:
        """One shape, by the service and, if it is to be `compared`, by the other tools."""
        forget_sums(self._cache)
        forget_peak(self._api_pid)
        first = self._statistics(shape)
        warm = [self._statistics(shape)]
        while len(warm) < _ROUNDS and warm[-1].clock_s < _LONG_S:
            warm.append(self._statistics(shape))
        peak = peak_mb(self._api_pid)
        exact = self._peer(EXACTEXTRACT, shape) if compared else None
        rough = (
            self._peer(RASTERSTATS, shape)
            if compared and self._rasterstats and shape.blocks <= _RASTERSTATS_BLOCKS
            else None
        )
        warm_s = statistics.median(each.processor_s for each in warm)
        return Asked(
            shape=shape.name,
            blocks=shape.blocks,
            edges=self._edges(shape),
            first_s=first.processor_s,
            warm_s=warm_s,
            warm_clock_s=statistics.median(each.clock_s for each in warm),
            job=warm[-1].job,
            peak_mb=peak,
            exactextract_s=exact.seconds if exact else None,
            exactextract_peak_mb=exact.peak_mb if exact else None,
            ratio=warm_s / exact.seconds if exact else None,
            difference=_difference(warm[-1].document, exact) if exact else None,
            rasterstats_s=rough.seconds if rough else None,
            rasterstats_peak_mb=rough.peak_mb if rough else None,
        )

    def alone_s(self, shape: Shape) -> float:
        """What the polygons of a shape cost when each is asked for by itself, in all; told from some of them."""
        some = shape.polygons[:_ASKED_ALONE]
        each = [self._statistics(Shape(name="one", polygons=(polygon,), blocks=0)).processor_s for polygon in some]
        return statistics.fmean(each) * len(shape.polygons)

    def _statistics(self, shape: Shape) -> _Answered:
        """Ask, and wait for the answer.

        Raises:
            LandcoverError: the service refuses.
        """
        body = json.dumps(shape.collection).encode()
        path = f"/scenes/{self._ground.scene.id}/landcover/statistics"
        used, begin = self._processor_s(), time.perf_counter()
        answer = self._client.request(path, method="POST", query={"crs": CRS}, body=body)
        job = answer.status == 202
        if job:
            answer = self._result(answer)
        seconds = time.perf_counter() - begin
        return _Answered(processor_s=self._processor_s() - used, clock_s=seconds, document=answer.document(), job=job)

    def _processor_s(self) -> float:
        return processor_s(self._api_pid) + processor_s(self._cache_pid)

    def _result(self, accepted: Answer) -> Answer:
        location = accepted.headers["Location"]
        while (status := self._client.request(location).document())["status"] not in ("failed", "dismissed"):
            if status["status"] == "successful":
                return self._client.request(f"{location}/results")
            time.sleep(_JOB_POLL_S)
        raise Unavailable(f"The job that counts a polygon ended: {status['message']}")

    def _peer(self, tool: str, shape: Shape) -> PeerFigures:
        polygons = self._folder / "polygons.geojson"
        polygons.write_text(json.dumps(shape.collection), encoding="utf-8")
        return peers.measure_peer(
            tool, self._ground.class_map, polygons, max_value=self._ground.model.contract.max_value
        )

    def _edges(self, shape: Shape) -> int:
        grid = self._ground.grid
        found = (cells.cover(grid, polygon_region(grid, CRS, each)) for each in shape.polygons)
        return len({index for each in found for index in each.edge})


def _difference(answer: dict[str, Any], exact: PeerFigures) -> float:
    """Over all polygons of one answer."""
    worst = 0.0
    for feature, pixels in zip(answer["features"], exact.pixels, strict=True):
        classes = feature["properties"]["statistics"]["classes"]
        apart = max(abs(each["pixels"] - pixels[each["value"]]) for each in classes)
        worst = max(worst, apart / sum(each["pixels"] for each in classes))
    return worst
