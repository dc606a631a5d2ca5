"""Which images a mosaic consists of: what its location names, resolved to paths and URLs.

A location is a folder, a pattern (`tiles/**/*.tif`), a list of either in a catalogue or a text file, a MosaicJSON, a
STAC document or a stac-geoparquet file. Workers resolve it themselves, so a task stays small however many images there
are; a list in a catalogue is named `catalogue.yaml#scene=id`.
"""

from __future__ import annotations

import glob
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import yaml

from landcover.errors import InvalidConfiguration, SceneUnsupported
from landcover.mosaic import mosaicjson, stac
from landcover.mosaic.entries import Entry
from landcover.mosaic.stores import (
    document_version,
    has_wildcard,
    is_image,
    is_remote,
    list_folder,
    list_s3,
    read_document,
    shown,
)
from landcover.settings import ReadSettings

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".gtiff"})
_FETCHING_THREADS = 16
LIST_MARK = "#scene="
"""Between a catalogue's path and the id of its entry whose list is meant."""

_Key = tuple[str, str, str | None, str]
_documents: OrderedDict[_Key, tuple[Entry, ...]] = OrderedDict()
_documents_lock = threading.Lock()
_REMEMBERED_DOCUMENTS = 8


def list_entries(location: str, asset: str | None, settings: ReadSettings) -> tuple[Entry, ...]:
    """The images of the mosaic at `location`, in the order of its list, each once.

    A document is read again only when it has changed; what it links to counts as part of it.

    Raises:
        InvalidConfiguration: there is no image.
        SceneUnreadable, SceneTooSlow: a folder, a bucket or a document cannot be read.
        SceneUnsupported: a document is none of those that name images.
    """
    path, _, scene = location.partition(LIST_MARK)
    if _is_document(path):
        found = _document(path, scene, asset, settings)
        if _is_plain_list(path):
            found = _once(entry for each in found for entry in _expand(each.location, settings))
    else:
        found = tuple(_expand(location, settings))
    if not found:
        raise InvalidConfiguration(f"There is no GeoTIFF (.tif, .tiff) in {shown(location)}.")
    return found


def _is_document(path: str) -> bool:
    name = urlsplit(path).path if is_remote(path) else path
    if has_wildcard(path) and (is_remote(path) or not Path(path).exists()):
        return False
    return name.lower().endswith((".json", ".geojson", ".json.gz", ".parquet", ".geoparquet", ".txt", ".yaml", ".yml"))


def _is_plain_list(path: str) -> bool:
    return urlsplit(path).path.lower().endswith((".txt", ".yaml", ".yml"))


def _expand(location: str, settings: ReadSettings) -> Iterator[Entry]:
    """The images that one folder, pattern, path or URL stands for."""
    if is_remote(location):
        path = urlsplit(location).path
        if urlsplit(location).scheme == "s3" and (has_wildcard(path) or not is_image(path, IMAGE_SUFFIXES)):
            yield from (Entry(location=url, version=version) for url, version in _s3(location, settings))
        else:
            yield Entry(location=location)
    elif Path(location).is_dir():
        yield from (Entry(location=path) for path in list_folder(Path(location), IMAGE_SUFFIXES))
    elif has_wildcard(location) and not Path(location).exists():
        found = glob.glob(location, recursive=True)  # noqa: PTH207 - pathlib's takes no absolute patterns
        yield from (Entry(location=path) for path in sorted(found) if is_image(path, IMAGE_SUFFIXES))
    else:
        yield Entry(location=location)


def _s3(location: str, settings: ReadSettings) -> Iterator[tuple[str, str]]:
    return list_s3(location, IMAGE_SUFFIXES, settings)


def _document(path: str, scene: str, asset: str | None, settings: ReadSettings) -> tuple[Entry, ...]:
    """The images that a document names; its own version stands for what it links to, too."""
    key = path, scene, asset, document_version(path, settings)
    with _documents_lock:
        if key in _documents:
            _documents.move_to_end(key)
            return _documents[key]
    found = _read_document(path, scene, asset, settings)
    with _documents_lock:
        _documents[key] = found
        while len(_documents) > _REMEMBERED_DOCUMENTS:
            _documents.popitem(last=False)
    return found


def _read_document(path: str, scene: str, asset: str | None, settings: ReadSettings) -> tuple[Entry, ...]:
    resolve = partial(_resolve, remote=is_remote(path))
    kind = urlsplit(path).path.lower()
    try:
        if kind.endswith((".parquet", ".geoparquet")):
            return _once(stac.parquet_entries(read_document(path, settings), path, asset, resolve))
        content = read_document(path, settings).decode("utf-8")
        if kind.endswith(".txt"):
            return _listed(_lines(content), path, resolve)
        if kind.endswith((".yaml", ".yml")):
            return _listed(_images_of(yaml.safe_load(content), scene), path, resolve)
        document = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SceneUnsupported(f"{shown(path)} cannot be read as what its name says it is: {error}.") from error
    if mosaicjson.is_mosaicjson(document):
        return _once(mosaicjson.entries(document, partial(resolve, path), shown(path)))
    if stac.is_stac(document):
        fetch: Callable[[list[str]], list[Any]] = partial(_fetch_json, settings=settings)
        return _once(stac.entries(document, path, asset, fetch, resolve))
    raise SceneUnsupported(
        f"{shown(path)} lists no images: it is neither MosaicJSON nor a STAC Item, ItemCollection, Catalog or "
        "Collection."
    )


def _lines(content: str) -> list[str]:
    lines = (line.strip() for line in content.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _images_of(catalogue: Any, scene: str) -> list[str]:
    """The list of images in a catalogue's entry.

    Raises:
        InvalidConfiguration: the entry is no longer there, or no longer has a list.
    """
    scenes = catalogue.get("scenes") if isinstance(catalogue, dict) else None
    for entry in scenes if isinstance(scenes, list) else ():
        if isinstance(entry, dict) and entry.get("id") == scene:
            images = entry.get("mosaic")
            images = images.get("images") if isinstance(images, dict) else images
            if isinstance(images, list) and all(isinstance(each, str) and each for each in images):
                return images
    raise InvalidConfiguration(f"The catalogue has no entry '{scene}' whose `mosaic:` is a list of images.")


def _listed(locations: list[str], base: str, resolve: Callable[[str, str], str]) -> tuple[Entry, ...]:
    """Lines as they are: what folders and patterns among them stand for changes without the list."""
    return _once(Entry(location=resolve(base, each)) for each in locations)


def _once(found: Iterable[Entry]) -> tuple[Entry, ...]:
    """Each image once, where it is first named."""
    entries: dict[str, Entry] = {}
    for entry in found:
        entries.setdefault(entry.location, entry)
    return tuple(entries.values())


def _resolve(base: str, href: str, *, remote: bool) -> str:
    """`href` as it is meant in the document at `base`.

    Raises:
        SceneUnsupported: a document from elsewhere names a file of this machine.
    """
    if is_remote(href):
        return href
    scheme = urlsplit(href).scheme
    if remote:
        if scheme or href.startswith("/vsi"):
            raise SceneUnsupported(
                f"{shown(base)} names '{shown(href)}', which is neither beside it nor http(s) nor s3."
            )
        joined = urljoin(base.replace("s3://", "http://", 1), href)
        return joined.replace("http://", "s3://", 1) if base.startswith("s3://") else joined
    if scheme == "file":
        href = unquote(urlsplit(href).path)
    return os.path.normpath(Path(base).absolute().parent / Path(href).expanduser())


def _fetch_json(locations: list[str], *, settings: ReadSettings) -> list[Any]:
    def fetch(location: str) -> Any:
        try:
            return json.loads(read_document(location, settings))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise SceneUnsupported(f"{shown(location)} is no JSON: {error}.") from error

    with ThreadPoolExecutor(_FETCHING_THREADS) as pool:
        return list(pool.map(fetch, locations))
