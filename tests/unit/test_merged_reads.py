"""Many reads over few connections, against a real server: each gets its own answer, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from redis.exceptions import RedisError

from landcover.connections import connect_async
from landcover.local import LocalService, free_port, start_cache
from landcover_api.merged_reads import CONNECTIONS, MergedReads
from servers import Servers


def address(client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options['db']}"


@asynccontextmanager
async def reads_of(url: str) -> AsyncIterator[MergedReads]:
    client = connect_async(url, subscriber=True)
    reads = MergedReads(client)
    try:
        yield reads
    finally:
        await reads.close()
        await client.aclose()


def fill(servers: Servers, count: int) -> None:
    servers.cache.mset({f"key-{i}": b"value-%d" % i * (i + 1) for i in range(count)})


def value(i: int) -> bytes:
    return b"value-%d" % i * (i + 1)


async def test_each_gets_its_own_answer_and_many_share_a_command(servers: Servers) -> None:
    fill(servers, 200)
    servers.cache.config_resetstat()
    async with reads_of(address(servers.cache)) as reads:
        keys = [*range(200), *range(200), *range(1000, 1010)]
        answers = await asyncio.gather(*(reads.get(f"key-{i}") for i in keys))
        assert answers == [value(i) if i < 200 else None for i in keys]
        assert await reads.get("key-7") == value(7)
    assert servers.cache.info("commandstats")["cmdstat_mget"]["calls"] <= CONNECTIONS + 2
    assert "cmdstat_get" not in servers.cache.info("commandstats")


async def test_who_leaves_takes_nobodys_answer_along(servers: Servers) -> None:
    """Some read and some wait when they are cancelled, at different moments; the others get what is theirs."""
    fill(servers, 64)
    async with reads_of(address(servers.cache)) as reads:
        for turns in range(8):
            asking = [asyncio.create_task(reads.get(f"key-{i}")) for i in range(64)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in asking[::3]:
                task.cancel()
            answers = await asyncio.gather(*asking, return_exceptions=True)
            for i, answer in enumerate(answers):
                if i % 3 and not isinstance(answer, RedisError):
                    assert answer == value(i)
            assert [await reads.get(f"key-{i}") for i in range(4)] == [value(i) for i in range(4)]


async def test_a_server_that_goes_is_told_to_everybody_and_found_again(tmp_path: Path) -> None:
    processes = LocalService()
    try:
        url = start_cache(processes, tmp_path, "64mb")
        server = processes.children[-1]
        async with reads_of(url) as reads:
            assert await reads.get("key") is None
            server.stop()
            answers = await asyncio.gather(*(reads.get("key") for _ in range(20)), return_exceptions=True)
            assert all(isinstance(each, (RedisError, OSError)) for each in answers)
            server.start()
            for _ in range(100):
                try:
                    assert await reads.get("key") is None
                    break
                except (RedisError, OSError):
                    await asyncio.sleep(0.1)
            else:
                pytest.fail("the server was not found again")
    finally:
        processes.stop()


async def test_without_a_server_it_is_an_error() -> None:
    async with reads_of(f"redis://127.0.0.1:{free_port()}/0") as reads:
        with pytest.raises((RedisError, OSError)):
            await reads.get("key")


async def test_a_silent_server_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who waits for the answer is told, and all behind it; who comes next is told at once, for a while."""
    monkeypatch.setattr("landcover_api.merged_reads.TIMEOUT_S", 0.3)
    monkeypatch.setattr("landcover_api.merged_reads.PASSED_OVER_S", 60)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and says nothing
        async with reads_of(f"redis://127.0.0.1:{silent.getsockname()[1]}/0") as reads:
            answers = await asyncio.gather(*(reads.get(f"key-{i}") for i in range(5)), return_exceptions=True)
            monkeypatch.setattr("landcover_api.merged_reads.TIMEOUT_S", 60)
            with pytest.raises(RedisError, match="a moment ago"):
                await reads.get("key")
    assert all(isinstance(each, (RedisError, OSError)) for each in answers)


class Turns:
    """A connection whose answer takes three turns of the event loop."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def send_command(self, _: str, *keys: str) -> None:
        self.asked.append(keys)

    async def read_response(self) -> list[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
        return [key.encode() for key in self.asked[-1]]


async def test_who_waits_is_not_passed_over_by_those_who_come_later() -> None:
    """Three come in each turn, as clients do that do not wait for one another: more than two connections answer."""
    connections: list[Turns] = []

    def make_connection() -> Turns:
        connections.append(Turns())
        return connections[-1]

    pool = SimpleNamespace(make_connection=make_connection)
    reads = MergedReads(cast("Any", SimpleNamespace(connection_pool=pool)))
    tasks = []
    for number in range(3000):
        tasks.append(asyncio.create_task(reads.get(f"key-{number}")))
        if number % 3 == 2:
            await asyncio.sleep(0)
    assert sum(not task.done() for task in tasks) < 60
    assert await asyncio.gather(*tasks) == [b"key-%d" % number for number in range(3000)]
    assert max(len(keys) for each in connections for keys in each.asked) < 60
