"""When the next request may go to an origin: evenly spaced, and not before the origin's own Retry-After.

With a Redis or Valkey all processes keep one pace together; without one, or while it is away, each its own. Requests
reserve their moments one after another, as in GCRA without a burst (ITU-T I.371, annex A): a counter for
each second would let two seconds' worth through around its edge.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import defaultdict
from typing import Protocol, cast

import redis

from landcover.connections import connect

logger = logging.getLogger(__name__)

_KEY_PREFIX = "landcover:origin:"
_FORGET_MS = 60_000

_RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local free = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
if free - now > tonumber(ARGV[2]) then return now - free end
local next = free + tonumber(ARGV[1])
redis.call('SET', KEYS[1], string.format('%.3f', next), 'PX', math.ceil(next - now) + tonumber(ARGV[3]))
return math.floor(free - now)
"""
"""Milliseconds to wait for the moment that is reserved; negative where that is too long and none is."""

_HOLD = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local free = math.max(now + tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1]) or '0'))
redis.call('SET', KEYS[1], string.format('%.3f', free), 'PX', math.ceil(free - now) + tonumber(ARGV[2]))
"""


class TooLong(Exception):
    """The next free moment is too far away; nothing was reserved."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"{wait_s:.1f} s")
        self.wait_s = wait_s


class Pace(Protocol):
    """Who says when the next request may go."""

    def reserve(self, origin: str, interval_s: float, at_most_s: float) -> float:
        """Seconds to wait before the request for which a moment is now reserved.

        Raises:
            TooLong: it would be more than `at_most_s`.
        """

    def hold(self, origin: str, for_s: float) -> None:
        """Let nothing go to `origin` for so long."""


class ProcessPace:
    """The pace of this process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: defaultdict[str, float] = defaultdict(float)

    def reserve(self, origin: str, interval_s: float, at_most_s: float) -> float:
        """`Pace.reserve`."""
        with self._lock:
            now = time.monotonic()
            free = max(now, self._free[origin])
            if free - now > at_most_s:
                raise TooLong(free - now)
            self._free[origin] = free + interval_s
            return free - now

    def hold(self, origin: str, for_s: float) -> None:
        """`Pace.hold`."""
        with self._lock:
            self._free[origin] = max(self._free[origin], time.monotonic() + for_s)


class SharedPace:
    """The pace of all processes that use one Redis; this process's own while that is away."""

    def __init__(self, url: str) -> None:
        client = connect(url)
        self._reserve, self._hold = client.register_script(_RESERVE), client.register_script(_HOLD)
        self._own = ProcessPace()

    def reserve(self, origin: str, interval_s: float, at_most_s: float) -> float:
        """`Pace.reserve`."""
        try:
            arguments = [interval_s * 1000, at_most_s * 1000, _FORGET_MS]
            wait_ms = int(cast(int, self._reserve(keys=[_key(origin)], args=arguments)))
        except redis.RedisError as error:
            logger.warning("the pace towards an origin is this process's own: %s", error)
            return self._own.reserve(origin, interval_s, at_most_s)
        if wait_ms < 0:
            raise TooLong(-wait_ms / 1000)
        return wait_ms / 1000

    def hold(self, origin: str, for_s: float) -> None:
        """`Pace.hold`."""
        self._own.hold(origin, for_s)
        try:
            self._hold(keys=[_key(origin)], args=[for_s * 1000, _FORGET_MS])
        except redis.RedisError as error:
            logger.warning("only this process waits for an origin: %s", error)


def make_pace(url: str | None) -> Pace:
    """Shared where there is something to share it by."""
    return SharedPace(url) if url else ProcessPace()


def _key(origin: str) -> str:
    return _KEY_PREFIX + hashlib.sha256(origin.encode()).hexdigest()[:16]
