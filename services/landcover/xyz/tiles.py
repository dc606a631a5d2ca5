"""Tiles by their addresses, however many ask: from memory, from the kept ones, or once from the origin."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

from landcover.errors import SceneTooSlow
from landcover.settings import OriginSettings, ReadSettings
from landcover.xyz.decoding import NotATile, Tile, decode
from landcover.xyz.kept import KeptTiles, kept_tiles
from landcover.xyz.matrix import TileAddress
from landcover.xyz.origin import Errand, NobodyWaits, Origins
from landcover.xyz.pace import make_pace
from landcover.xyz.service import Service

_MISSING_NBYTES = 256
"""What remembering that a tile is missing is counted as."""

_making = threading.Lock()

_Name = tuple[str, TileAddress]


class TileStore:
    """Fetches tiles, each once, and keeps the last in memory; one for a process.

    An origin has `max_connections` threads of its own, which take tiles in the order they were asked for: that bounds
    the connections, and a window whose turn has come is not overtaken by later ones.
    """

    def __init__(self, settings: OriginSettings, timeout_s: float) -> None:
        self._origins = Origins(timeout_s, make_pace(settings.pace_url))
        self._kept: KeptTiles = kept_tiles(settings)
        self._lock = threading.Lock()
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._pending: dict[_Name, tuple[Errand, Future[Tile | None]]] = {}
        self._memory: OrderedDict[_Name, Tile | None] = OrderedDict()
        self._memory_nbytes = 0
        self._max_nbytes = settings.memory_bytes

    def get(
        self, service: Service, addresses: Iterable[TileAddress], within_s: float
    ) -> dict[TileAddress, Tile | None]:
        """The tiles; None for those of which there is no imagery.

        Raises:
            SceneUnreadable, SceneTooSlow: one cannot be had within so many seconds.
        """
        deadline = time.monotonic() + within_s
        found: dict[TileAddress, Tile | None] = {}
        awaited: dict[TileAddress, tuple[Errand, Future[Tile | None]]] = {}
        with self._lock:
            for address in addresses:
                name = (service.imagery, address)
                if name in self._memory:
                    self._memory.move_to_end(name)
                    found[address] = self._memory[name]
                    continue
                pending = self._pending.get(name)
                errand = pending[0] if pending else Errand(service, address)
                errand.join(deadline)
                awaited[address] = pending or self._send(name, errand)
        try:
            for address, (errand, future) in awaited.items():
                try:
                    found[address] = future.result(max(0.0, deadline - time.monotonic()))
                except NobodyWaits:  # all had gone just before we came
                    found |= self.get(service, [address], deadline - time.monotonic())
                except TimeoutError:
                    raise SceneTooSlow(
                        f"{errand.name} did not come within {within_s:g} s: its server is slow, or more tiles are "
                        f"wanted at once than {service.options.max_rps:g} a second allow (`max_rps`)."
                    ) from None
            return found
        finally:
            with self._lock:
                for errand, _ in awaited.values():
                    errand.leave()

    def _send(self, name: _Name, errand: Errand) -> tuple[Errand, Future[Tile | None]]:
        """A thread of the origin's on its way for a tile; under the lock."""
        service = errand.service
        if service.origin not in self._threads:
            threads = ThreadPoolExecutor(service.options.max_connections, thread_name_prefix="origin")
            self._threads[service.origin] = threads
        sent = self._pending[name] = errand, self._threads[service.origin].submit(self._run, name, errand)
        return sent

    def _run(self, name: _Name, errand: Errand) -> Tile | None:
        try:
            tile = self._obtain(errand)
            with self._lock:
                self._remember(name, tile)
            return tile
        finally:
            with self._lock:
                del self._pending[name]

    def _obtain(self, errand: Errand) -> Tile | None:
        name = f"{errand.service.imagery}/{errand.address}"
        kept = self._kept.get(name)
        if kept == b"":
            return None
        if kept is not None:
            try:
                return decode(kept, errand.service.options.tilesize)
            except NotATile:
                pass  # damaged where it was kept: ask anew, and it is replaced
        data, tile = self._origins.fetch(errand)
        self._kept.put(name, data)
        return tile

    def _remember(self, name: _Name, tile: Tile | None) -> None:
        self._memory[name] = tile
        self._memory_nbytes += _nbytes(tile)
        while self._memory_nbytes > self._max_nbytes and len(self._memory) > 1:
            self._memory_nbytes -= _nbytes(self._memory.popitem(last=False)[1])


def _nbytes(tile: Tile | None) -> int:
    return _MISSING_NBYTES if tile is None else tile.nbytes


def tile_store(settings: ReadSettings) -> TileStore:
    """The process's store: whoever reads with these settings shares its connections, pace and tiles."""
    with _making:  # `lru_cache` would let two threads make two
        return _tile_store(settings.origin, settings.timeout_s)


@lru_cache(maxsize=8)
def _tile_store(settings: OriginSettings, timeout_s: float) -> TileStore:
    return TileStore(settings, timeout_s)
