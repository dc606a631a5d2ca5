"""What the images of a mosaic say of themselves: read once by many threads, then kept in a file by version.

A header costs about a millisecond from a disk, and one or two requests from elsewhere: for 10⁵ images minutes that no
process should spend again. An image that has changed is the only one read anew.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import zstandard

from landcover.atomic import atomic_path
from landcover.geotiff import header
from landcover.mosaic.entries import Placement
from landcover.scene import SceneSource, version_token
from landcover.settings import ReadSettings

logger = logging.getLogger(__name__)

_LOCAL_THREADS = 4
_REMOTE_THREADS = 32
_LOG_EVERY_S = 5.0
_FORMAT = 1
"""Of the file of headers: raise it when one must not be read any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """One image's."""

    placement: Placement
    bands: tuple[int, int, int]
    dtype: str
    overviews: tuple[int, ...]
    """Decimation factors."""


def read_headers(
    name: str, sources: Sequence[SceneSource], versions: Sequence[str], settings: ReadSettings
) -> list[Header]:
    """The headers of `sources`, whose versions are `versions`; `name` is the mosaic's, for its file and the log.

    Raises:
        SceneUnreadable, SceneTooSlow, SceneUnsupported: one of them cannot be used; the message names it.
    """
    file = settings.index_folder / f"{version_token(name, sources[0].bands, sources[0].rescale)}.{_FORMAT}.json.zst"
    known = _load(file)
    # Hashed, since addresses may be signed.
    keys = [version_token(source.location, version) for source, version in zip(sources, versions, strict=True)]
    missing = [i for i, key in enumerate(keys) if key not in known]
    if missing:
        threads = _REMOTE_THREADS if sources[missing[0]].is_remote else _LOCAL_THREADS
        begin = said = time.monotonic()
        pool = ThreadPoolExecutor(threads, "headers")
        try:
            found = pool.map(lambda i: _read(sources[i], versions[i], settings), missing)
            for done, (i, found_header) in enumerate(zip(missing, found, strict=True), start=1):
                known[keys[i]] = found_header
                if time.monotonic() - said >= _LOG_EVERY_S:
                    said = time.monotonic()
                    logger.info("%s: read the headers of %d of %d images", name, done, len(missing))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        logger.info("%s: read %d headers in %.1f s", name, len(missing), time.monotonic() - begin)
        _save(file, {key: known[key] for key in keys})
    return [known[key] for key in keys]


def read_header(source: SceneSource, version: str, settings: ReadSettings) -> Header:
    """One image's header.

    Raises:
        SceneUnreadable, SceneTooSlow, SceneUnsupported: it cannot be used.
    """
    return _read(source, version, settings)


def _read(source: SceneSource, version: str, settings: ReadSettings) -> Header:
    scene = header.describe(source, version, settings)
    a, b, c, d, e, f = scene.transform[:6]
    return Header(
        placement=Placement(
            crs=scene.crs, transform=(a, b, c, d, e, f), width_px=scene.width_px, height_px=scene.height_px
        ),
        bands=scene.bands,
        dtype=scene.dtype,
        overviews=scene.overviews,
    )


def _load(file: Path) -> dict[str, Header]:
    try:
        document = json.loads(zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read())
        systems = document["crs"]
        return {
            key: Header(
                placement=Placement(crs=systems[crs], transform=tuple(transform), width_px=width, height_px=height),
                bands=tuple(bands),
                dtype=dtype,
                overviews=tuple(overviews),
            )
            for key, (crs, transform, width, height, bands, dtype, overviews) in document["headers"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, zstandard.ZstdError) as error:
        logger.warning("the file of headers %s cannot be used and is made again: %s", file, error)
        return {}


def _save(file: Path, headers: dict[str, Header]) -> None:
    systems: dict[str, int] = {}
    rows = {}
    for key, each in headers.items():
        place = each.placement
        crs = systems.setdefault(place.crs, len(systems))
        rows[key] = crs, place.transform, place.width_px, place.height_px, each.bands, each.dtype, each.overviews
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = json.dumps({"crs": list(systems), "headers": rows}).encode()
        with atomic_path(file) as temporary:
            temporary.write_bytes(zstandard.ZstdCompressor().compress(content))
    except OSError as error:
        logger.warning("headers are not kept in %s, and will be read again: %s", file, error)
