"""Reads of the cache over a few connections: who finds them all in use, or others who wait, goes along with the next.

What a Redis client does around a command (a connection from the pool, a retry, timeouts, parsing) costs several
times what the server does for it. So here connections are held, without a pool around them, and under load one `MGET`
serves all who wait. A lone request waits for nobody. Nothing is kept: no answer is older than its request.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

CONNECTIONS = 2
"""More merge less; a single one would have everybody wait for a connection that was lost without a word."""
TIMEOUT_S = 1.0
"""For an answer: a cache that takes longer is for the ordinary client, which waits longer and says so."""
PASSED_OVER_S = 2.0
"""How long nobody else tries after that."""


class MergedReads:
    """`GET` for one event loop. It tries once; who sees it fail has the ordinary client to ask."""

    def __init__(self, unlimited: Redis) -> None:
        """Through connections of a client without a timeout: its own would be two for each read, one of them a task."""
        pool = unlimited.connection_pool
        self._connections = [pool.make_connection() for _ in range(CONNECTIONS)]  # type: ignore[no-untyped-call]
        self._idle = list(self._connections)
        self._asked: list[tuple[str, asyncio.Future[bytes | None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._passed_over_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """What lies under `key`; None if nothing does.

        Raises:
            RedisError, OSError: the cache is away.
        """
        if time.monotonic() < self._passed_over_until:
            raise RedisTimeoutError("the cache did not answer a moment ago")
        if self._idle and not self._asked:
            return (await self._read([key]))[0]
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asked.append((key, future))
        return await future

    async def close(self) -> None:
        """Let the connections go."""
        for connection in self._connections:
            await connection.disconnect()

    async def _read(self, keys: list[str]) -> list[bytes | None]:
        connection = self._idle.pop()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await connection.send_command("MGET", *keys)
                return cast("list[bytes | None]", await connection.read_response())
        except TimeoutError:
            self._passed_over_until = time.monotonic() + PASSED_OVER_S
            await connection.disconnect(nowait=True)
            raise
        except BaseException:  # a cancellation, too: an answer that is still on its way must not reach the next reader
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._idle.append(connection)
            if self._asked:
                task = asyncio.create_task(self._read_for_those_who_wait())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _read_for_those_who_wait(self) -> None:
        if not self._idle:
            return  # somebody was faster, and will come by here
        asked, self._asked = self._asked, []
        if not asked:
            return
        try:
            found = await self._read([key for key, _ in asked])
        except Exception as error:
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), data in zip(asked, found, strict=True):
            if not future.done():
                future.set_result(data)
