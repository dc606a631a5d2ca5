"""What an API process measures of itself, for Prometheus; label sets are bounded."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("landcover_api_requests_total", "Requests by route and status.", ["route", "status"])
SECONDS = Histogram(
    "landcover_api_request_seconds",
    "Time to answer, by route.",
    ["route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
TILES = Counter("landcover_api_tiles_total", "Tiles by where they came from.", ["source"])
BLOCKS = Counter("landcover_api_blocks_total", "Blocks looked up in the cache, by outcome.", ["outcome"])
QUEUED = Counter("landcover_api_blocks_queued_total", "Block tasks sent to workers.")
WAITING = Gauge("landcover_api_requests_waiting", "Requests that wait for blocks.")
