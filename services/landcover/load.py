"""A small HTTP load generator: keep-alive connections on raw sockets, so that the client is not what is measured."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What a number of connections got in a while."""

    requests: int
    seconds: float
    latencies_s: tuple[float, ...]
    """Sorted."""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    def percentile_s(self, share: float) -> float:
        """The latency that `share` of the requests stayed below."""
        return self.latencies_s[min(len(self.latencies_s) - 1, int(share * len(self.latencies_s)))]


def load(urls: Sequence[str], *, connections: int, seconds: float) -> LoadResult:
    """Ask for `urls`, all of one server, again and again over so many connections, each beginning at another of them.

    The clock begins when all are connected, and each asks once, however little time there is.

    Raises:
        RuntimeError: an answer is not 200.
    """
    return asyncio.run(_load(urls, connections, seconds))


async def _load(urls: Sequence[str], connections: int, seconds: float) -> LoadResult:
    server = urlsplit(urls[0])
    requests = [_request(url) for url in urls]
    streams = [await asyncio.open_connection(server.hostname or "", server.port or 80) for _ in range(connections)]
    begin = time.perf_counter()
    starts = (number * len(requests) // connections for number in range(connections))
    each = await asyncio.gather(
        *(
            _client(*stream, requests[start:] + requests[:start], begin + seconds)
            for stream, start in zip(streams, starts, strict=True)
        )
    )
    elapsed = time.perf_counter() - begin
    latencies = sorted(latency for one in each for latency in one)
    return LoadResult(requests=len(latencies), seconds=elapsed, latencies_s=tuple(latencies))


def _request(url: str) -> bytes:
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()


async def _client(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: Sequence[bytes], deadline: float
) -> list[float]:
    latencies: list[float] = []
    try:
        for request in itertools.cycle(requests):
            if (begin := time.perf_counter()) >= deadline and latencies:
                break
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the server answered {head.splitlines()[0].decode()}")
            lower = head.lower()
            at = lower.index(b"content-length:") + 15
            await reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))
            latencies.append(time.perf_counter() - begin)
    finally:
        writer.close()
    return latencies
