"""What one API process holds: catalogues, connections, and the block service. Made by `create_app`, read by routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Query, Request
from redis.asyncio import Redis

from landcover.catalog import ModelCatalog, SceneCatalog
from landcover.scene import Scene
from landcover_api.blocks import BlockService
from landcover_api.cover import LandCover, land_cover
from landcover_api.settings import ApiSettings
from landcover_api.warm import WarmTiles


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
    warm: WarmTiles

    async def scene(self, scene_id: str) -> Scene:
        """The scene as it is now; a file's header or a server is asked off the event loop."""
        if known := self.scenes.cached(scene_id):
            return known
        return await asyncio.to_thread(self.scenes.scene, scene_id)


async def get_state(request: Request) -> ApiState:
    """The state of the application that answers `request`."""
    return cast(ApiState, request.app.state.landcover)


State = Annotated[ApiState, Depends(get_state)]
SceneId = Annotated[str, Path(description="A scene's id, as in GET /scenes.")]


async def get_land_cover(
    state: State,
    scene: SceneId,
    model: Annotated[str | None, Query(description="A model's name or digest; by default the service's.")] = None,
) -> LandCover:
    """The land cover that the address names."""
    return land_cover(await state.scene(scene), state.models.model(model))


LandCoverParam = Annotated[LandCover, Depends(get_land_cover)]
