"""Moved to `landcover_export.evaluation.metrics`."""

from landcover_export.evaluation.metrics import Accuracy, IntArray, confusion_matrix

__all__ = ["Accuracy", "IntArray", "confusion_matrix"]
