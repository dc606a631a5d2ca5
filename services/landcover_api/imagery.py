"""The images themselves: TiTiler's own endpoints, with the scene's id in the place of `?url=`.

GeoTIFFs are opened by rio-tiler; of every other kind of scene it is given extracts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from rasterio.errors import RasterioError
from rio_tiler.constants import WGS84_CRS
from rio_tiler.io import BaseReader, Reader
from rio_tiler.models import ImageData, PointData
from starlette.templating import Jinja2Templates
from titiler.core.factory import TilerFactory

import landcover.geotiff.kind
import landcover.mosaic.kind
import landcover.xyz.kind
from landcover.errors import InvalidRequest, SceneUnreadable
from landcover.extract import Box, Extract, extract_by_windows
from landcover.geodesy import WGS84
from landcover.geotiff.opening import gdal_path, note_failure, open_image
from landcover.kinds import Kind, Windows, kind_of
from landcover.mosaic.display import DisplayWindows
from landcover.scene import Scene, public_location
from landcover.settings import ReadSettings
from landcover.xyz import display
from landcover_api.extents import TILE_MATRIX_SETS, box_extent
from landcover_api.extract_reader import ExtractReader
from landcover_api.state import SceneId, State

PREFIX = "/scenes/{scene}/imagery"
MAX_SIDE_PX = 2048
"""Of any image asked for: TiTiler would allocate whatever a client names."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Image:
    """What `open_scene` opens."""

    scene: Scene
    read: ReadSettings


def _unreadable_if_broken(read: Callable[P, T]) -> Callable[P, T]:
    """Turn GDAL's errors into our own sentence; theirs may show a signed address."""

    @wraps(read)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except RasterioError:
            source = cast(SceneReader, args[0]).scene.source
            note_failure(source)
            raise SceneUnreadable(
                f"{public_location(source)} is truncated or corrupt: a part of it cannot be decoded."
            ) from None

    return wrapped


class SceneReader(Reader):
    """rio-tiler's reader of a GeoTIFF: the same file, bands and rescaling that the network sees, unless asked else."""

    def __attrs_post_init__(self) -> None:
        image = cast(Image, self.input)
        self.scene = image.scene
        source, version = self.scene.source, self.scene.version
        self.dataset = self._ctx_stack.enter_context(open_image(source, image.read, version=version))
        self.input = gdal_path(source)
        super().__attrs_post_init__()  # type: ignore[no-untyped-call]

    @_unreadable_if_broken
    def tile(self, *args: Any, **options: Any) -> ImageData:
        """A map tile."""
        return self._shown(super().tile(*args, **self._with_bands(options)), options)

    @_unreadable_if_broken
    def part(self, *args: Any, **options: Any) -> ImageData:
        """A box."""
        return self._shown(super().part(*args, **self._with_bands(options)), options)

    @_unreadable_if_broken
    def preview(self, *args: Any, **options: Any) -> ImageData:
        """The whole, small."""
        return self._shown(super().preview(*args, **self._with_bands(options)), options)

    @_unreadable_if_broken
    def point(self, *args: Any, **options: Any) -> PointData:
        """The values at a point."""
        return super().point(*args, **options)

    def _with_bands(self, options: dict[str, Any]) -> dict[str, Any]:
        return options if options.get("indexes") else options | {"indexes": self.scene.bands}

    def _shown(self, image: ImageData, options: dict[str, Any]) -> ImageData:
        if self.scene.source.rescale and not options.get("indexes"):
            image.rescale(in_range=(self.scene.source.rescale,))
        return image


def open_scene(image: Image, **options: Any) -> BaseReader:
    """rio-tiler's reader of a scene of any kind; `options` as rio-tiler's readers take them."""
    kind = kind_of(image.scene.source)
    if kind is landcover.geotiff.kind:
        return SceneReader(image, **options)  # type: ignore[arg-type]
    if kind is landcover.xyz.kind:
        return ExtractReader(image.scene, extract=partial(_by_lower_zooms, image.read), **options)
    windows = (
        _mosaic_display(image.read) if kind is landcover.mosaic.kind else _windows(cast(Hashable, kind), image.read)
    )
    return ExtractReader(image.scene, extract=partial(extract_by_windows, windows), **options)


def _by_lower_zooms(read: ReadSettings, scene: Scene, box: Box, pixel: float) -> Extract:
    return display.extract(scene, read, box, pixel)


@lru_cache(maxsize=16)
def _mosaic_display(read: ReadSettings) -> Windows:
    return DisplayWindows(read)


@lru_cache(maxsize=16)
def _windows(kind: Hashable, read: ReadSettings) -> Windows:
    return cast(Kind, kind).windows(read)


async def get_image(state: State, scene: SceneId) -> Image:
    """The scene of the address, judged as for land cover: nothing unfit is ever opened."""
    return Image(scene=await state.scene(scene), read=state.read)


async def refuse_excess(request: Request) -> None:
    """Refuse sizes and programs that could exhaust memory or processor.

    Raises:
        InvalidRequest: with what is allowed.
    """
    query = request.query_params
    for name in ("expression", "algorithm"):
        if name in query:
            raise InvalidRequest(f"{name} is not offered here; imagery is shown as it is.")
    sizes = {
        name: query[name] for name in ("tilesize", "width", "height", "max_size", "buffer", "padding") if name in query
    }
    path = request.path_params
    sizes |= {name: str(path[name]) for name in ("width", "height") if name in path}
    for name, text in sizes.items():
        try:
            size = float(text)
        except ValueError:
            continue  # the route itself says what is wrong with it
        if not size <= MAX_SIDE_PX:
            raise InvalidRequest(f"{name} may be at most {MAX_SIDE_PX} px.")


class ImageryFactory(TilerFactory):
    """TiTiler's factory, with those of its endpoints whose cost is bounded by what is asked."""

    def register_routes(self) -> None:
        """Register what shows the image; its statistics and features would read all of it."""
        for register in (self.info, self.tilesets, self.tile, self.tilejson, self.point, self.preview):
            register()  # type: ignore[no-untyped-call]
        self.bbox()

    def bbox(self) -> None:
        """Register images of boxes: TiTiler's own take any size."""

        @self.router.get(
            "/bbox/{minx},{miny},{maxx},{maxy}.png",
            summary="The image inside a box of degrees.",
            response_class=Response,
            responses={200: {"content": {"image/png": {}}}},
        )
        def bbox(
            image: Annotated[Image, Depends(get_image)],
            minx: float,
            miny: float,
            maxx: float,
            maxy: float,
            max_size: Annotated[int, Query(ge=1, le=MAX_SIDE_PX, description="Pixels of the longer side.")] = 1024,
        ) -> Response:
            extent = box_extent((minx, miny, maxx, maxy), WGS84, None, max_size, None, None)
            with open_scene(image) as reader:
                part = reader.part(
                    (minx, miny, maxx, maxy), bounds_crs=WGS84_CRS, width=extent.width_px, height=extent.height_px
                )
            return Response(part.render(img_format="PNG"), media_type="image/png")


def imagery_router(templates: Jinja2Templates) -> APIRouter:
    """TiTiler's endpoints under `PREFIX`."""
    factory = ImageryFactory(
        reader=open_scene,  # type: ignore[arg-type]
        path_dependency=get_image,
        router_prefix=PREFIX,
        supported_tms=TILE_MATRIX_SETS,
        templates=templates,
    )
    router = APIRouter(dependencies=[Depends(refuse_excess)])
    router.include_router(factory.router)
    return router
