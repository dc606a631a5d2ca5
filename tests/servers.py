"""A broker and a cache for tests that need no other process."""

from __future__ import annotations

from dataclasses import dataclass

import redis


@dataclass(frozen=True, kw_only=True)
class Servers:
    """A broker and a cache, both empty."""

    broker: redis.Redis
    cache: redis.Redis
