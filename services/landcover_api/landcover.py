"""The land-cover endpoints of a scene: tiles, TileJSON, WMTS, boxes, points and statistics.

TiTiler's factory gives the endpoints that describe tile sets; those that show pixels are asynchronous and our
own, since a request may have to wait for blocks, and thousands may wait at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

from attrs import define
from fastapi import Depends, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from morecantile.defaults import TileMatrixSets
from pyproj import CRS
from starlette.templating import Jinja2Templates
from titiler.core.dependencies import DefaultDependency
from titiler.core.factory import TilerFactory

from landcover import block
from landcover.block import Layer
from landcover.errors import InvalidRequest, NotFound, Pending, RequestTooLarge, SceneChanged
from landcover.geodesy import WGS84, transformer
from landcover.grid import BlockIndex
from landcover_api import metrics
from landcover_api.cover import LandCover
from landcover_api.drawing import Drawing, Waiting, draw, not_on_demand
from landcover_api.extents import (
    MAX_IMAGE_SIDE_PX,
    TILE_MATRIX_SETS,
    box_extent,
    check_tile,
    tile_extent,
    tile_matrix_set,
    tms_crs,
)
from landcover_api.http_caching import REVALIDATE, etag, finished, matches, version_token
from landcover_api.key_guard import QUERY_NAME
from landcover_api.reader import LandCoverReader
from landcover_api.rendering import ImageFormat, Rendering
from landcover_api.settings import MAX_WAIT_S
from landcover_api.state import ApiState, LandCoverParam, State, described, get_land_cover
from landcover_api.warm import TileSet

PENDING_HEADER = "Landcover-Pending"

T = TypeVar("T")


async def get_waiting(
    request: Request,
    state: State,
    wait: Annotated[
        float | None,
        Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for missing blocks; by default the service's."),
    ] = None,
) -> Waiting:
    """How long this request waits, which is no longer than its client does."""
    return Waiting(seconds=state.settings.wait_s if wait is None else wait, gone=request.is_disconnected)


WaitingParam = Annotated[Waiting, Depends(get_waiting)]
Strict = Annotated[bool, Query(description="Answer 503 instead of an unfinished image, 404 outside the scene.")]
Version = Annotated[
    str | None,
    Query(
        description="Token of image and model, as TileJSON has it: while it is current, caches keep the tile for ever."
    ),
]
LayerParam = Annotated[Layer, Query(description="Class map, or the model's confidence in it.")]


async def get_described_cover(state: State, cover: LandCoverParam) -> LandCover:
    """The land cover that the address names, and whether it is mapped at every zoom."""
    return await described(state, cover)


DescribedCover = Annotated[LandCover, Depends(get_described_cover)]


async def class_filter(
    cover: LandCoverParam,
    classes: Annotated[str | None, Query(description="Class values to show, such as `4,8`.")] = None,
) -> tuple[int, ...] | None:
    """The class values that a request wants to see, sorted; None for all."""
    if classes is None or classes == "":
        return None
    known = {each.value for each in cover.model.contract.classes}
    try:
        wanted = {int(word) for word in classes.split(",")}
    except ValueError:
        raise InvalidRequest(f"classes must be numbers with commas between, such as 4,8 (got '{classes}').") from None
    if wanted - known:
        raise InvalidRequest(
            f"Model '{cover.model.name}' has the class values {', '.join(map(str, sorted(known)))}; "
            f"it has no {', '.join(map(str, sorted(wanted - known)))}."
        )
    return None if wanted == known else tuple(sorted(wanted))


ClassFilter = Annotated[tuple[int, ...] | None, Depends(class_filter)]


@define(kw_only=True)
class LandCoverFactory(TilerFactory):
    """TiTiler's factory over land cover: its descriptions of tile sets, and our own way to pixels."""

    reader: Any = LandCoverReader
    path_dependency: Any = get_described_cover
    layer_dependency: Any = DefaultDependency
    dataset_dependency: Any = DefaultDependency
    tile_dependency: Any = DefaultDependency
    process_dependency: Any = lambda: None
    colormap_dependency: Any = lambda: None
    render_dependency: Any = DefaultDependency
    templates: Jinja2Templates
    supported_tms: TileMatrixSets = TILE_MATRIX_SETS

    def register_routes(self) -> None:
        """Register what a scene's land cover offers."""
        self.tile()
        self.info()  # type: ignore[no-untyped-call]
        self.tilesets()  # type: ignore[no-untyped-call]
        self.tilejson()
        self.wmts()
        self.map_viewer()
        self.bbox()
        self.point()

    def tile(self) -> None:
        """Register XYZ tiles."""

        async def tile(
            request: Request,
            state: State,
            waiting: WaitingParam,
            cover: LandCoverParam,
            only: ClassFilter,
            tileMatrixSetId: str,  # noqa: N803 - TiTiler's and OGC's name
            z: int,
            x: int,
            y: int,
            format: ImageFormat = ImageFormat.PNG,  # noqa: A002 - as in TiTiler's address
            layer: LayerParam = "class",
            tilesize: Annotated[Literal["256", "512"], Query(description="Pixels a side.")] = "256",
            strict: Strict = False,
            v: Version = None,
        ) -> Response:
            tms = tile_matrix_set(tileMatrixSetId)
            check_tile(tms, z, x, y)
            rendering = Rendering(layer=layer, only=only, tilesize=int(tilesize), format=format)
            extent = tile_extent(tms, z, x, y, rendering.tilesize)

            async def answer(cover: LandCover) -> Response:
                cache_control = finished(cover, v, state.settings.tile_max_age_s)
                tiles = TileSet(cover=cover, tms=tileMatrixSetId, rendering=rendering, cache_control=cache_control)
                state.warm.remember(request.scope, tiles)
                key = tiles.key(z, x, y)
                headers = {"Cache-Control": cache_control, "ETag": etag(key)}
                if matches(request.headers.get("if-none-match"), headers["ETag"]):
                    return Response(status_code=304, headers=headers)  # only a finished tile ever had this ETag
                data = await state.cache.get(key)
                metrics.count_lookups("tile", hits=data is not None, misses=data is None)
                if data is not None:
                    metrics.count_tile("cache")
                    return Response(data, media_type=format.media_type, headers=headers)
                drawing = await draw(state, cover, extent, rendering, waiting=waiting, whole=strict)
                if drawing.missing:
                    metrics.count_tile("pending")
                    return _unfinished(state, drawing, format, strict=strict)
                metrics.count_tile("drawn")
                if drawing.touches_scene:  # empty tiles are without number, and cost nothing to draw
                    await state.cache.set(key, drawing.data, ex=state.cache_ttl_s)
                return Response(drawing.data, media_type=format.media_type, headers=headers)

            return await with_current_image(state, cover, answer)

        path = "/tiles/{tileMatrixSetId}/{z}/{x}/{y}"
        options = _image_options("A map tile of land cover.")
        self.router.get(f"{path}.{{format}}", name="tile", **options)(tile)
        self.router.get(path, name="tile", **options)(tile)
        for each in (f"{path}.{{format}}", path):
            self.router.head(each, include_in_schema=False)(tile)

    def tilejson(self) -> None:
        """Register TileJSON; TiTiler's own knows no attribution of a scene and starts maps at the lowest zoom."""

        @self.router.get("/{tileMatrixSetId}/tilejson.json", name="tilejson", summary="For web maps: TileJSON 3.0.0.")
        async def tilejson(
            request: Request,
            cover: DescribedCover,
            only: ClassFilter,
            tileMatrixSetId: str,  # noqa: N803
            response: Response,
            layer: LayerParam = "class",
            tilesize: Annotated[Literal["256", "512"], Query(description="Pixels a side.")] = "512",
            tile_format: Annotated[ImageFormat, Query(description="Of the tiles.")] = ImageFormat.PNG,
        ) -> dict[str, Any]:
            reader = LandCoverReader(cover, tms=tile_matrix_set(tileMatrixSetId))
            west, south, east, north = bounds = cover.scene.bounds_wgs84
            own = ("tilesize", "tile_format", "v")
            query = [(name, value) for name, value in request.query_params.multi_items() if name not in own]
            query += [("tilesize", tilesize), ("v", version_token(cover))]
            tiles = self.url_for(
                request, "tile", tileMatrixSetId=tileMatrixSetId, z="{z}", x="{x}", y="{y}", format=tile_format.value
            )
            response.headers["Cache-Control"] = REVALIDATE
            source = cover.scene.source
            maxzoom = max(reader.maxzoom - (tilesize == "512"), 0)
            minzoom = min(reader.minzoom, maxzoom)
            return {
                "tilejson": "3.0.0",
                "name": f"Land cover of {source.title or source.id} by {cover.model.name}",
                "attribution": source.attribution,
                "tiles": [f"{tiles}?{urlencode(query)}"],
                "scheme": "xyz",
                "minzoom": minzoom,
                "maxzoom": maxzoom,
                "bounds": bounds,
                "center": [(west + east) / 2, (south + north) / 2, max(minzoom, maxzoom - 3)],
            }

    def wmts(self) -> None:
        """Register WMTS capabilities."""

        @self.router.get("/{tileMatrixSetId}/WMTSCapabilities.xml", summary="For GIS programs: OGC WMTS 1.0.0.")
        async def wmts(
            request: Request,
            cover: DescribedCover,
            tileMatrixSetId: str,  # noqa: N803
        ) -> Response:
            tms = tile_matrix_set(tileMatrixSetId)
            reader = LandCoverReader(cover, tms=tms)
            tiles = self.url_for(
                request, "tile", tileMatrixSetId=tms.id, z="{TileMatrix}", x="{TileCol}", y="{TileRow}", format="png"
            )
            own = ("service", "request", "v")
            query = [(name, value) for name, value in request.query_params.multi_items() if name.lower() not in own]
            query.append(("v", version_token(cover)))
            return self.templates.TemplateResponse(
                request,
                "wmts.xml",
                {
                    "cover": cover,
                    "bounds": cover.scene.bounds_wgs84,
                    "tms": tms,
                    "crs": _crs_urn(tileMatrixSetId),
                    "matrices": [tms.matrix(zoom) for zoom in range(reader.minzoom, reader.maxzoom + 1)],
                    "tiles": f"{tiles}?{urlencode(query)}",
                    "url": str(request.url),
                },
                headers={"Cache-Control": REVALIDATE},
                media_type="application/xml",
            )

    def map_viewer(self) -> None:
        """Register the map page of a scene."""

        @self.router.get("/{tileMatrixSetId}/map.html", name="map_viewer", summary="The map page, at this scene.")
        async def map_html(request: Request, cover: LandCoverParam, tileMatrixSetId: str) -> Response:  # noqa: N803
            tile_matrix_set(tileMatrixSetId)
            state = urlencode({"scene": cover.scene.id, "model": cover.model.name})
            given = {name: value for name, value in request.query_params.items() if name == QUERY_NAME}
            return RedirectResponse(f"{request.base_url}{'?' if given else ''}{urlencode(given)}#{state}")

    def bbox(self) -> None:
        """Register images of any box."""

        @self.router.get(
            "/bbox/{minx},{miny},{maxx},{maxy}.{format}", **_image_options("Land cover of a box in any CRS.")
        )
        async def bbox(
            state: State,
            waiting: WaitingParam,
            cover: LandCoverParam,
            only: ClassFilter,
            minx: float,
            miny: float,
            maxx: float,
            maxy: float,
            format: ImageFormat,  # noqa: A002
            coord_crs: Annotated[str, Query(alias="coord_crs", description="CRS of the box.")] = WGS84,
            dst_crs: Annotated[str | None, Query(alias="dst_crs", description="CRS of the image.")] = None,
            max_size: Annotated[
                int, Query(ge=1, le=MAX_IMAGE_SIDE_PX, description="Pixels of the longer side.")
            ] = 1024,
            width: Annotated[int | None, Query(ge=1, le=MAX_IMAGE_SIDE_PX, description="Pixels.")] = None,
            height: Annotated[int | None, Query(ge=1, le=MAX_IMAGE_SIDE_PX, description="Pixels.")] = None,
            layer: LayerParam = "class",
            strict: Strict = False,
        ) -> Response:
            extent = box_extent((minx, miny, maxx, maxy), coord_crs, dst_crs, max_size, width, height)
            if extent.width_px * extent.height_px > state.settings.max_image_px:
                raise RequestTooLarge(
                    f"The image would have {extent.width_px} × {extent.height_px} px; at most "
                    f"{state.settings.max_image_px} are drawn. Give a smaller width, height or max_size."
                )
            rendering = Rendering(layer=layer, only=only, tilesize=0, format=format)
            drawing = await draw(state, cover, extent, rendering, waiting=waiting, whole=strict)
            if not drawing.queued:
                raise not_on_demand(cover, drawing.missing)
            if drawing.missing:
                return _unfinished(state, drawing, format, strict=strict)
            headers = {"Cache-Control": f"public, max-age={state.settings.tile_max_age_s}"}
            return Response(drawing.data, media_type=format.media_type, headers=headers)

    def point(self) -> None:
        """Register the class at a point."""

        @self.router.get("/point/{lon},{lat}", name="point", summary="Class and confidence at a point.")
        async def point(
            state: State,
            waiting: WaitingParam,
            cover: LandCoverParam,
            lon: Annotated[float, Path(ge=-180, le=180)],
            lat: Annotated[float, Path(ge=-90, le=90)],
            response: Response,
            strict: Strict = False,
        ) -> dict[str, Any]:
            col, row = ~cover.grid.transform @ transformer(WGS84, cover.grid.crs).transform(lon, lat)
            answer: dict[str, Any] = {"coordinates": [lon, lat], "value": 0, "name": "unknown", "color": None}
            if not (0 <= col < cover.grid.width_px and 0 <= row < cover.grid.height_px):
                if strict:
                    raise NotFound(
                        f"{lon}, {lat} (longitude, latitude) lies outside scene '{cover.scene.id}', whose bounds are "
                        f"{', '.join(f'{edge:.5f}' for edge in cover.scene.bounds_wgs84)}."
                    )
                return answer | {"confidence": 0.0, "pending": False}
            side = cover.grid.block_px
            index = BlockIndex(int(row) // side, int(col) // side)
            fields = [block.field("class", 0), block.field("confidence", 0)]
            fetched = await state.blocks.fetch(cover, [index], fields, wait_s=waiting.seconds, gone=waiting.gone)
            for error in fetched.failed.values():
                raise error
            if index in fetched.found:
                at = int(row) % side, int(col) % side
                value, confidence = (int(block.decode(data, side)[at]) for data in fetched.found[index])
                named = {each.value: each for each in cover.model.contract.classes}.get(value)
                response.headers["Cache-Control"] = f"public, max-age={state.settings.tile_max_age_s}"
                return answer | {
                    "value": value,
                    "name": named.name if named else "unknown",
                    "color": named.color if named else None,
                    "confidence": confidence / 255,
                    "pending": False,
                }
            if strict:
                raise Pending("The block under this point is being mapped; ask again.")
            response.headers["Cache-Control"] = f"public, max-age={state.settings.pending_max_age_s}"
            response.headers[PENDING_HEADER] = "1"
            return answer | {"value": None, "name": None, "confidence": None, "pending": True}


async def with_current_image(state: ApiState, cover: LandCover, answer: Callable[[LandCover], Awaitable[T]]) -> T:
    """`answer` for `cover`, and once more for the new version if a worker finds that the image was just replaced."""
    try:
        return await answer(cover)
    except SceneChanged:
        return await answer(await get_land_cover(state, cover.scene.id, cover.model.digest))


def _crs_urn(tms: str) -> str:
    """The CRS of a tile matrix set as OGC writes it."""
    authority, code = CRS.from_wkt(tms_crs(tms)).to_authority() or ("OGC", "CRS84")
    return f"urn:ogc:def:crs:{authority}:{'1.3' if authority == 'OGC' else ''}:{code}"


def _unfinished(state: ApiState, drawing: Drawing, image_format: ImageFormat, *, strict: bool) -> Response:
    """What is known so far, to be kept only for a moment; or 503 for who cannot use half an image.

    What lacks too many blocks is not being mapped: asking for it again soon would change nothing.
    """
    if strict:
        raise Pending(f"{drawing.missing} blocks are being mapped; ask again.")
    max_age = state.settings.pending_max_age_s if drawing.queued else state.settings.unmapped_max_age_s
    headers = {"Cache-Control": f"public, max-age={max_age}", PENDING_HEADER: str(drawing.missing)}
    return Response(drawing.data, media_type=image_format.media_type, headers=headers)


def _image_options(summary: str) -> dict[str, Any]:
    content: dict[str, Any] = {each.media_type: {} for each in ImageFormat}
    return {"summary": summary, "response_class": Response, "responses": {200: {"content": content}}}
