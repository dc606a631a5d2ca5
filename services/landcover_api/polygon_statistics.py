"""The statistics of the polygons in one body: planned, counted as far as blocks are there, and written as GeoJSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict
from pyproj.exceptions import ProjError
from shapely.ops import transform

from landcover.errors import InvalidRequest, RequestTooLarge
from landcover.geodesy import WGS84
from landcover.statistics import cells
from landcover.statistics.document import figures
from landcover.statistics.geojson import Asked, named_crs, read_asked
from landcover.statistics.region import MOST_POINTS, Area, Region, is_geographic, polygon_region
from landcover_api.changing import Changing
from landcover_api.counting import LEAST_COUNTING_S, Counting
from landcover_api.cover import LandCover
from landcover_api.drawing import Waiting
from landcover_api.extents import crs_wkt
from landcover_api.settings import ApiSettings
from landcover_api.state import ApiState

MOST_DECODINGS = 20_000
"""Blocks to be decoded for one request, each for every region on whose edge it lies: some minutes of a job."""

COMPARED_AT_ONCE = 256
"""A change over more blocks is a job: each is decoded, on both maps."""

_OUTSIDE_NOTE = "It lies outside the scene."


class Question(BaseModel):
    """What is asked of the polygons in a body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scene: str
    model: str
    """Digest."""
    crs: str | None = None
    """Of the coordinates; None for longitude and latitude."""
    min_confidence: float = 0
    against: tuple[str, str] | None = None
    """Scene and model digest of the map that is compared with."""
    discount: bool = False


class PolygonStatistics:
    """The statistics of some polygons, while they are being made."""

    def __init__(
        self,
        question: Question,
        document: Any,
        asked: Sequence[Asked],
        regions: Sequence[Region],
        counting: Counting,
        changing: Changing | None,
        cover: LandCover,
    ) -> None:
        self._question = question
        self._document = document
        self._asked = asked
        self._regions = regions
        self._cover = cover
        self.counting = counting
        self.changing = changing

    @classmethod
    async def begin(
        cls, state: ApiState, question: Question, body: bytes, cover: LandCover, against: LandCover | None
    ) -> PolygonStatistics:
        """Read the body and find the blocks; nothing is asked of workers yet.

        Raises:
            InvalidRequest: it is no GeoJSON of areas, or none of them lies on the scene.
            RequestTooLarge: there is too much of it.
        """
        document, asked, regions = await state.draw(_read, state.settings, question, body, cover)
        counting = Counting(state, cover, regions, min_confidence=question.min_confidence)
        await counting.plan()
        if counting.decodings > MOST_DECODINGS:
            raise RequestTooLarge(
                f"The edges of these polygons run through blocks {counting.decodings} times; at most "
                f"{MOST_DECODINGS} are counted for one request. Simplify them or send them in parts."
            )
        if len(counting.outside) == len(regions):
            raise await state.draw(_outside, question, asked, cover)
        changing = None
        if against is not None:
            changing = Changing(state, against, cover, regions, discount=question.discount)
            await changing.plan()
            if changing.decodings > MOST_DECODINGS:
                raise RequestTooLarge(
                    f"These polygons lie on {changing.decodings} blocks; at most {MOST_DECODINGS} are compared for one "
                    "request. Send them in parts."
                )
        return cls(question, document, asked, regions, counting, changing, cover)

    @property
    def total(self) -> int:
        """How many blocks are to be counted, and compared."""
        return self.counting.total + (self.changing.total if self.changing else 0)

    @property
    def done(self) -> int:
        """How many of them are."""
        return self.counting.done + (self.changing.done if self.changing else 0)

    @property
    def complete(self) -> bool:
        """Whether everything is counted."""
        return self.counting.complete and (self.changing is None or self.changing.complete)

    async def within(self, waiting: Waiting, most_edges: int) -> bool:
        """Count what is there, and have a little made, as long as the client waits; whether that was everything."""
        if self.counting.decodings > most_edges or (self.changing and self.changing.decodings > COMPARED_AT_ONCE):
            return False
        begun = time.monotonic()
        until = begun + max(waiting.seconds, LEAST_COUNTING_S)
        most_missing = self._cover.on_demand_blocks
        await self.counting.advance(waiting, until=until, most_missing=most_missing)
        if self.changing is not None:
            await self.changing.advance(waiting, until=until, most_missing=most_missing)
        if self.complete or not waiting.seconds:
            return self.complete
        left = Waiting(seconds=max(0.0, begun + waiting.seconds - time.monotonic()), gone=waiting.gone)
        if not self.counting.complete and not await self.counting.wait(left):
            return False
        if self.changing is not None and not self.changing.complete:
            left = Waiting(seconds=max(0.0, begun + waiting.seconds - time.monotonic()), gone=waiting.gone)
            await self.changing.wait(left)
        return self.complete

    def answer(self) -> dict[str, Any]:
        """The GeoJSON that was sent, each feature with `properties.statistics`.

        Only for what is `complete`: a part is never passed off as a whole.
        """
        assert self.complete
        features = [self._feature(number, each) for number, each in enumerate(self._asked)]
        if self._document.get("type") == "FeatureCollection":
            return {**self._document, "features": features}
        return features[0]

    def _feature(self, number: int, asked: Asked) -> dict[str, Any]:
        filtered = self._question.min_confidence > 0
        contract = self._cover.model.contract
        statistics = head(self._cover, complete=True) | figures(
            self.counting.tables[number], contract, self._regions[number].area_m2, filtered=filtered
        )
        if filtered:
            statistics["min_confidence"] = self._question.min_confidence
        if self.changing is not None:
            statistics["change"] = self.changing.document(number)
        notes = [*asked.notes, *([_OUTSIDE_NOTE] if number in self.counting.outside else [])]
        if notes:
            statistics["notes"] = notes
        return {**asked.feature, "properties": {**(asked.feature.get("properties") or {}), "statistics": statistics}}


def head(cover: LandCover, *, complete: bool) -> dict[str, Any]:
    """What every statistics document begins with."""
    return {
        "scene": cover.scene.id,
        "model": cover.model.name,
        "model_digest": cover.model.digest,
        "gsd_m": cover.grid.gsd_m,
        "complete": complete,
    }


def _read(
    settings: ApiSettings, question: Question, body: bytes, cover: LandCover
) -> tuple[Any, list[Asked], list[Region]]:
    most = settings.statistics_max_vertices
    if (lists := body.count(b"[")) > 2 * most + 3 * settings.statistics_max_features:  # before it costs time to read
        raise RequestTooLarge(
            f"The body holds {lists} lists, far more than {most} vertices need; simplify the polygons or send them in "
            "parts."
        )
    try:
        document = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is no JSON ({error}); send GeoJSON.") from None
    _check_depth(document)
    if question.crs is None and (named := named_crs(document)):
        raise InvalidRequest(
            f"The body says its CRS is {named[:60]}; GeoJSON is WGS 84 (RFC 7946). Name another in the address: "
            "?crs=EPSG:32654"
        )
    asked = read_asked(document, max_features=settings.statistics_max_features, max_vertices=most)
    crs = crs_wkt(question.crs) if question.crs else WGS84
    regions: list[Region] = []
    spanned = 0
    for number, each in enumerate(asked, 1):
        name = f"Feature {number}" if len(asked) > 1 else "The feature"
        if is_geographic(crs):
            _check_degrees(each.geometry, name)
        try:
            region = polygon_region(cover.grid, crs, each.geometry, most_points=MOST_POINTS // len(asked))
        except InvalidRequest as error:
            raise InvalidRequest(f"{name}: {error}") from None
        except ProjError:
            raise InvalidRequest(
                f"Nothing leads from {question.crs} to the scene's CRS; name a CRS of the Earth."
            ) from None
        spanned += cells.blocks_around(cover.grid, region)
        if spanned > settings.statistics_max_blocks:
            raise RequestTooLarge(
                f"The polygons span more than {settings.statistics_max_blocks} blocks of the scene, the most that are "
                "counted for one request. Send them in parts."
            )
        regions.append(region)
    return document, asked, regions


def _check_depth(document: Any) -> None:
    """Refuse what can be read but not be written again; the result of a job is two levels deeper at most."""
    try:
        orjson.dumps([[document]])
    except TypeError:
        raise InvalidRequest("The body nests lists or objects more than 250 deep; send flatter properties.") from None


def _check_degrees(geometry: Area, name: str) -> None:
    """Refuse what is no longitude and latitude; longitudes may go on beyond the antimeridian."""
    west, south, east, north = geometry.bounds
    if south < -90 or north > 90 or west < -540 or east > 540 or east - west > 360:
        hint = "coordinates are degrees, longitude first; for others name their CRS: ?crs=EPSG:32654"
        if west >= -90 and east <= 90 and south >= -180 and north <= 180:
            hint = "longitude and latitude seem to be swapped: longitude comes first"
        raise InvalidRequest(f"{name} reaches {west:.9g}, {south:.9g} to {east:.9g}, {north:.9g}; {hint}.")


def _outside(question: Question, asked: Sequence[Asked], cover: LandCover) -> InvalidRequest:
    """What to say when no polygon lies on the scene."""
    bounds = ", ".join(f"{edge:.5f}" for edge in cover.scene.bounds_wgs84)
    text = f"The geometry lies outside scene '{cover.scene.id}', whose bounds are {bounds} (longitude, latitude)"
    crs = crs_wkt(question.crs) if question.crs else WGS84
    swapped = partial(transform, lambda x, y: (y, x))
    for each in asked:
        turned = swapped(each.geometry)
        if crs == WGS84 and (abs(turned.bounds[1]) > 90 or abs(turned.bounds[3]) > 90):
            continue
        found = cells.cover(cover.grid, polygon_region(cover.grid, crs, turned))
        if found.whole or found.edge:
            return InvalidRequest(f"{text}; its coordinates seem to be swapped: longitude (x) comes first.")
    return InvalidRequest(f"{text}; name the scene that it lies on (GET /scenes).")
