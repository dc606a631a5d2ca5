"""Makes torchvision importable beside the CPU build of torch.

PyPI's torchvision is a CUDA build. Beside a CPU torch its compiled library does not load, and its import then
stops at `operator torchvision::nms does not exist`. segmentation-models-pytorch and timm import it, and use none
of its compiled operators, so it is enough to declare the two names whose absence stops the import.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def make_torchvision_importable() -> torch.library.Library | None:
    """Import torchvision; declare its missing operators first where the import fails without them.

    The library that declares them is returned, and kept by the cache: they vanish with it.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return None
    for name in [each for each in sys.modules if each.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    importlib.import_module("torchvision")
    return library
