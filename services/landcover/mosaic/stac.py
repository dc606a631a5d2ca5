"""The images that STAC names: Items, ItemCollections, Catalogs and Collections, and stac-geoparquet.

The projection extension's fields (`proj:code`, `proj:transform`, `proj:shape`) place an image without opening it; they
count only where all three are there, of the asset or else of the item.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from landcover.errors import InvalidConfiguration, SceneUnsupported
from landcover.mosaic.entries import Entry, Placement
from landcover.mosaic.stores import shown
from landcover.scene import version_token

_NO_IMAGE = frozenset({"thumbnail", "overview", "metadata", "data-mask", "tilejson", "xyz"})
"""Roles of assets that are no scene, even if they are GeoTIFFs."""

_MAX_DOCUMENTS = 200_000
"""Of one catalogue; a chain of links may lead anywhere."""

Fetch = Callable[[list[str]], list[Any]]
"""Reads the JSON documents at some locations."""
Resolve = Callable[[str, str], str]
"""(base, href) → location."""


def is_stac(document: Any) -> bool:
    """Whether a JSON document is an Item, an ItemCollection, a Catalog or a Collection."""
    if not isinstance(document, dict):
        return False
    kind = document.get("type")
    if kind == "Feature":
        return isinstance(document.get("assets"), dict)
    return (kind == "FeatureCollection" and isinstance(document.get("features"), list)) or kind in {
        "Catalog",
        "Collection",
    }


def entries(document: dict[str, Any], base: str, asset: str | None, fetch: Fetch, resolve: Resolve) -> Iterator[Entry]:
    """The images of a STAC document at `base`, those behind its links (`item`, `child`, `next`) included.

    Raises:
        SceneUnsupported: an item has no image, or several and `asset` does not say which.
        SceneUnreadable, SceneTooSlow: a linked document cannot be read.
    """
    todo, seen = [(document, base)], {base}
    while todo:
        page, place = todo.pop()
        if not is_stac(page):
            raise SceneUnsupported(f"A link of the catalogue leads to {shown(place)}, which is no STAC document.")
        items = page["features"] if page["type"] == "FeatureCollection" else [page] if page["type"] == "Feature" else []
        for item in items:
            yield entry(item, place, asset, resolve)
        relations = {"Catalog": ("item", "child"), "Collection": ("item", "child"), "FeatureCollection": ("next",)}
        wanted = relations.get(page["type"], ())
        links = [link for link in page.get("links") or () if isinstance(link, dict) and link.get("rel") in wanted]
        targets = dict.fromkeys(resolve(place, str(link.get("href"))) for link in links)
        fresh = [target for target in targets if target not in seen]
        seen.update(fresh)
        if len(seen) > _MAX_DOCUMENTS:
            raise SceneUnsupported(f"The catalogue has more than {_MAX_DOCUMENTS} documents.")
        todo.extend(reversed(list(zip(fetch(fresh), fresh, strict=True))))  # a stack: the first link comes first


def parquet_entries(content: bytes, base: str, asset: str | None, resolve: Resolve) -> Iterator[Entry]:
    """The images of a stac-geoparquet file.

    Raises:
        InvalidConfiguration: pyarrow is not installed.
        SceneUnsupported: it is no stac-geoparquet, or an item has no image, or several.
    """
    try:
        import pyarrow
        import pyarrow.parquet as pq
    except ImportError:
        raise InvalidConfiguration(
            "Reading stac-geoparquet needs pyarrow: pip install 'landcover-tiles[parquet]'."
        ) from None
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        columns = [
            name
            for name in file.schema_arrow.names
            if name in {"id", "assets", "updated", "properties"} or name.startswith("proj:")
        ]
        if "assets" not in columns:
            raise SceneUnsupported(f"{shown(base)} is no stac-geoparquet file: it has no column `assets`.")
        for batch in file.iter_batches(batch_size=4096, columns=columns):
            for row in batch.to_pylist():
                properties = row.get("properties") or {key: row[key] for key in row if key not in {"id", "assets"}}
                yield entry(
                    {"id": row.get("id"), "assets": row["assets"], "properties": properties}, base, asset, resolve
                )
    except pyarrow.ArrowException as error:
        raise SceneUnsupported(f"{shown(base)} is no Parquet file, or not a whole one.") from error


def entry(item: Any, base: str, key: str | None, resolve: Resolve) -> Entry:
    """The image of one Item.

    Raises:
        SceneUnsupported: it has none, or several and `key` does not say which.
    """
    name = item.get("id") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(item.get("assets"), dict):
        raise SceneUnsupported(f"STAC item {name!r} has no assets.")
    assets = {each: value for each, value in item["assets"].items() if isinstance(value, dict) and value.get("href")}
    images = [each for each, value in assets.items() if _is_image(value)]
    if key is None:
        key = "visual" if "visual" in images else images[0] if len(images) == 1 else None
    if key not in assets:
        choice = ", ".join(images) or "none"
        raise SceneUnsupported(
            f"Which asset of STAC item {name!r} is the image? Say so in a catalogue (`asset: KEY`); "
            f"its GeoTIFFs are: {choice}."
        )
    fields = (item.get("properties") or {}) | {
        field: value for field, value in assets[key].items() if value is not None
    }
    stated = [fields.get(field) for field in ("updated", "file:checksum", "file:size")]
    return Entry(
        location=resolve(base, str(assets[key]["href"])),
        stated=version_token(*stated) if any(stated) else None,
        placement=_placement(fields),
    )


def _is_image(asset: dict[str, Any]) -> bool:
    if _NO_IMAGE.intersection(asset.get("roles") or ()):
        return False
    media, path = str(asset.get("type") or ""), str(asset["href"]).partition("?")[0].lower()
    return media.startswith("image/tiff") or (not media and path.endswith((".tif", ".tiff")))


def _placement(fields: dict[str, Any]) -> Placement | None:
    """What the projection extension says; None where it does not say all, or nothing sensible."""
    crs = fields.get("proj:code") or fields.get("proj:epsg") or fields.get("proj:wkt2") or fields.get("proj:projjson")
    transform, shape = fields.get("proj:transform"), fields.get("proj:shape")
    if not (crs and transform and shape):
        return None
    try:
        height, width = (int(side) for side in shape)
        numbers = Affine(*(float(number) for number in transform[:6]))
        if min(height, width) < 1 or numbers.is_degenerate:
            return None
        return Placement(crs=_wkt(crs), transform=tuple(numbers[:6]), width_px=width, height_px=height)
    except (TypeError, ValueError, CRSError):
        return None


def _wkt(crs: Any) -> str:
    return _wkt_of(crs if isinstance(crs, str | int) else json.dumps(crs))


@lru_cache(maxsize=256)
def _wkt_of(text: str | int) -> str:
    wkt: str = CRS.from_user_input(text).to_wkt()
    return wkt
