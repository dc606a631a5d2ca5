"""`GET /scenes/{scene}/landcover/review`: where to look first, as GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response

from landcover.errors import InvalidRequest
from landcover.review import Measure
from landcover.review_document import MEDIA_TYPE, Bounds, document, map_position
from landcover.review_survey import (
    DEFAULT_LIMIT,
    DEFAULT_MEASURE,
    DEFAULT_MIN_MAPPED,
    DEFAULT_SPREAD,
    MAX_LIMIT,
    ReviewRequest,
)
from landcover_api.cover import LandCover, land_cover
from landcover_api.drawing import Waiting
from landcover_api.landcover import PENDING_HEADER, with_current_image
from landcover_api.reviewing import Reviewer
from landcover_api.settings import MAX_WAIT_S
from landcover_api.state import ApiState, LandCoverParam, State

PICTURE_PX = 512
"""Of the images that the document links to."""


def review_router() -> APIRouter:
    """The endpoint, to be included below a scene's land cover."""
    router = APIRouter()

    @router.get(
        "/review",
        name="review",
        summary="Where the map is likely wrong: windows ranked by doubt, as GeoJSON.",
        response_class=Response,
        responses={200: {"content": {MEDIA_TYPE: {}}}},
    )
    async def review(
        request: Request,
        state: State,
        cover: LandCoverParam,
        by: Annotated[Measure, Query(description="The measure of doubt.")] = DEFAULT_MEASURE,
        against: Annotated[str | None, Query(description="The second model, by name or digest.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Windows to name at most.")] = DEFAULT_LIMIT,
        spread: Annotated[
            float, Query(ge=0, le=1000, description="Radius, in windows, that keeps them apart; 0: plain ranking.")
        ] = DEFAULT_SPREAD,
        window: Annotated[int | None, Query(description="Side of a window, px; by default the block's.")] = None,
        min_mapped: Annotated[
            float, Query(ge=0, le=1, description="Share of a window that must be mapped.")
        ] = DEFAULT_MIN_MAPPED,
        wait: Annotated[
            float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for missing blocks; 0: rank what is there.")
        ] = 0,
    ) -> Response:
        waiting = Waiting(seconds=wait, gone=request.is_disconnected)

        async def answer(cover: LandCover) -> Response:
            wanted = ReviewRequest(
                by=by,
                window_px=cover.grid.block_px if window is None else window,
                limit=limit,
                spread=spread,
                min_mapped=min_mapped,
            )
            other = _other(state, cover, against)
            reviewer = Reviewer(state=state, cover=cover, against=other, request=wanted, waiting=waiting)
            found, pending = await reviewer.review()
            links = _links(str(request.base_url), cover)
            body = await state.draw(lambda: json.dumps(document(found, links), allow_nan=False))
            max_age = state.settings.tile_max_age_s if found.complete else state.settings.pending_max_age_s
            headers = {"Cache-Control": f"public, max-age={max_age}"}
            if pending:
                headers[PENDING_HEADER] = str(found.total - found.mapped)
            return Response(body, media_type=MEDIA_TYPE, headers=headers)

        return await with_current_image(state, cover, answer)

    return router


def _other(state: ApiState, cover: LandCover, name: str | None) -> LandCover | None:
    """The second model's land cover of the same scene.

    Raises:
        ModelNotFound: there is no such model.
        InvalidRequest: it is the first.
    """
    if name is None:
        return None
    model = state.models.model(name)
    if model.digest == cover.model.digest:
        raise InvalidRequest(f"Model '{model.name}' never disagrees with itself; name another with against.")
    return land_cover(cover.scene, model, cover.on_demand_blocks)


def _links(base_url: str, cover: LandCover) -> Callable[[Bounds], dict[str, str]]:
    """Addresses for a window: the map page there, and pictures of it."""
    scene, model = cover.scene.id, cover.model.name

    def links(bounds: Bounds) -> dict[str, str]:
        zoom, lat, lng = map_position(bounds)
        box = ",".join(f"{edge:.7f}" for edge in bounds)
        base = f"{base_url}scenes/{quote(scene)}"
        land_cover = f"{base}/landcover/bbox/{box}.png?{urlencode({'model': model, 'max_size': PICTURE_PX})}"
        return {
            "map": f"{base_url}#{urlencode({'scene': scene, 'model': model})}&at={zoom}/{lat}/{lng}",
            "imagery": f"{base}/imagery/bbox/{box}.png?max_size={PICTURE_PX}",
            "classes": land_cover,
            "confidence": f"{land_cover}&layer=confidence",
        }

    return links
