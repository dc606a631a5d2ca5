"""How long browsers and CDNs may keep a land-cover tile, and what they hold against it when they ask again.

What a finished tile shows follows from its address, the image's version and the model. The addresses that TileJSON and
WMTS give out carry a token of these two (`v=`), so that what lies there can never change and is kept for ever;
a new image or model has new addresses. An address without a token shows what is current and is kept for a limited time.
One with another token (an old one, or a new one at a process that does not know of it yet) shows the same, and is
always asked for anew, as are the documents that name the token.
"""

from __future__ import annotations

import hashlib

from landcover.grid import GRID_VERSION
from landcover_api.cover import LandCover
from landcover_api.rendering import RENDER_VERSION

FOR_EVER = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"


def version_token(cover: LandCover) -> str:
    """Names what finished tiles of `cover` are made of; another image, model or way to draw has another."""
    made_of = f"g{GRID_VERSION}:r{RENDER_VERSION}:{cover.scene.version}:{cover.model.digest}"
    return hashlib.blake2b(made_of.encode(), digest_size=6).hexdigest()


def finished(cover: LandCover, token: str | None, max_age_s: int) -> str:
    """`Cache-Control` of a finished tile of `cover` that was asked for with `token`."""
    if token is None:
        return f"public, max-age={max_age_s}"
    return FOR_EVER if token == version_token(cover) else REVALIDATE


def etag(key: str) -> str:
    """The ETag of the tile under `key`: what a finished tile shows follows from its key alone.

    Weak, since two kinds of processor may round a network's doubt differently.
    """
    return f'W/"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names `tag` (RFC 9110, weak comparison). Not `*`: that asks what is there."""
    if if_none_match is None:
        return False
    return tag.removeprefix("W/") in {each.removeprefix("W/") for each in entity_tags(if_none_match)}


def entity_tags(header: str) -> set[str]:
    """Those that `If-Match` or `If-None-Match` names."""
    return {each.strip() for each in header.split(",")}
