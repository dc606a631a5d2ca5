"""The least a warm answer can cost: a bare Starlette endpoint that fetches bytes from the cache and returns them.

    python -m landcover_api.floor PORT      with LANDCOVER_CACHE_URL set; the path is a key

`landcover bench` compares warm tiles with it.
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from landcover.connections import connect_async
from landcover.settings import CacheSettings


def create_app() -> Starlette:
    """One route, one GET from the cache, nothing else."""
    cache = connect_async(CacheSettings().cache_url)

    async def answer(request: Request) -> Response:
        return Response(await cache.get(request.path_params["key"]), media_type="image/png")

    return Starlette(routes=[Route("/{key:path}", answer)])


if __name__ == "__main__":
    uvicorn.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
