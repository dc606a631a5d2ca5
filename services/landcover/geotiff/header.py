"""A GeoTIFF's version and header, and whether it is fit for a network: judged before any pixel is read."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from obstore.exceptions import BaseError as StoreError
from obstore.store import HTTPStore, from_url
from rasterio.enums import ColorInterp

from landcover import s3
from landcover.errors import SceneTooSlow, SceneUnreadable, SceneUnsupported
from landcover.geotiff.opening import open_image, took_too_long
from landcover.scene import Scene, SceneSource, place, public_location, version_token
from landcover.settings import ReadSettings

_SIDECARS = (".ovr", ".msk")
"""Files beside a local image from which GDAL takes overviews and the mask."""


def version(source: SceneSource, settings: ReadSettings) -> str:
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
        return version_token(*parts)
    url = urlsplit(source.location)
    begin = time.monotonic()
    try:
        options: dict[str, Any] = {
            "client_options": {"timeout": timedelta(seconds=settings.timeout_s), "allow_http": True},
            "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=settings.timeout_s)},
        }
        if url.scheme == "s3":
            store, path = from_url(f"s3://{url.netloc}", **options, **s3.store_options()), url.path.lstrip("/")
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
    return version_token(head.get("e_tag") or "", head["size"], head.get("last_modified") or "")


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
        bounds, gsd_m = place(source, crs, transform, width, height)
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
