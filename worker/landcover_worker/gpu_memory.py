"""Memory of the GPUs that this process sees, for Prometheus; nothing without NVIDIA's library (`nvidia-ml-py`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric

logger = logging.getLogger(__name__)


class GpuMemoryCollector:
    """Asks the driver at each scrape."""

    def __init__(self, nvml: Any) -> None:
        """With an initialised `pynvml`."""
        self._nvml = nvml

    def collect(self) -> Iterator[Metric]:
        """For a registry; silent when the driver does not answer."""
        family = GaugeMetricFamily(
            "landcover_worker_gpu_memory_bytes",
            "Memory of a GPU, by whomever it is used.",
            labels=["gpu", "state"],
        )
        try:
            for number in range(self._nvml.nvmlDeviceGetCount()):
                memory = self._nvml.nvmlDeviceGetMemoryInfo(self._nvml.nvmlDeviceGetHandleByIndex(number))
                family.add_metric([str(number), "used"], float(memory.used))
                family.add_metric([str(number), "total"], float(memory.total))
        except self._nvml.NVMLError as error:
            logger.debug("the GPU's memory cannot be read: %s", error)
            return
        yield family


def watch_gpu_memory() -> bool:
    """Have every scrape tell of it from now on; False if there is no GPU, or no library to ask for it."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return False
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    REGISTRY.register(GpuMemoryCollector(pynvml))
    return True
