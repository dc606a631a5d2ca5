"""One image of a mosaic as its list names it, before it has been looked at."""

from __future__ import annotations

from dataclasses import dataclass

Transform = tuple[float, float, float, float, float, float]
"""(column, row) → (x, y), as `affine.Affine` takes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where an image lies and how large it is."""

    crs: str
    """As WKT."""
    transform: Transform
    width_px: int
    height_px: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One image of a list."""

    location: str
    """A path, or an http(s) or s3 URL."""
    version: str | None = None
    """The image's version, as `landcover.scene.current_version` would say it, where a bucket's listing told it."""
    stated: str | None = None
    """What STAC says of the image's version. Counts for the mosaic's; nothing that is read can be compared with it."""
    placement: Placement | None = None
    """What the list says of its place; believed until the image is first read, then compared."""
