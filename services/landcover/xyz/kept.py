"""Tiles as they came from the origin, kept by option so that no process asks for them again: in a folder or a Redis."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import redis

from landcover.atomic import atomic_path
from landcover.connections import connect
from landcover.settings import OriginSettings

logger = logging.getLogger(__name__)

_KEY_PREFIX = "origin-tile:"
_SWEEP_SHARE = 0.05
"""Of the folder's limit: so much is written between two looks at how large it is."""


class KeptTiles(Protocol):
    """A store of bytes; one that cannot be used says so in the log and is as if empty."""

    def get(self, name: str) -> bytes | None:
        """What was put under the name, or None."""

    def put(self, name: str, data: bytes) -> None:
        """Keep `data`."""


class Nothing:
    """No store."""

    def get(self, name: str) -> bytes | None:
        """None."""

    def put(self, name: str, data: bytes) -> None:
        """Nothing."""


class Folder:
    """Files in a folder that any number of processes share; the oldest go when it grows too large."""

    def __init__(self, folder: Path, max_bytes: int, ttl_s: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._since_sweep = max_bytes  # look at the first occasion: others may have filled it

    def get(self, name: str) -> bytes | None:
        """`KeptTiles.get`."""
        path = self._path(name)
        try:
            if time.time() - path.stat().st_mtime > self._ttl_s:
                return None
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("a kept tile cannot be read: %s", error)
            return None

    def put(self, name: str, data: bytes) -> None:
        """`KeptTiles.put`."""
        try:
            with atomic_path(self._path(name)) as path:
                path.write_bytes(data)
            self._sweep(len(data))
        except OSError as error:
            logger.warning("tiles cannot be kept in LANDCOVER_ORIGIN_CACHE: %s", error)

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self._folder / digest[:2] / digest[2:]

    def _sweep(self, written: int) -> None:
        """Remove the oldest files once in a while; one thread does."""
        with self._lock:
            self._since_sweep += written
            if self._since_sweep < self._max_bytes * _SWEEP_SHARE:
                return
            self._since_sweep = 0
        files = []
        for path in self._folder.glob("??/*"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # another process sweeps, too
                continue
            files.append((stat.st_mtime, stat.st_size, path))
        excess = sum(size for _, size, _ in files) - self._max_bytes * (1 - _SWEEP_SHARE)
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


class InRedis:
    """Keys in a Redis or Valkey, which bounds its own memory (`maxmemory`, `allkeys-lru`)."""

    def __init__(self, url: str, ttl_s: int) -> None:
        self._client = connect(url)
        self._ttl_s = ttl_s

    def get(self, name: str) -> bytes | None:
        """`KeptTiles.get`."""
        try:
            data = self._client.get(_KEY_PREFIX + hashlib.sha256(name.encode()).hexdigest())
        except redis.RedisError as error:
            logger.warning("a kept tile cannot be read: %s", error)
            return None
        return data if isinstance(data, bytes) else None

    def put(self, name: str, data: bytes) -> None:
        """`KeptTiles.put`."""
        try:
            self._client.set(_KEY_PREFIX + hashlib.sha256(name.encode()).hexdigest(), data, ex=self._ttl_s)
        except redis.RedisError as error:
            logger.warning("tiles cannot be kept in LANDCOVER_ORIGIN_CACHE: %s", error)


def kept_tiles(settings: OriginSettings) -> KeptTiles:
    """The store that the settings name."""
    if settings.cache is None:
        return Nothing()
    if urlsplit(settings.cache).scheme in ("redis", "rediss", "unix"):
        return InRedis(settings.cache, settings.cache_ttl_s)
    return Folder(Path(settings.cache).expanduser(), settings.cache_bytes, settings.cache_ttl_s)
