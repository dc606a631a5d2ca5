"""`landcover worker`."""

from __future__ import annotations

import argparse
import signal
from types import FrameType
from typing import Any


def worker(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "worker",
        help="take block tasks from the queue and run the model",
        description="Take block tasks from the queue, run the model, put what it makes into the cache.\n"
        "Stops on SIGTERM or Ctrl-C: what is running is finished, what is not goes back to the queue.",
        epilog="settings: LANDCOVER_BROKER_URL, LANDCOVER_CACHE_URL, LANDCOVER_MODELS and LANDCOVER_WORKER_*\n"
        "  LANDCOVER_WORKER_DEVICE=auto|cpu|cuda   RUNTIME=auto|onnxruntime|openvino   THREADS   MAX_BATCH   QUEUES\n"
        "  CPU_THREADS   CUDA_GRAPHS   TENSORRT=FOLDER   HARD_LIMIT_S   METRICS_PORT\n\n"
        "example:\n"
        "  LANDCOVER_MODELS=models/ LANDCOVER_WORKER_DEVICE=cuda landcover worker",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    from landcover import tracing
    from landcover.logs import log_uncaught
    from landcover_worker.service import run
    from landcover_worker.settings import WorkerSettings

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)  # until Celery installs its own handlers: nothing has begun yet

    signal.signal(signal.SIGTERM, stop)
    log_uncaught()
    tracing.start("landcover-worker")
    try:
        return run(WorkerSettings())
    finally:
        tracing.stop()
