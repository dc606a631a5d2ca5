"""Connections to Redis or Valkey with every timeout set: the clients' own defaults wait for minutes or for ever."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
HEALTH_CHECK_INTERVAL_S = 25
MAX_CONNECTIONS = 4096
"""Of one event loop to one server, in a burst. The default pool refuses the 101st request; a pool that makes it
wait costs every request 8 % (measured), and a connection is held for one command only."""


def _options(timeout_s: float | None) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
        "socket_keepalive": True,
        "protocol": 2,
    }


def connect(url: str) -> redis.Redis:
    """A client for threads; one retry, so that a dropped connection is not an error but a gone server is."""
    retry = Retry(ExponentialBackoff(cap=0.2, base=0.05), retries=1)
    return redis.Redis.from_url(url, retry=retry, **_options(SOCKET_TIMEOUT_S))


def connect_async(url: str, *, subscriber: bool = False) -> redis.asyncio.Redis:
    """A client for an event loop. A subscriber waits without limit; its health checks find a dead connection."""
    retry = AsyncRetry(ExponentialBackoff(cap=0.2, base=0.05), retries=1)
    timeout_s = None if subscriber else SOCKET_TIMEOUT_S
    return redis.asyncio.Redis.from_url(url, retry=retry, max_connections=MAX_CONNECTIONS, **_options(timeout_s))
