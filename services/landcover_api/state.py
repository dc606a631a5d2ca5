"""What one API process holds: catalogues, connections, and the block service. Made by `create_app`, read by routes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar, cast

from fastapi import Depends, Path, Query, Request
from redis.asyncio import Redis

from landcover.annotations.store import AnnotationStore
from landcover.catalog import ModelCatalog, SceneCatalog
from landcover.errors import LandcoverError
from landcover.scene import Scene
from landcover.settings import ReadSettings
from landcover_api.blocks import BlockService
from landcover_api.cover import LandCover, land_cover
from landcover_api.job_looks import JobLooks
from landcover_api.overviews import OverviewService
from landcover_api.products import ProductsInUse
from landcover_api.settings import ApiSettings
from landcover_api.warm import WarmTiles

if TYPE_CHECKING:
    from landcover_api.map_jobs import MapJobs
    from landcover_api.statistics_jobs import StatisticsJobs

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

DRAWING_THREADS = 4
HEADER_THREADS = 16
ANNOTATION_THREADS = 2
"""Reading a large body is work for Python itself: more threads of it would hold up the event loop, not go faster."""
DATABASE_PROBE_S = 0.2
REFRESH_RETRY_S = 10.0
"""After a remote image could not be asked for its version it is asked again no sooner."""


@dataclass(kw_only=True)
class ApiState:
    """The collaborators of every route.

    Threads that draw, threads that wait for images' servers and threads that wait for the database are kept apart:
    else a few requests for a silent server would stop every map.
    """

    settings: ApiSettings
    read: ReadSettings
    scenes: SceneCatalog
    models: ModelCatalog
    cache: Redis
    broker: Redis
    blocks: BlockService
    overviews: OverviewService
    products: ProductsInUse
    cache_ttl_s: int
    warm: WarmTiles
    annotations: AnnotationStore
    jobs: StatisticsJobs
    map_jobs: MapJobs
    looks: JobLooks = field(default_factory=JobLooks)
    drawing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(DRAWING_THREADS, "drawing"))
    headers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(HEADER_THREADS, "headers"))
    annotating: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(ANNOTATION_THREADS, "annotations")
    )
    _lookups: dict[str, asyncio.Task[Scene]] = field(default_factory=dict)
    _refused_until: dict[str, float] = field(default_factory=dict)
    _database_check: asyncio.Task[bool] | None = None

    async def scene(self, scene_id: str) -> Scene:
        """The scene as it is now; a header is read off the event loop, once for all who ask.

        What is known of a remote image is used at once and asked for in the background when it has grown old, so
        that an outage of its server takes no finished tile away.

        Raises:
            SceneNotFound, SceneUnreadable, SceneTooSlow, SceneUnsupported: as their names say.
        """
        if known := self.glance(scene_id):
            return known
        return await asyncio.shield(self._lookup(scene_id))

    def glance(self, scene_id: str) -> Scene | None:
        """The scene if it is known, without waiting."""
        known, fresh = self.scenes.glance(scene_id)
        if known and not fresh and time.monotonic() > self._refused_until.get(scene_id, 0.0):
            self._lookup(scene_id)
        return known

    async def draw(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what needs the processor in one of the few threads kept for it."""
        return await asyncio.get_running_loop().run_in_executor(self.drawing, lambda: work(*args, **kwargs))

    async def annotate(self, work: Callable[[], T]) -> T:
        """Run what reads or writes annotations in one of the few threads kept for it."""
        return await asyncio.get_running_loop().run_in_executor(self.annotating, work)

    async def database_answers(self) -> bool:
        """Whether the database of annotations answers at once; a probe must not wait for one that is away."""
        if self._database_check is None or self._database_check.done():
            self._database_check = asyncio.create_task(self._check_database(), name="check the database")
        await asyncio.wait({self._database_check}, timeout=DATABASE_PROBE_S)
        return self._database_check.done() and self._database_check.result()

    def close(self) -> None:
        """Let the threads go."""
        self.blocks.close()
        self.overviews.close()
        self.products.close()
        self.drawing.shutdown(wait=False, cancel_futures=True)
        self.headers.shutdown(wait=False, cancel_futures=True)
        self.annotating.shutdown(wait=False, cancel_futures=True)

    async def _check_database(self) -> bool:
        try:
            await self.annotate(self.annotations.check)
        except LandcoverError:
            return False
        return True

    def _lookup(self, scene_id: str) -> asyncio.Task[Scene]:
        task = self._lookups.get(scene_id)
        if task is None:
            task = asyncio.create_task(self._look_up(scene_id), name=f"look up {scene_id}")
            task.add_done_callback(lambda done: self._looked_up(scene_id, done))
            self._lookups[scene_id] = task
        return task

    async def _look_up(self, scene_id: str) -> Scene:
        return await asyncio.get_running_loop().run_in_executor(self.headers, self.scenes.scene, scene_id)

    def _looked_up(self, scene_id: str, task: asyncio.Task[Scene]) -> None:
        del self._lookups[scene_id]
        if not task.cancelled() and (error := task.exception()) is not None:  # also marks it as seen
            self._refused_until[scene_id] = time.monotonic() + REFRESH_RETRY_S
            if not isinstance(error, LandcoverError):
                logger.error("scene %s cannot be described", scene_id, exc_info=error)


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
    return land_cover(await state.scene(scene), state.models.model(model), state.settings.max_missing_blocks)


async def described(state: ApiState, cover: LandCover) -> LandCover:
    """`cover`, and whether every zoom of it can be drawn without mapping anything, which is a look into the cache."""
    return replace(cover, whole=await state.overviews.whole(cover))


LandCoverParam = Annotated[LandCover, Depends(get_land_cover)]
