"""A mosaic's version, and the mosaic itself: its images listed, their headers read, laid out on one grid."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rasterio.crs import CRS

from landcover.errors import SceneChanged, SceneUnsupported
from landcover.geotiff import header
from landcover.mosaic.entries import Entry
from landcover.mosaic.headers import Header, read_headers
from landcover.mosaic.layout import common_overviews, lay_out
from landcover.mosaic.listing import list_entries
from landcover.mosaic.mosaic import MosaicScene, image_source
from landcover.mosaic.options import MosaicOptions
from landcover.mosaic.stores import is_remote, shown
from landcover.scene import SceneSource, place
from landcover.settings import ReadSettings

ASKED_ONE_BY_ONE = 256
"""So many remote images are asked for their versions; of more, the version of their list is believed."""

_ASKING_THREADS = 16
_LEAST_AGE_S = 1.0
_AGE_PER_COST = 20
_MOST_AGE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """What a mosaic consisted of at one time."""

    entries: Sequence[Entry]
    versions: Sequence[str]
    """Of each image, as `landcover.scene.current_version` would say; empty where only its list is known."""
    version: str
    good_until: float
    """Monotonic."""


_listings: dict[SceneSource, _Listing] = {}
_lock = threading.Lock()


def version(source: SceneSource, settings: ReadSettings) -> str:
    """The version of a mosaic: of its options, and of each image's location and version, in order.

    The last answer is good for twenty times as long as it took to find, at least one second and at most thirty:
    looking at 10⁵ files takes about a second.

    Raises:
        InvalidConfiguration: it has no images.
        SceneUnreadable, SceneTooSlow: its list, or one of its images, is not there.
        SceneUnsupported: its list is none.
    """
    return _listing(source, settings).version


def describe(source: SceneSource, version: str, settings: ReadSettings) -> MosaicScene:
    """Read the headers of a mosaic's images, whose version is `version`, and lay them out on one grid.

    Raises:
        SceneChanged: its version is another by now.
        SceneUnreadable, SceneTooSlow: one of the images cannot be opened; the message names it.
        SceneUnsupported: one cannot be used, or not together with the others.
    """
    known = _listing(source, settings)
    if known.version != version:
        known = _look(source, settings)
    if known.version != version:
        raise SceneChanged(f"Mosaic '{source.id}' has changed; ask again for its new version.")
    options = _options(source)
    entries, versions = (
        (known.entries, known.versions) if options.order == "first" else (known.entries[::-1], known.versions[::-1])
    )
    headers = _headers(source, entries, versions, version, settings)
    _refuse_mixed(entries, headers)
    places = [each.placement if each else entry.placement for each, entry in zip(headers, entries, strict=True)]
    layout = lay_out(
        [each for each in places if each is not None],
        [shown(entry.location) for entry in entries],
        crs=options.crs,
        resolution=options.resolution,
    )
    known_headers = [each for each in headers if each is not None]
    overviews = _interned(each.overviews if each else () for each in headers)
    bounds, gsd_m = place(source, layout.crs, layout.transform, layout.width_px, layout.height_px)
    crs = CRS.from_wkt(layout.crs)
    return MosaicScene(
        source=source,
        version=version,
        crs=layout.crs,
        crs_name=crs.to_string() if crs.to_epsg() else "custom",
        transform=layout.transform,
        width_px=layout.width_px,
        height_px=layout.height_px,
        bands=known_headers[0].bands,
        dtype=known_headers[0].dtype,
        overviews=common_overviews(layout, overviews),
        gsd_m=gsd_m,
        bounds_wgs84=bounds,
        layout=layout,
        locations=[entry.location for entry in entries],
        versions=versions,
        image_overviews=overviews,
        declared={i: entry.placement for i, entry in enumerate(entries) if headers[i] is None and entry.placement},
    )


def forget(source: SceneSource) -> None:
    """Look at the images anew when the mosaic's version is next asked for: one was found replaced."""
    _listings.pop(source, None)


def _listing(source: SceneSource, settings: ReadSettings) -> _Listing:
    known = _listings.get(source)
    return known if known is not None and time.monotonic() <= known.good_until else _look(source, settings)


def _look(source: SceneSource, settings: ReadSettings) -> _Listing:
    begin = time.monotonic()
    options = _options(source)
    entries = list_entries(source.location, options.asset, settings)
    versions = _versions(source, entries, settings)
    digest = hashlib.sha256(repr((options.crs, options.resolution, options.order, options.asset)).encode())
    for entry, each in zip(entries, versions, strict=True):
        where = entry.placement
        lies = (where.transform, where.width_px, where.height_px) if where else ""
        digest.update(f"{entry.location}\n{each}\n{entry.stated or ''}\n{lies}\n".encode())
    now = time.monotonic()
    age_s = min(max(_LEAST_AGE_S, _AGE_PER_COST * (now - begin)), _MOST_AGE_S)
    listing = _Listing(entries=entries, versions=versions, version=digest.hexdigest()[:16], good_until=now + age_s)
    with _lock:
        _listings[source] = listing
    return listing


def _versions(source: SceneSource, entries: Sequence[Entry], settings: ReadSettings) -> list[str]:
    """The version of each image as it is now; "" of remote ones that are not asked."""
    remote = [i for i, entry in enumerate(entries) if is_remote(entry.location) and entry.version is None]
    versions = [entry.version or "" for entry in entries]

    def ask(i: int) -> None:
        versions[i] = header.version(image_source(source, entries[i].location), settings)

    for i, entry in enumerate(entries):
        if not is_remote(entry.location):
            ask(i)
    if remote and len(remote) <= ASKED_ONE_BY_ONE:
        with ThreadPoolExecutor(_ASKING_THREADS) as pool:
            list(pool.map(ask, remote))
    return versions


def _headers(
    source: SceneSource, entries: Sequence[Entry], versions: Sequence[str], version: str, settings: ReadSettings
) -> list[Header | None]:
    """The header of the first image and of each whose place the list does not say."""
    wanted = [i for i, entry in enumerate(entries) if i == 0 or entry.placement is None]
    found = read_headers(
        source.location,
        [image_source(source, entries[i].location) for i in wanted],
        [versions[i] or version for i in wanted],
        settings,
    )
    headers: list[Header | None] = [None] * len(entries)
    for i, each in zip(wanted, found, strict=True):
        headers[i] = each
    return headers


def _refuse_mixed(entries: Sequence[Entry], headers: Sequence[Header | None]) -> None:
    first = next(each for each in headers if each is not None)
    for entry, each in zip(entries, headers, strict=True):
        if each is not None and each.dtype != first.dtype:
            raise SceneUnsupported(
                f"{shown(entry.location)} is {each.dtype}, the mosaic's first image is {first.dtype}; "
                "serve them as different scenes, or make them alike with `gdal_translate -ot`."
            )


def _interned(values: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The same values, each kept once: 10⁵ images have few different ones."""
    kept: dict[tuple[int, ...], tuple[int, ...]] = {}
    return [kept.setdefault(value, value) for value in values]


def _options(source: SceneSource) -> MosaicOptions:
    if source.mosaic is None:
        raise TypeError(f"scene {source.id} is no mosaic")
    return source.mosaic
