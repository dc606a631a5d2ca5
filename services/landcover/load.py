"""A small HTTP load generator: keep-alive connections on raw sockets, so that the client is not what is measured."""

from __future__ import annotations

import asyncio
import time
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


def load(url: str, *, connections: int, seconds: float) -> LoadResult:
    """Ask for `url` again and again over so many connections.

    Raises:
        RuntimeError: an answer is not 200.
    """
    return asyncio.run(_load(url, connections, seconds))


async def _load(url: str, connections: int, seconds: float) -> LoadResult:
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    begin = time.perf_counter()
    deadline = begin + seconds
    each = await asyncio.gather(
        *(_client(parts.hostname or "", parts.port or 80, request, deadline) for _ in range(connections))
    )
    elapsed = time.perf_counter() - begin
    latencies = sorted(latency for one in each for latency in one)
    return LoadResult(requests=len(latencies), seconds=elapsed, latencies_s=tuple(latencies))


async def _client(host: str, port: int, request: bytes, deadline: float) -> list[float]:
    reader, writer = await asyncio.open_connection(host, port)
    latencies = []
    try:
        while (begin := time.perf_counter()) < deadline:
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
