"""The images themselves: TiTiler's own endpoints, with the scene's id in the place of `?url=`."""

from __future__ import annotations

from typing import Any, cast

from rio_tiler.io import Reader
from rio_tiler.models import ImageData
from starlette.templating import Jinja2Templates
from titiler.core.factory import TilerFactory

from landcover.scene import Scene, open_image
from landcover.settings import ReadSettings
from landcover_api.extents import TILE_MATRIX_SETS
from landcover_api.state import SceneId, State

PREFIX = "/scenes/{scene}/imagery"


class SceneReader(Reader):
    """rio-tiler's reader of a scene: the same file, bands and rescaling that the network sees, unless asked else."""

    def __attrs_post_init__(self) -> None:
        self.scene = cast(Scene, self.input)
        settings = ReadSettings()
        source, version = self.scene.source, self.scene.version
        self.dataset = self._ctx_stack.enter_context(open_image(source, settings, version=version))
        self.input = source.gdal_path
        super().__attrs_post_init__()  # type: ignore[no-untyped-call]

    def tile(self, *args: Any, **options: Any) -> ImageData:
        """A map tile."""
        return self._shown(super().tile(*args, **self._with_bands(options)), options)

    def part(self, *args: Any, **options: Any) -> ImageData:
        """A box."""
        return self._shown(super().part(*args, **self._with_bands(options)), options)

    def preview(self, *args: Any, **options: Any) -> ImageData:
        """The whole, small."""
        return self._shown(super().preview(*args, **self._with_bands(options)), options)

    def _with_bands(self, options: dict[str, Any]) -> dict[str, Any]:
        return options if self._chosen(options) else options | {"indexes": self.scene.bands}

    def _shown(self, image: ImageData, options: dict[str, Any]) -> ImageData:
        if self.scene.source.rescale and not self._chosen(options):
            image.rescale(in_range=(self.scene.source.rescale,))
        return image

    @staticmethod
    def _chosen(options: dict[str, Any]) -> bool:
        return bool(options.get("indexes") or options.get("expression"))


async def get_scene(state: State, scene: SceneId) -> Scene:
    """The scene of the address, judged as for land cover: nothing unfit is ever opened."""
    return await state.scene(scene)


def imagery_router(templates: Jinja2Templates) -> Any:
    """TiTiler's endpoints under `PREFIX`."""
    return TilerFactory(
        reader=SceneReader,
        path_dependency=get_scene,
        router_prefix=PREFIX,
        supported_tms=TILE_MATRIX_SETS,
        add_viewer=False,
        templates=templates,
    ).router
