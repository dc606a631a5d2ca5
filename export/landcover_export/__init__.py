"""Training, evaluation and export of land-cover networks: the only package that imports torch.

A network becomes a file by `train`, a number by `evaluate` and a model that any runtime serves by `export`.
"""

import os

# ONNX Runtime reports its use to its maker unless told not to, before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
