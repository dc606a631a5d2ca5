"""One Pub/Sub connection for a whole process, and any number of requests that wait for blocks to be done."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from landcover.keys import DONE_CHANNEL

logger = logging.getLogger(__name__)

_RECONNECT_S = 0.5
_LOOK_S = 10.0


class Watch:
    """The blocks that one request waits for, and those that were reported since it looked last."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._woken: set[str] = set()

    def wake(self, keys: Iterable[str]) -> None:
        """Report blocks."""
        self._woken.update(keys)
        self._event.set()

    async def wait(self, timeout_s: float) -> set[str]:
        """What was reported since the last call; empty when nothing is within `timeout_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)
        self._event.clear()
        woken, self._woken = self._woken, set()
        return woken


class Wakeups:
    """Listens for finished blocks. It is subscribed before any request asks, so no report is missed."""

    def __init__(self, subscriber: Redis) -> None:
        self._subscriber = subscriber
        self._watches: dict[str, set[Watch]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen, on the running event loop."""
        self._task = asyncio.create_task(self._listen(), name="wakeups")

    async def stop(self) -> None:
        """Stop listening."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @contextmanager
    def watch(self, keys: Iterable[str]) -> Iterator[Watch]:
        """Be told of any of `keys` while the body runs."""
        watch, keys = Watch(), tuple(keys)
        for key in keys:
            self._watches[key].add(watch)
        try:
            yield watch
        finally:
            for key in keys:
                self._watches[key].discard(watch)
                if not self._watches[key]:
                    del self._watches[key]

    async def _listen(self) -> None:
        while True:
            try:
                async with self._subscriber.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(DONE_CHANNEL)
                    self._wake_all()  # whatever was reported while there was no connection
                    while True:
                        # Between messages redis-py looks after the connection: one that died silently is found out.
                        message = await channel.get_message(timeout=_LOOK_S)
                        if message is not None:
                            self._report(message["data"].decode())
            except (RedisError, OSError) as error:
                logger.warning("no news of finished blocks, connecting again: %s", error)
                await asyncio.sleep(_RECONNECT_S)
            except Exception:
                logger.exception("no news of finished blocks, connecting again")
                await asyncio.sleep(_RECONNECT_S)

    def _report(self, key: str) -> None:
        for watch in self._watches.get(key, ()):
            watch.wake((key,))

    def _wake_all(self) -> None:
        for key, watches in self._watches.items():
            for watch in watches:
                watch.wake((key,))
