"""Real Valkey servers for tests that need no other process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from landcover.connections import connect
from landcover.local import LocalService, start_broker, start_cache
from servers import Servers


@pytest.fixture(scope="session")
def running_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Started once; use `servers`."""
    folder = tmp_path_factory.mktemp("valkey")
    processes = LocalService()
    try:
        broker, cache = connect(start_broker(processes, folder)), connect(start_cache(processes, folder, "64mb"))
        yield Servers(broker=broker, cache=cache)
        broker.close()
        cache.close()
    finally:
        processes.stop()


@pytest.fixture
def servers(running_servers: Servers) -> Servers:
    """The servers, emptied."""
    running_servers.broker.flushall()
    running_servers.cache.flushall()
    return running_servers
