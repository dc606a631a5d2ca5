"""What an API process measures of itself, for Prometheus; label sets are bounded. Giving it out is `scrape`'s part."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landcover_api.paths import route_path

REQUESTS = Counter("landcover_api_requests_total", "Requests by route and status.", ["route", "status"])
SECONDS = Histogram(
    "landcover_api_request_seconds",
    "Time to answer, by route.",
    ["route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
CACHE_LOOKUPS = Counter(
    "landcover_api_cache_lookups_total",
    "Looks for what was made before, by where (tile, overview, block, product) and whether it was there.",
    ["tier", "outcome"],
)
TILES = Counter("landcover_api_tiles_total", "Tiles by where they came from.", ["source"])
BLOCKS = Counter("landcover_api_blocks_total", "Blocks looked up in the cache, by outcome.", ["outcome"])
OVERVIEWS = Counter("landcover_api_overviews_total", "Overviews of blocks, by where they came from.", ["outcome"])
PRODUCT_SECONDS = Histogram(
    "landcover_api_product_seconds",
    "Time to read a block or an overview out of a product.",
    ["what"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUEUED = Counter("landcover_api_blocks_queued_total", "Block tasks sent to workers.")
WAITING = Gauge("landcover_api_requests_waiting", "Requests that wait for blocks.", multiprocess_mode="livesum")

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""A header of every answer: browsers shall not guess what it is."""

# What `labels` does costs as much as all else that is done to count a warm tile.
_requests = lru_cache(maxsize=1024)(REQUESTS.labels)
_seconds = lru_cache(maxsize=1024)(SECONDS.labels)
_tiles = lru_cache(TILES.labels)
_lookups = lru_cache(CACHE_LOOKUPS.labels)

WARM_ROUTE = "warm tile"
"""What stands for the route of tiles that `warm` answers."""
ROUTE_KEY = "landcover.route"
"""Where the scope of a request says which route answered it, if none of the application's did."""

_warm_tiles, _warm_hits = TILES.labels("cache"), CACHE_LOOKUPS.labels("tile", "hit")

Tier = Literal["tile", "overview", "block", "product"]


def count_request(route: str, status: int, seconds: float) -> None:
    """Count and time one request."""
    _requests(route, status).inc()
    _seconds(route).observe(seconds)


def count_tile(source: str) -> None:
    """Count one tile."""
    _tiles(source).inc()


def count_warm_tile(status: int, seconds: float) -> None:
    """Count and time one finished tile, all at once: what is done for each of them is what the API costs."""
    _warm_tiles.inc()
    if status == 200:  # else the client has it: nobody looked
        _warm_hits.inc()
    _requests(WARM_ROUTE, status).inc()
    _seconds(WARM_ROUTE).observe(seconds)


def count_lookups(tier: Tier, *, hits: int = 0, misses: int = 0) -> None:
    """Count looks into one tier of what was made before."""
    if hits:
        _lookups(tier, "hit").inc(hits)
    if misses:
        _lookups(tier, "miss").inc(misses)


def route_of(scope: Scope) -> str:
    """The pattern of the route that answered, with the prefix that an included router's route does not know."""
    pattern = getattr(scope.get("route"), "path", None)
    if pattern is None:
        return str(scope.get(ROUTE_KEY, "other"))
    parts = route_path(scope).split("/")
    if len(parts) > 3 and parts[1] == "scenes" and not pattern.startswith("/scenes"):
        return f"/scenes/{{scene}}/{parts[3]}{pattern}"
    return str(pattern)


class MeasureMiddleware:
    """Counts and times requests by route: the route's pattern, never the address, so labels stay few.

    It also forbids browsers to guess what an answer is, whoever made it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), NO_SNIFFING]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            count_request(route_of(scope), status, time.perf_counter() - begin)
