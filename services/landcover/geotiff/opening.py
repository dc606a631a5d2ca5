"""Opening a GeoTIFF: GDAL's settings, names that GDAL has not cached, and limits on what is decoded."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from landcover import s3
from landcover.errors import SceneTooSlow, SceneUnreadable, SceneUnsupported
from landcover.scene import SceneSource, public_location
from landcover.settings import ReadSettings

_failures: Counter[str] = Counter()
"""How often each remote image could not be read, in this process; part of the name GDAL knows it by."""


def gdal_path(source: SceneSource) -> str:
    """The name under which GDAL opens the image."""
    scheme = urlsplit(source.location).scheme
    if scheme in ("http", "https"):
        return f"/vsicurl/{source.location}"
    return source.location.replace("s3://", "/vsis3/", 1) if scheme == "s3" else source.location


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
    name = gdal_path(source)
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


def failures_of(source: SceneSource) -> int:
    """How often a remote image has failed so far; what was read before the last time is not to be believed."""
    return _failures[source.location]


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
        } | s3.gdal_options()
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


def took_too_long(begin: float, settings: ReadSettings) -> bool:
    """Whether a request that began at `begin` (monotonic) and failed did so for want of an answer.

    Told by the clock: the libraries' messages for timeouts differ, and some speak of timeouts always.
    """
    return time.monotonic() - begin >= settings.timeout_s * 0.95
