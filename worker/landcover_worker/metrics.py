"""What a worker measures of itself, for Prometheus; label sets are bounded."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

BLOCKS = Counter("landcover_worker_blocks_total", "Block tasks by how they ended.", ["outcome"])
PIXELS = Counter("landcover_worker_pixels_total", "Pixels of finished blocks, without halo.")
STAGE_SECONDS = Histogram(
    "landcover_worker_stage_seconds", "Time in each stage of a block.", ["stage"], buckets=_SECONDS
)
BATCH_SIZE = Histogram("landcover_worker_batch_windows", "Windows in one run.", buckets=(1, 2, 4, 8, 16, 32, 64))
BATCH_WAIT = Histogram("landcover_worker_batch_wait_seconds", "From read to the network's turn.", buckets=_SECONDS)
RUNNING = Gauge("landcover_worker_blocks_running", "Blocks in hand.")
MODEL = Info("landcover_worker_model", "The models loaded and what runs them.")
