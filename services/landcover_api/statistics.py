"""Statistics over HTTP: of a tile, and of polygons that are sent."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from morecantile import Tile

from landcover.errors import InvalidRequest, Pending
from landcover.statistics.document import figures
from landcover.statistics.region import box_region
from landcover_api.answers import CSV, GEOJSON, geojson_or_csv, wanted_type
from landcover_api.bodies import read_body
from landcover_api.changing import find_against
from landcover_api.counting import LEAST_COUNTING_S, Counting
from landcover_api.cover import LandCover
from landcover_api.drawing import not_on_demand, refuse_too_many
from landcover_api.extents import check_tile, tile_matrix_set, tms_crs
from landcover_api.job_status import JobStatus
from landcover_api.jobs import accepted
from landcover_api.landcover import PENDING_HEADER, Strict, WaitingParam, with_current_image
from landcover_api.polygon_statistics import PolygonStatistics, Question, head
from landcover_api.state import LandCoverParam, State

MinConfidence = Annotated[
    float, Query(ge=0, le=1, description="Pixels in which the model is less confident count as unknown.")
]


def statistics_router() -> APIRouter:
    """The routes, below a scene's land cover; to be included before those of tiles, which would take them for one."""
    router = APIRouter()

    @router.get("/tiles/{tileMatrixSetId}/{z}/{x}/{y}/statistics", summary="Area of each class in a tile.")
    async def tile_statistics(
        state: State,
        waiting: WaitingParam,
        cover: LandCoverParam,
        tileMatrixSetId: str,  # noqa: N803 - TiTiler's and OGC's name
        z: int,
        x: int,
        y: int,
        response: Response,
        strict: Strict = False,
        min_confidence: MinConfidence = 0,
    ) -> dict[str, Any]:
        tms = tile_matrix_set(tileMatrixSetId)
        check_tile(tms, z, x, y)
        box = tms.xy_bounds(Tile(x, y, z))
        bounds = box.left, box.bottom, box.right, box.top

        async def answer(cover: LandCover) -> dict[str, Any]:
            region = await state.draw(box_region, cover.grid, tms_crs(tileMatrixSetId), bounds)
            counting = Counting(state, cover, [region], min_confidence=min_confidence)
            await counting.plan()
            refuse_too_many(state, counting.decodings)
            until = time.monotonic() + max(waiting.seconds, LEAST_COUNTING_S)
            await counting.advance(waiting, until=until, most_missing=cover.on_demand_blocks)
            if not (counting.complete or await counting.wait(waiting)):
                raise not_on_demand(cover, len(counting.missing))
            missing = len(counting.missing) or int(not counting.complete)
            if missing and strict:
                raise Pending(f"{missing} blocks are being mapped; ask again.")
            max_age = state.settings.pending_max_age_s if missing else state.settings.tile_max_age_s
            response.headers["Cache-Control"] = f"public, max-age={max_age}"
            if missing:
                response.headers[PENDING_HEADER] = str(missing)
            return head(cover, complete=not missing) | figures(
                counting.tables[0], cover.model.contract, region.area_m2, filtered=min_confidence > 0
            )

        return await with_current_image(state, cover, answer)

    @router.post(
        "/statistics",
        summary="Area of each class in polygons.",
        response_class=Response,
        responses={
            200: {"content": {GEOJSON: {}, CSV: {}}, "description": "The GeoJSON with `properties.statistics`."},
            202: {"description": "Too much for one request: the job that does it.", "model": JobStatus},
        },
        openapi_extra={"requestBody": {"required": True, "content": {GEOJSON: {}, "application/json": {}}}},
    )
    async def polygon_statistics(
        request: Request,
        state: State,
        waiting: WaitingParam,
        cover: LandCoverParam,
        crs: Annotated[
            str | None, Query(description="CRS of the coordinates, such as EPSG:32654; x comes first. Default: WGS 84.")
        ] = None,
        min_confidence: MinConfidence = 0,
        against: Annotated[
            str | None, Query(description="A scene or model: adds the change from its map to this one.")
        ] = None,
        discount: Annotated[
            bool, Query(description="Count each pixel of the change by the product of both maps' confidences.")
        ] = False,
    ) -> Response:
        wanted = wanted_type(request.headers.get("accept"))
        settings = state.settings
        body = await read_body(
            request, most_bytes=settings.statistics_max_body_bytes, remedy="simplify the polygons or send them in parts"
        )
        if discount and against is None:
            raise InvalidRequest("discount is of change: name a scene or model in against.")

        async def answer(cover: LandCover) -> Response:
            other = None if against is None else await find_against(state, cover, against)
            question = Question(
                scene=cover.scene.id,
                model=cover.model.digest,
                crs=crs or None,
                min_confidence=min_confidence,
                against=None if other is None else (other.scene.id, other.model.digest),
                discount=discount,
            )
            work = await PolygonStatistics.begin(state, question, body, cover, other)
            if await work.within(waiting, settings.max_blocks):
                return await state.draw(geojson_or_csv, await state.draw(work.answer), wanted)
            return await accepted(request, state, await state.jobs.submit(state, question, body))

        return await with_current_image(state, cover, answer)

    return router
