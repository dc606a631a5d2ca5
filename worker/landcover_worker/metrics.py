"""What a worker measures of itself, for Prometheus; label sets are bounded."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info

from landcover.queue import BULK_QUEUE, INTERACTIVE_QUEUE

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

BLOCKS = Counter("landcover_worker_blocks_total", "Block tasks by how they ended.", ["outcome"])
ATTEMPTS = Counter("landcover_worker_attempts_total", "Beginnings of blocks; the same block may count several times.")
DEAD_LETTERS = Counter("landcover_worker_dead_letters_total", "Blocks set aside since they failed too often.")
PIXELS = Counter("landcover_worker_pixels_total", "Pixels of finished blocks that show the scene, without halo.")
TASK_WAIT = Histogram(
    "landcover_worker_task_wait_seconds",
    "From the moment that a task was sent until it is taken up, by two machines' clocks.",
    ["queue"],
    buckets=(*_SECONDS, 120, 300, 600),
)
STAGE_SECONDS = Histogram(
    "landcover_worker_stage_seconds",
    "Time in each stage: read, encode and store of a block, infer of a batch.",
    ["stage"],
    buckets=_SECONDS,
)
BATCH_SIZE = Histogram("landcover_worker_batch_windows", "Windows in one run.", buckets=(1, 2, 4, 8, 16, 32, 64))
BATCH_WAIT = Histogram("landcover_worker_batch_wait_seconds", "From read to the network's turn.", buckets=_SECONDS)
RUNNING = Gauge("landcover_worker_blocks_running", "Blocks in hand.")
LAST_PROGRESS = Gauge(
    "landcover_worker_last_progress_seconds", "Time since a block in hand last advanced; 0 if none is in hand."
)
MODEL = Info("landcover_worker_model", "The models loaded, and what runs them.", ["model", "digest", "provider"])

STAGES = ("read", "infer", "encode", "store")
for _stage in STAGES:  # a series that is there from the start is 0, not unknown
    STAGE_SECONDS.labels(_stage)
for _queue in (INTERACTIVE_QUEUE, BULK_QUEUE):
    TASK_WAIT.labels(_queue)
for _outcome in ("made", "failed", "error", "dead", "ready", "taken", "unwanted", "unstored"):
    BLOCKS.labels(_outcome)
