"""Documents and listings of files, folders, http(s) and s3: all that is read of a mosaic except its images."""

from __future__ import annotations

import fnmatch
import gzip
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError as StoreError
from obstore.store import HTTPStore, from_url

from landcover import s3
from landcover.errors import SceneTooSlow, SceneUnreadable, SceneUnsupported
from landcover.scene import REMOTE_SCHEMES, SceneSource, public_location, version_token
from landcover.settings import ReadSettings

MAX_DOCUMENT_BYTES = 512 << 20
"""Largest list of images that is read; 10⁵ STAC items are about 200 MB of JSON, 10 MB of GeoParquet."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file that lists images."""

    content: bytes
    version: str
    """Changes whenever the file does."""


def is_remote(location: str) -> bool:
    """Whether `location` lies behind a URL."""
    return urlsplit(location).scheme in REMOTE_SCHEMES


def shown(location: str) -> str:
    """`location` as clients and logs may see it: no query, no credentials, no folder."""
    return public_location(SceneSource(id="location", location=location))


def document_version(location: str, settings: ReadSettings) -> str:
    """The version of the document at `location`, without reading it.

    Raises:
        SceneUnreadable: it is not there.
        SceneTooSlow: its server does not answer in time.
    """
    from landcover.geotiff.header import version

    return version(SceneSource(id="document", location=location), settings)


def read_document(location: str, settings: ReadSettings) -> bytes:
    """The content of the document at `location`; gunzipped if it ends in `.gz`.

    Raises:
        SceneUnreadable: it is not there.
        SceneUnsupported: it is too long.
        SceneTooSlow: its server does not answer in time.
    """
    if is_remote(location):
        content = _fetch(location, settings)
    else:
        try:
            _refuse_long(location, Path(location).stat().st_size)
            content = Path(location).read_bytes()
        except OSError as error:
            raise SceneUnreadable(f"{shown(location)} cannot be read: {error.strerror or error}.") from error
    return _gunzip(location, content) if urlsplit(location).path.endswith(".gz") else content


def list_s3(location: str, suffixes: frozenset[str], settings: ReadSettings) -> Iterator[tuple[str, str]]:
    """(URL, version) of the images under `s3://bucket/prefix/` or those that match `s3://bucket/prefix/*.tif`.

    By name. The version is what `landcover.scene.current_version` would say of the object: one listing of a
    thousand objects stands for a thousand requests.

    Raises:
        SceneUnreadable, SceneTooSlow: the bucket cannot be listed.
    """
    url = urlsplit(location)
    pattern = url.path.lstrip("/")
    wild = has_wildcard(pattern)
    fixed = pattern[: min((pattern.index(char) for char in "*?[" if char in pattern), default=len(pattern))]
    folder = fixed.rpartition("/")[0] if wild else pattern.rstrip("/")
    begin = time.monotonic()
    found: list[tuple[str, str]] = []
    try:
        for batch in _bucket(url.netloc, settings).list(folder or None, chunk_size=1000):
            for each in batch:
                key = each["path"]
                if wild:
                    fits = fnmatch.fnmatchcase(key, pattern) and ("**" in pattern or _same_depth(key, pattern))
                else:
                    fits = key.rpartition("/")[0] == folder
                if fits and is_image(key, suffixes):
                    seconds = each["last_modified"].replace(microsecond=0)
                    version = version_token(each["e_tag"] or "", each["size"], seconds)
                    found.append((f"s3://{url.netloc}/{key}", version))
            begin = time.monotonic()
    except (StoreError, OSError, ValueError):
        raise _failed(location, begin, settings, "the bucket's name, and AWS_* in the environment") from None
    yield from sorted(found)


def list_folder(folder: Path, suffixes: frozenset[str]) -> list[str]:
    """Paths of a folder's images, by name.

    Raises:
        SceneUnreadable: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if is_image(entry.name, suffixes))
    except OSError as error:
        raise SceneUnreadable(f"{folder.name} cannot be listed: {error.strerror or error}.") from error


def is_image(name: str, suffixes: frozenset[str]) -> bool:
    """Whether a file is an image by its name; hidden ones are files being written."""
    base = name.rpartition("/")[2]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in suffixes  # noqa: PTH122 - 10⁵ of them


def has_wildcard(location: str) -> bool:
    """Whether `location` stands for several files."""
    return any(char in location for char in "*?[")


def _same_depth(key: str, pattern: str) -> bool:
    return key.count("/") == pattern.count("/")


def _fetch(location: str, settings: ReadSettings) -> bytes:
    url = urlsplit(location)
    begin = time.monotonic()
    try:
        if url.scheme == "s3":
            store, path = _bucket(url.netloc, settings), url.path.lstrip("/")
        else:
            store, path = HTTPStore.from_url(location, **_options(settings)), ""
        answer = store.get(path)
        _refuse_long(location, answer.meta["size"])
        content = bytearray()
        for chunk in answer.stream():
            content += chunk
            _refuse_long(location, len(content))
            begin = time.monotonic()
        return bytes(content)
    except (StoreError, OSError, ValueError):
        raise _failed(location, begin, settings, "the address and the permissions") from None


def _failed(location: str, begin: float, settings: ReadSettings, what: str) -> SceneTooSlow | SceneUnreadable:
    if time.monotonic() - begin >= settings.timeout_s * 0.95:
        return SceneTooSlow(f"{shown(location)} did not answer within {settings.timeout_s:g} s.")
    return SceneUnreadable(f"{shown(location)} cannot be read: its server did not give it; check {what}.")


def _bucket(name: str, settings: ReadSettings) -> Any:
    return from_url(f"s3://{name}", **_options(settings), **s3.store_options())


def _options(settings: ReadSettings) -> dict[str, Any]:
    return {
        "client_options": {"timeout": timedelta(seconds=settings.timeout_s), "allow_http": True},
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=settings.timeout_s)},
    }


def _gunzip(location: str, content: bytes) -> bytes:
    import io

    try:
        with gzip.open(io.BytesIO(content)) as file:
            plain = file.read(MAX_DOCUMENT_BYTES + 1)
    except (OSError, EOFError) as error:
        raise SceneUnreadable(f"{shown(location)} is no gzip file, or not a whole one.") from error
    _refuse_long(location, len(plain))
    return plain


def _refuse_long(location: str, size: int) -> None:
    if size > MAX_DOCUMENT_BYTES:
        raise SceneUnsupported(f"{shown(location)} is longer than {MAX_DOCUMENT_BYTES >> 20} MiB.")
