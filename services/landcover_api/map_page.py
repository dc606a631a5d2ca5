"""The map page at `/` and its assets: files of this package, served from memory, from no other host.

The page is the folder `viewer/`: plain HTML, CSS and JavaScript modules, no build step. Its assets lie under
`/assets/{release}/…`, where *release* is a digest of all of them. So a browser may keep them for ever,
modules that import each other by relative address stay in one release, and the page itself, which a browser
revalidates each time, names the release it belongs to.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

from fastapi import APIRouter, HTTPException, Request, Response

from landcover_api.http_caching import FOR_EVER, REVALIDATE

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".txt": "text/plain; charset=utf-8",
    }
)
"""What is served, by suffix; other files of the folder are not. Written out because `mimetypes` reads the
operating system's tables, and a module with a wrong type does not run."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",  # MapLibre ≥ 6 starts its worker from a file beside it, not from a blob
        "style-src 'self'",
        "img-src 'self' data:",  # the icons in MapLibre's style sheet are data: addresses
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)

RELEASE_MARK = "{{release}}"
"""Stands for the release in `index.html`."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file of the page."""

    body: bytes
    media_type: str

    @cached_property
    def etag(self) -> str:
        """A strong validator: equal bytes, equal tag."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:24]}"'

    @cached_property
    def compressed(self) -> bytes:
        """The body as gzip; the same bytes each time."""
        return gzip.compress(self.body, compresslevel=6, mtime=0)


def read_assets(folder: Traversable, prefix: str = "") -> dict[str, Asset]:
    """Every servable file below `folder`, by its path in it."""
    assets: dict[str, Asset] = {}
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        path = prefix + entry.name
        if entry.is_dir():
            assets |= read_assets(entry, f"{path}/")
        elif media_type := MEDIA_TYPES.get(f".{entry.name.rpartition('.')[2]}"):
            assets[path] = Asset(body=entry.read_bytes(), media_type=media_type)
    return assets


def release_of(assets: Mapping[str, Asset]) -> str:
    """A digest of all names and bytes: changes with any of them."""
    digest = hashlib.sha256()
    for path in sorted(assets):
        digest.update(f"{path} {assets[path].etag}\n".encode())
    return digest.hexdigest()[:16]


def map_page_router() -> APIRouter:
    """`GET /` and `GET /assets/{release}/{path}`; the folder is read once, here."""
    assets = read_assets(files("landcover_api") / "viewer")
    release = release_of(assets)
    template = assets.pop("index.html")
    page = Asset(body=template.body.replace(RELEASE_MARK.encode(), release.encode()), media_type=template.media_type)
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def map_page(request: Request) -> Response:
        answer = _answer(page, request, cache_control=REVALIDATE)
        answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        answer.headers["Referrer-Policy"] = "same-origin"
        return answer

    @router.api_route("/assets/{asked}/{path:path}", methods=["GET", "HEAD"])
    async def asset(asked: str, path: str, request: Request) -> Response:
        if path not in assets:
            raise HTTPException(404, f"The map page has no asset '{path}'.")
        # While a new release rolls out, the page of one process may ask another process for its assets. It
        # gets that process's own file, which nobody may keep under the other release's name.
        return _answer(assets[path], request, cache_control=FOR_EVER if asked == release else REVALIDATE)

    return router


def _answer(asset: Asset, request: Request, *, cache_control: str) -> Response:
    """The asset, as gzip where the client takes it; or 304 where it has it already."""
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    etag = asset.etag if not zipped else f'{asset.etag[:-1]}-gzip"'
    headers = {
        "Cache-Control": cache_control,
        "ETag": etag,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in known:
        return Response(status_code=304, headers=headers)
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return Response(asset.compressed if zipped else asset.body, media_type=asset.media_type, headers=headers)
