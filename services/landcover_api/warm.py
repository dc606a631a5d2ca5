"""The short way for finished tiles: from the address to the cached bytes, before any middleware, routing or validation.

The first request for a tile of some rendering (scene, model, layer, format, …) takes the long way through the
routes, which validate it and leave the rendering here. Every later address that differs in z, x and y only is
answered by one look into the cache. Whatever is not there takes the long way again, so nothing is decided here.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError
from starlette.types import ASGIApp, Receive, Scope, Send

from landcover.errors import LandcoverError
from landcover.keys import tile_key
from landcover.scene import Scene
from landcover_api import metrics
from landcover_api.correlate import HEADER_NAME, id_for
from landcover_api.cover import LandCover
from landcover_api.cross_origin import CrossOrigin, RawHeaders
from landcover_api.http_caching import etag, matches
from landcover_api.merged_reads import MergedReads
from landcover_api.paths import route_path
from landcover_api.rendering import Rendering

if TYPE_CHECKING:
    from landcover_api.state import ApiState

_MAX_RENDERINGS = 4096
_MAX_QUERY_BYTES = 300
"""Longer ones no client sends twice; remembering them would fill the memory."""
_METHODS = frozenset({"GET", "HEAD"})
_TILE_PATH = re.compile(r"/scenes/([^/]+)/landcover/tiles/([^/]+)/(\d{1,2})/(\d{1,9})/(\d{1,9})(?:\.(\w+))?")

Address = tuple[str, str, str | None, bytes]
"""What of an address names a rendering: scene, tile matrix set, extension, query."""


@dataclass(frozen=True, kw_only=True)
class TileSet:
    """All tiles of one rendering of one land cover."""

    cover: LandCover
    tms: str
    rendering: Rendering
    cache_control: str
    """Of finished tiles at the address that was asked for."""

    def key(self, z: int, x: int, y: int) -> str:
        """Where the cache keeps a finished tile."""
        scene = self.cover.scene
        return tile_key(
            scene=scene.id,
            version=scene.version,
            digest=self.cover.model.digest,
            tms=self.tms,
            z=z,
            x=x,
            y=y,
            rendering=self.rendering.key,
        )


class WarmTiles:
    """The renderings that were asked for lately, those asked for longest ago dropped first."""

    def __init__(self, reads: MergedReads) -> None:
        self.reads = reads
        self._known: OrderedDict[Address, TileSet] = OrderedDict()

    def remember(self, scope: Scope, tiles: TileSet) -> None:
        """Take the short way from now on for addresses like that of the request in `scope`."""
        match = _TILE_PATH.fullmatch(route_path(scope))
        if match and len(scope["query_string"]) <= _MAX_QUERY_BYTES:
            self._known[_address(match, scope)] = tiles
            if len(self._known) > _MAX_RENDERINGS:
                self._known.popitem(last=False)

    def find(self, scope: Scope, glance: Callable[[str], Scene | None]) -> tuple[TileSet, str] | None:
        """The rendering of a request and its tile's key, if it was seen before and its scene is still the same."""
        match = _TILE_PATH.fullmatch(route_path(scope))
        if match is None or (tiles := self._known.get(address := _address(match, scope))) is None:
            return None
        self._known.move_to_end(address)
        try:
            if glance(tiles.cover.scene.id) is not tiles.cover.scene:
                return None
        except LandcoverError:
            return None
        return tiles, tiles.key(int(match[3]), int(match[4]), int(match[5]))


class WarmTileFront:
    """Answers finished tiles itself and passes everything else on, to the whole stack of middleware.

    So it also does for its own answers what that does for others: cross-origin headers, counting, timing.
    """

    def __init__(self, app: ASGIApp, cross_origin: CrossOrigin) -> None:
        self.app = app
        self._cross_origin = cross_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] not in _METHODS or not await self._answer(scope, send):
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, send: Send) -> bool:
        begin = time.perf_counter()
        state: ApiState | None = getattr(scope["app"].state, "landcover", None)
        if state is None or (found := state.warm.find(scope, state.glance)) is None:
            return False
        tiles, key = found
        tag = etag(key)
        origin, known, request = _asked_by(scope)
        headers: RawHeaders = [
            (b"cache-control", tiles.cache_control.encode()),
            (b"etag", tag.encode()),
            metrics.NO_SNIFFING,
            (HEADER_NAME, id_for(request).encode()),
            *self._cross_origin.headers(origin),
        ]
        status, data = 304, b""
        if not matches(known, tag):
            try:
                cached = await state.warm.reads.get(key)
            except (RedisError, OSError):
                return False  # the long way says so properly
            if cached is None:
                return False
            status, data = 200, cached
            headers += [
                (b"content-type", tiles.rendering.format.media_type.encode()),
                (b"content-length", b"%d" % len(data)),
            ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})
        scope[metrics.ROUTE_KEY] = metrics.WARM_ROUTE
        metrics.count_warm_tile(status, time.perf_counter() - begin)
        return True


def _asked_by(scope: Scope) -> tuple[str | None, str | None, bytes | None]:
    """`Origin`, `If-None-Match` and `X-Request-ID` of a request."""
    origin = known = request = None
    for name, value in scope["headers"]:
        if name == b"origin":
            origin = value.decode("latin-1")
        elif name == b"if-none-match":
            known = value.decode("latin-1")
        elif name == HEADER_NAME:
            request = value
    return origin, known, request


def _address(match: re.Match[str], scope: Scope) -> Address:
    return match[1], match[2], match[6], scope["query_string"]
