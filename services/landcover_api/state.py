"""What one API process holds: catalogues, connections, and the block service. Made by `create_app`, read by routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, cast

from fastapi import Depends, Path, Query, Request
from redis.asyncio import Redis

from landcover.catalog import ModelCatalog, SceneCatalog
from landcover.contract import ModelFile
from landcover.grid import Grid, grid_for
from landcover.scene import Scene
from landcover_api.blocks import BlockService, BlockSet
from landcover_api.settings import ApiSettings


@dataclass(kw_only=True)
class ApiState:
    """The collaborators of every route."""

    settings: ApiSettings
    scenes: SceneCatalog
    models: ModelCatalog
    cache: Redis
    broker: Redis
    blocks: BlockService
    cache_ttl_s: int

    async def scene(self, scene_id: str) -> Scene:
        """The scene as it is now; a file's header or a server is asked off the event loop."""
        if known := self.scenes.cached(scene_id):
            return known
        return await asyncio.to_thread(self.scenes.scene, scene_id)


def get_state(request: Request) -> ApiState:
    """The state of the application that answers `request`."""
    return cast(ApiState, request.app.state.landcover)


State = Annotated[ApiState, Depends(get_state)]
SceneId = Annotated[str, Path(description="A scene's id, as in GET /scenes.")]


@dataclass(frozen=True, kw_only=True)
class LandCover:
    """A scene as one model maps it: what a land-cover address names."""

    scene: Scene
    model: ModelFile
    grid: Grid

    @property
    def blocks(self) -> BlockSet:
        """Its blocks in the cache and in tasks."""
        return BlockSet(
            source=self.scene.source,
            version=self.scene.version,
            digest=self.model.digest,
            decimation=self.grid.decimation,
        )


@lru_cache(maxsize=1024)
def land_cover(scene: Scene, model: ModelFile) -> LandCover:
    """The land cover of `scene` by `model`.

    Raises:
        SceneTooCoarse: the model was not trained for such pixels.
    """
    return LandCover(scene=scene, model=model, grid=grid_for(scene, model.contract))


async def get_land_cover(
    state: State,
    scene: SceneId,
    model: Annotated[str | None, Query(description="A model's name or digest; by default the service's.")] = None,
) -> LandCover:
    """The land cover that the address names."""
    return land_cover(await state.scene(scene), state.models.model(model))


LandCoverParam = Annotated[LandCover, Depends(get_land_cover)]
