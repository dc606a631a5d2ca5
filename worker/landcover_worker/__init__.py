"""The GPU worker: takes block tasks from Celery, runs the ONNX session, puts blocks into the cache."""
