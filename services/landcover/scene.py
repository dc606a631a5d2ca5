"""A scene: one georeferenced RGB image, and what is known of it before any pixel is read.

How that is found out, and how pixels are read, differs by the kind of scene: see `landcover.kinds`.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import numpy as np
from affine import Affine
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pyproj.exceptions import ProjError

from landcover.errors import SceneUnsupported
from landcover.geodesy import WGS84, ground_sample_distance_m, outline, transformer
from landcover.mosaic.options import MosaicOptions
from landcover.settings import ReadSettings
from landcover.xyz.options import NEEDS, XyzOptions, check_template, is_template

REMOTE_SCHEMES = frozenset({"http", "https", "s3"})


class SceneSource(BaseModel):
    """What the operator says of an image: one entry of a catalogue, and what a task carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    location: Annotated[str, Field(min_length=1)]
    """A path, an http(s) or s3 URL, or a template of tiles' URLs."""
    bands: tuple[int, int, int] | None = None
    """Red, green, blue, counted from 1. Needed for images that are not plain RGB or RGBA."""
    rescale: tuple[float, float] | None = None
    """Source values that become 0 and 255. Needed for images that are not uint8."""
    title: str | None = None
    attribution: str | None = None
    xyz: XyzOptions | None = None
    """Of an XYZ imagery service, whose `location` is a template."""
    mosaic: MosaicOptions | None = None
    """Of many images as one scene, which `location` names."""

    @model_validator(mode="after")
    def _sensible(self) -> SceneSource:
        self._check_xyz()
        if self.bands and min(self.bands) < 1:
            raise ValueError("bands are counted from 1")
        if self.rescale and not self.rescale[0] < self.rescale[1]:
            raise ValueError("rescale takes the smaller value first")
        return self

    def _check_xyz(self) -> None:
        if self.xyz is None and is_template(self.location):
            raise ValueError(NEEDS)
        if self.xyz is not None:
            check_template(self.location)
            if self.bands or self.rescale:
                raise ValueError("tiles of an XYZ service are RGB of 8 bits; `bands` and `rescale` are of GeoTIFFs")

    @property
    def is_remote(self) -> bool:
        """Whether the image lies behind a URL."""
        return urlsplit(self.location).scheme in REMOTE_SCHEMES


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A scene whose header has been read and found fit. Compared by identity: a catalogue keeps one for a version."""

    source: SceneSource
    version: str
    """Changes whenever the image does: from the ETag, or size and modification time."""
    crs: str
    """As WKT."""
    crs_name: str
    """For people: `EPSG:…` where it has a code."""
    transform: Affine
    width_px: int
    height_px: int
    bands: tuple[int, int, int]
    dtype: str
    overviews: tuple[int, ...]
    """Decimation factors of the overviews in the file, in GDAL's order."""
    gsd_m: float
    """Ground sample distance at the centre."""
    bounds_wgs84: tuple[float, float, float, float]
    """West, south, east, north, degrees."""

    @property
    def id(self) -> str:
        """The catalogue's name for it."""
        return self.source.id


def describe(source: SceneSource, version: str, settings: ReadSettings) -> Scene:
    """Read and judge what `source`, whose current version is `version`, says of itself.

    Raises:
        SceneUnreadable, SceneTooSlow: it cannot be opened.
        SceneUnsupported: it can, but a network cannot take it.
    """
    from landcover.kinds import kind_of  # the kinds stand on this module

    return kind_of(source).describe(source, version, settings)


def current_version(source: SceneSource, settings: ReadSettings) -> str:
    """The version of the image as it is now: 16 hexadecimal digits.

    Raises:
        SceneUnreadable: it is not there.
        SceneTooSlow: its server does not answer in time.
    """
    from landcover.kinds import kind_of

    return kind_of(source).version(source, settings)


def public_location(source: SceneSource) -> str:
    """The location without query, user, password or folder: fit for clients (URLs may be signed)."""
    if not source.is_remote:
        return source.location.rpartition("/")[2]
    parts = urlsplit(source.location)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def place(
    source: SceneSource, crs: str, transform: Affine, width_px: int, height_px: int
) -> tuple[tuple[float, float, float, float], float]:
    """Where a raster lies: west, south, east, north in degrees, and its ground sample distance at the centre, m.

    Raises:
        SceneUnsupported: it lies where `crs` has no longitude and latitude.
    """
    try:
        bounds = _bounds_wgs84(source, crs, transform, width_px, height_px)
        return bounds, ground_sample_distance_m(crs, transform, width_px, height_px)
    except ProjError as error:
        raise _nowhere(source) from error


def scene_id(name: str) -> str:
    """An id from a file's name or a URL's path."""
    stem = Path(name).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:128] or "scene"


@lru_cache(maxsize=4096)
def version_token(*parts: object) -> str:
    """16 hexadecimal digits that change whenever a part does."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]


def _bounds_wgs84(
    source: SceneSource, crs: str, transform: Affine, width: int, height: int
) -> tuple[float, float, float, float]:
    cols, rows = outline(0, 0, width, height, segments=21)
    x, y = transform @ (cols, rows)
    lon, lat = transformer(crs, WGS84).transform(x, y)
    west, south, east, north = (float(v) for v in (np.min(lon), np.min(lat), np.max(lon), np.max(lat)))
    if not all(map(math.isfinite, (west, south, east, north))):
        raise _nowhere(source)
    jumps = np.abs(np.diff(lon, append=lon[0])) > 180
    if jumps.any() or west < -180 or east > 180:
        west, east = -180.0, 180.0  # across the antimeridian: TileJSON's bounds must not wrap
    if jumps.sum() % 2:  # round a pole
        south, north = (south, 90.0) if north > 0 else (-90.0, north)
    return west, south, east, north


def _nowhere(source: SceneSource) -> SceneUnsupported:
    return SceneUnsupported(f"{public_location(source)} lies where its CRS has no longitude and latitude.")
