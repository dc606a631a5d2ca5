"""The GPU worker: takes block tasks from Celery, runs the ONNX session, puts blocks into the cache."""

import os

# ONNX Runtime reports its use to its maker unless told not to, before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
