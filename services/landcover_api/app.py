"""The FastAPI application. `create_app` reads settings and catalogues; nothing happens at import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jinja2
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp
from titiler.core.factory import TMSFactory

import landcover
from landcover import tracing
from landcover.annotations.store import AnnotationStore
from landcover.catalog import load_models, load_scenes
from landcover.connections import connect, connect_async
from landcover.correlation import HEADER as REQUEST_ID_HEADER
from landcover.jobs import JobDesk
from landcover.keys import MAP_JOBS, STATISTICS_JOBS
from landcover.queue import make_celery
from landcover.settings import (
    BrokerSettings,
    CacheSettings,
    CatalogSettings,
    DatabaseSettings,
    ProductSettings,
    ReadSettings,
)
from landcover_api import annotations as annotation_routes
from landcover_api import catalogue, health
from landcover_api.api_keys import ApiKeySettings
from landcover_api.blocks import BlockService
from landcover_api.correlate import CorrelateMiddleware
from landcover_api.cross_origin import CrossOrigin, CrossOriginMiddleware
from landcover_api.errors import add_exception_handlers
from landcover_api.extents import TILE_MATRIX_SETS
from landcover_api.imagery import PREFIX as IMAGERY_PREFIX
from landcover_api.imagery import imagery_router
from landcover_api.jobs import jobs_router
from landcover_api.key_guard import KeyFront, describe_keys, make_guard
from landcover_api.landcover import PENDING_HEADER, LandCoverFactory
from landcover_api.map_jobs import MapJobs
from landcover_api.map_page import map_page_router
from landcover_api.merged_reads import MergedReads
from landcover_api.metrics import MeasureMiddleware
from landcover_api.overviews import OverviewService
from landcover_api.products import ProductsInUse
from landcover_api.review import review_router
from landcover_api.settings import ApiSettings
from landcover_api.state import ApiState
from landcover_api.statistics import statistics_router
from landcover_api.statistics_jobs import StatisticsJobs
from landcover_api.traced import TraceMiddleware
from landcover_api.wakeups import Wakeups
from landcover_api.warm import WarmTileFront, WarmTiles

LANDCOVER_PREFIX = "/scenes/{scene}/landcover"
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own: it knows nothing of warm tiles, and sends the queries of addresses along."""
CONFORMS_TO = (
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/tileset",
    "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/tilesets-list",
    "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/png",
    "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/tiff",
)


def create_app(
    *,
    api: ApiSettings | None = None,
    catalog: CatalogSettings | None = None,
    broker: BrokerSettings | None = None,
    cache: CacheSettings | None = None,
    read: ReadSettings | None = None,
    database: DatabaseSettings | None = None,
    products: ProductSettings | None = None,
    api_keys: ApiKeySettings | None = None,
) -> FastAPI:
    """The application; settings that are not given come from the environment.

    Raises:
        InvalidConfiguration, InvalidModel: there is nothing it could serve.
    """
    api, catalog = api or ApiSettings(), catalog or CatalogSettings()
    broker, cache, read = broker or BrokerSettings(), cache or CacheSettings(), read or ReadSettings()
    database, products = database or DatabaseSettings(), products or ProductSettings()
    guard = make_guard(api_keys or ApiKeySettings())
    scenes, models = load_scenes(catalog, read), load_models(catalog)
    kept = AnnotationStore(database.database_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = connect_async(cache.cache_url)
        subscriber = connect_async(cache.cache_url, subscriber=True)
        queue = connect_async(broker.broker_url)
        celery = make_celery(broker.broker_url)
        jobs_broker = connect(broker.broker_url)
        jobs = StatisticsJobs(JobDesk(jobs_broker, STATISTICS_JOBS, keep_s=api.job_keep_s))
        map_jobs = MapJobs(JobDesk(jobs_broker, MAP_JOBS, keep_s=api.job_keep_s), products, at_once=api.map_jobs)
        reads = MergedReads(subscriber)
        wakeups = Wakeups(subscriber)
        wakeups.start()
        in_use = ProductsInUse(queue, store, read, cache_ttl_s=cache.cache_ttl_s)
        app.state.landcover = ApiState(
            settings=api,
            read=read,
            scenes=scenes,
            models=models,
            cache=store,
            broker=queue,
            blocks=BlockService(store, queue, celery, wakeups, in_use, max_missing=api.max_missing_blocks),
            overviews=OverviewService(store, in_use, cache_ttl_s=cache.cache_ttl_s),
            products=in_use,
            cache_ttl_s=cache.cache_ttl_s,
            warm=WarmTiles(reads),
            annotations=kept,
            jobs=jobs,
            map_jobs=map_jobs,
        )
        jobs.start(app.state.landcover)
        map_jobs.start()
        try:
            yield
        finally:
            await jobs.stop()
            await map_jobs.stop()
            jobs_broker.close()
            await wakeups.stop()
            app.state.landcover.close()
            kept.close()
            await reads.close()
            for client in (store, subscriber, queue):
                await client.aclose()
            celery.close()

    app = FastAPIOffline(
        title="landcover-tiles",
        version=landcover.__version__,
        description="Land cover from aerial imagery, on demand, as map tiles and statistics.",
        lifespan=lifespan,
        telemetry=_NO_TELEMETRY,
    )
    exposed = (PENDING_HEADER, "ETag", "Location", "Retry-After", REQUEST_ID_HEADER)
    cross_origin = CrossOrigin(origins=api.cors_origins, exposed=exposed)
    add_exception_handlers(app)
    _add_routes(app)

    # Around all of Starlette's own, so that the answer to an unexpected error is counted and has the same headers.
    def around(inner: ASGIApp) -> ASGIApp:
        return CorrelateMiddleware(CrossOriginMiddleware(MeasureMiddleware(inner), policy=cross_origin))

    app.middleware_stack = WarmTileFront(around(app.build_middleware_stack()), cross_origin)
    if guard is not None:
        app.middleware_stack = KeyFront(app.middleware_stack, guard=guard, around=around)
        describe_keys(app, guard)
    if tracing.is_on():
        app.middleware_stack = TraceMiddleware(app.middleware_stack)
    return app


def _add_routes(app: FastAPI) -> None:
    """Everything that has an address."""
    templates = _templates()
    app.include_router(health.router)
    app.include_router(catalogue.router)
    app.include_router(annotation_routes.router)
    app.include_router(jobs_router())
    land_cover = LandCoverFactory(router_prefix=LANDCOVER_PREFIX, templates=templates)
    app.include_router(statistics_router(), prefix=LANDCOVER_PREFIX, tags=["land cover"])
    app.include_router(land_cover.router, prefix=LANDCOVER_PREFIX, tags=["land cover"])
    app.include_router(review_router(), prefix=LANDCOVER_PREFIX, tags=["land cover"])
    app.include_router(imagery_router(templates), prefix=IMAGERY_PREFIX, tags=["imagery"])
    app.include_router(
        TMSFactory(supported_tms=TILE_MATRIX_SETS, templates=templates).router, tags=["tile matrix sets"]
    )
    app.include_router(map_page_router())

    @app.get("/conformance", tags=["operations"], summary="OGC API conformance classes.")
    async def conformance() -> dict[str, list[str]]:
        return {"conformsTo": list(CONFORMS_TO)}


def _templates() -> Jinja2Templates:
    """Ours before TiTiler's."""
    loader = jinja2.ChoiceLoader(
        [jinja2.PackageLoader("landcover_api"), jinja2.PackageLoader("titiler.core", "templates")]
    )
    return Jinja2Templates(env=jinja2.Environment(autoescape=True, loader=loader))
