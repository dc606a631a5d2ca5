"""A scene: one georeferenced RGB image, and what its header says of it.

Whether an image is fit for a network (bands, dtype, CRS, size) is decided here, once, before any pixel is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from affine import Affine
from obstore.exceptions import BaseError as StoreError
from obstore.store import HTTPStore, from_url
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pyproj.exceptions import ProjError
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from landcover.errors import SceneTooSlow, SceneUnreadable, SceneUnsupported
from landcover.geodesy import WGS84, ground_sample_distance_m, outline, transformer
from landcover.settings import ReadSettings

REMOTE_SCHEMES = frozenset({"http", "https", "s3"})

_SIDECARS = (".ovr", ".msk")
"""Files beside a local image from which GDAL takes overviews and the mask."""

_failures: Counter[str] = Counter()
"""How often each remote image could not be read, in this process; part of the name GDAL knows it by."""


class SceneSource(BaseModel):
    """What the operator says of an image: one entry of a catalogue, and what a task carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    location: Annotated[str, Field(min_length=1)]
    """A path, or an http(s) or s3 URL."""
    bands: tuple[int, int, int] | None = None
    """Red, green, blue, counted from 1. Needed for images that are not plain RGB or RGBA."""
    rescale: tuple[float, float] | None = None
    """Source values that become 0 and 255. Needed for images that are not uint8."""
    title: str | None = None
    attribution: str | None = None

    @model_validator(mode="after")
    def _sensible(self) -> SceneSource:
        if self.bands and min(self.bands) < 1:
            raise ValueError("bands are counted from 1")
        if self.rescale and not self.rescale[0] < self.rescale[1]:
            raise ValueError("rescale takes the smaller value first")
        return self

    @property
    def is_remote(self) -> bool:
        """Whether the image lies behind a URL."""
        return urlsplit(self.location).scheme in REMOTE_SCHEMES

    @property
    def gdal_path(self) -> str:
        """The name under which GDAL opens the image."""
        scheme = urlsplit(self.location).scheme
        if scheme in ("http", "https"):
            return f"/vsicurl/{self.location}"
        return self.location.replace("s3://", "/vsis3/", 1) if scheme == "s3" else self.location


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
    """Read and judge the header of `source`, whose current version is `version`.

    Raises:
        SceneUnreadable, SceneTooSlow: it cannot be opened.
        SceneUnsupported: it can, but a network cannot take it.
    """
    with open_image(source, settings, version=version) as image:
        bands = choose_bands(source, image)
        if image.crs is None or image.transform.is_identity:
            raise SceneUnsupported(
                f"{public_location(source)} has no georeference (CRS and geotransform); "
                "assign one, for example with `gdal_translate -a_srs … -a_ullr …`."
            )
        crs = image.crs.to_wkt()
        width, height, transform = image.width, image.height, image.transform
        try:
            bounds = _bounds_wgs84(source, crs, transform, width, height)
            gsd_m = ground_sample_distance_m(crs, transform, width, height)
        except ProjError as error:
            raise _nowhere(source) from error
        return Scene(
            source=source,
            version=version,
            crs=crs,
            crs_name=image.crs.to_string() if image.crs.to_epsg() else "custom",
            transform=transform,
            width_px=width,
            height_px=height,
            bands=bands,
            dtype=image.dtypes[bands[0] - 1],
            overviews=tuple(image.overviews(bands[0])),
            gsd_m=gsd_m,
            bounds_wgs84=bounds,
        )


def choose_bands(source: SceneSource, image: Any) -> tuple[int, int, int]:
    """Which bands are red, green and blue.

    Raises:
        SceneUnsupported: that cannot be told, or they are not uint8 and the catalogue gives no rescale.
    """
    bands = source.bands
    if bands is None:
        alpha = image.colorinterp[-1] == ColorInterp.alpha
        if not (image.count == 3 or (image.count == 4 and alpha)):
            kinds = ", ".join(each.name for each in image.colorinterp)
            raise SceneUnsupported(
                f"{public_location(source)} has {image.count} band(s) ({kinds}), neither RGB nor RGBA; "
                "say in a catalogue which are red, green and blue, for example `bands: [1, 2, 3]`."
            )
        bands = (1, 2, 3)
    if max(bands) > image.count:
        raise SceneUnsupported(f"{public_location(source)} has {image.count} band(s); there is no band {max(bands)}.")
    dtypes = {image.dtypes[band - 1] for band in bands}
    if dtypes != {"uint8"} and source.rescale is None:
        raise SceneUnsupported(
            f"{public_location(source)} is {'/'.join(sorted(dtypes))}, not uint8; say in a catalogue which values are "
            "black and white: `rescale: [low, high]`."
        )
    if any(np.dtype(each).kind == "c" for each in dtypes):
        raise SceneUnsupported(f"{public_location(source)} holds complex numbers, no image.")
    return bands


def current_version(source: SceneSource, settings: ReadSettings) -> str:
    """The version of the image as it is now: 16 hexadecimal digits.

    Raises:
        SceneUnreadable: it is not there.
        SceneTooSlow: its server does not answer in time.
    """
    if not source.is_remote:
        try:
            stat = os.stat(source.location)  # noqa: PTH116 - every warm tile asks: pathlib would cost ten times this
            parts: list[object] = [stat.st_size, stat.st_mtime_ns]
            for suffix in _SIDECARS:
                with contextlib.suppress(FileNotFoundError):
                    stat = os.stat(source.location + suffix)  # noqa: PTH116
                    parts += [suffix, stat.st_size, stat.st_mtime_ns]
        except OSError as error:
            raise SceneUnreadable(f"{public_location(source)} cannot be read: {error.strerror or error}.") from error
        return _token(*parts)
    url = urlsplit(source.location)
    begin = time.monotonic()
    try:
        options: dict[str, Any] = {
            "client_options": {"timeout": timedelta(seconds=settings.timeout_s), "allow_http": True},
            "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=settings.timeout_s)},
        }
        if url.scheme == "s3":
            store, path = from_url(f"s3://{url.netloc}", **options), url.path.lstrip("/")
        else:  # the whole address with its query, as it was given: it may be signed
            store, path = HTTPStore.from_url(source.location, **options), ""
        # One byte rather than HEAD, which addresses signed for GET refuse.
        head = store.get(path, options={"range": (0, 1)}).meta
    except (StoreError, OSError, ValueError):
        if took_too_long(begin, settings):
            raise SceneTooSlow(f"{public_location(source)} did not answer within {settings.timeout_s:g} s.") from None
        raise SceneUnreadable(
            f"{public_location(source)} cannot be read: its server did not give it; check the address and "
            "the permissions, and that it answers range requests."
        ) from None  # the cause would carry a signed address into the log
    return _token(head.get("e_tag") or "", head["size"], head.get("last_modified") or "")


def took_too_long(begin: float, settings: ReadSettings) -> bool:
    """Whether a request that began at `begin` (monotonic) and failed did so for want of an answer.

    Told by the clock: the libraries' messages for timeouts differ, and some speak of timeouts always.
    """
    return time.monotonic() - begin >= settings.timeout_s * 0.95


def public_location(source: SceneSource) -> str:
    """The location without query, user, password or folder: fit for clients (URLs may be signed)."""
    if not source.is_remote:
        return source.location.rpartition("/")[2]
    parts = urlsplit(source.location)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


@contextlib.contextmanager
def open_image(source: SceneSource, settings: ReadSettings, *, version: str = "", **options: Any) -> Iterator[Any]:
    """`source` opened by rasterio inside a GDAL environment; only GeoTIFFs, since VRTs reach other files.

    Raises:
        SceneUnreadable, SceneTooSlow: GDAL cannot open it.
        SceneUnsupported: reading it could exhaust memory.
    """
    with gdal_env(source, settings), open_dataset(source, settings, version=version, **options) as image:
        yield image


def open_dataset(source: SceneSource, settings: ReadSettings, *, version: str = "", **options: Any) -> Any:
    """Like `open_image`, for who is inside `gdal_env` already and closes the dataset himself.

    What GDAL has read of a URL it keeps for the life of the process, even that nothing was there. So each version
    of a remote image, and each new try after a failure, has its own name: a fragment, which no server is sent.
    """
    name = source.gdal_path
    if name.startswith("/vsicurl/"):
        name += f"#{version}.{_failures[source.location]}"
    begin = time.monotonic()
    try:
        image = rasterio.open(name, driver="GTiff", **options)
    except RasterioError as error:
        note_failure(source)
        if source.is_remote and took_too_long(begin, settings):
            raise SceneTooSlow(f"{public_location(source)} did not answer within {settings.timeout_s:g} s.") from error
        raise SceneUnreadable(
            f"{public_location(source)} cannot be opened as a GeoTIFF; is it one, and complete?"
        ) from error
    try:
        _refuse_oversized(source, image, settings)
    except BaseException:
        image.close()
        raise
    return image


def note_failure(source: SceneSource) -> None:
    """Have a remote image be fetched anew the next time: what came of it so far may be wrong."""
    if source.is_remote:
        _failures[source.location] += 1


def gdal_env(source: SceneSource, settings: ReadSettings) -> rasterio.Env:
    """GDAL's settings for reading `source`; an Env counts for one thread only, so each reader enters its own."""
    options: dict[str, Any] = {"GDAL_CACHEMAX": settings.gdal_cache_bytes, "GTIFF_IGNORE_READ_ERRORS": "NO"}
    if source.is_remote:
        options |= {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "GDAL_HTTP_TIMEOUT": settings.timeout_s,
            "GDAL_HTTP_CONNECTTIMEOUT": min(10.0, settings.timeout_s),
            "GDAL_HTTP_MAX_RETRY": 0,  # it would wait for each timeout again, past a worker's hard limit
            "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
            "GDAL_HTTP_MULTIPLEX": "YES",
            "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
            "VSI_CACHE": True,
            "CPL_VSIL_CURL_NON_CACHED": "/vsis3/",  # replaced objects; http has `open_dataset`'s names
        }
    return rasterio.Env(**options)


def _refuse_oversized(source: SceneSource, image: Any, settings: ReadSettings) -> None:
    """Refuse what would exhaust memory before a pixel of it is decoded."""
    where = public_location(source)
    if image.count > settings.max_bands:
        raise SceneUnsupported(f"{where} has {image.count} bands; at most {settings.max_bands} are read.")
    if max(image.width, image.height) > settings.max_side_px:
        raise SceneUnsupported(
            f"{where} is {image.width} × {image.height} px; at most {settings.max_side_px} px a side are read."
        )
    height, width = image.block_shapes[0]
    decoded = height * width * image.count * np.dtype(image.dtypes[0]).itemsize
    if decoded > settings.max_block_bytes:
        raise SceneUnsupported(
            f"{where} has internal tiles of {width} × {height} px ({decoded >> 20} MiB decoded, at most "
            f"{settings.max_block_bytes >> 20} are read); `gdal_translate -of COG IN OUT` makes a fit one."
        )


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


@lru_cache(maxsize=4096)
def _token(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]
