"""Memory of GPUs is told where there is a driver to ask, and nothing is said or broken where there is none."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from landcover_worker import gpu_memory
from landcover_worker.gpu_memory import GpuMemoryCollector, watch_gpu_memory


class DriverError(Exception):
    """As `pynvml.NVMLError`."""


class Driver:
    """Two GPUs, as `pynvml` shows them."""

    NVMLError = DriverError
    away = False

    def nvmlInit(self) -> None:  # noqa: N802 - the driver's names
        if self.away:
            raise DriverError("no driver")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.away:
            raise DriverError("fell off the bus")
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=(handle + 1) << 30, total=80 << 30)


def test_each_gpu_is_told() -> None:
    registry, driver = CollectorRegistry(), Driver()
    registry.register(GpuMemoryCollector(driver))
    name = "landcover_worker_gpu_memory_bytes"
    assert registry.get_sample_value(name, {"gpu": "0", "state": "used"}) == 1 << 30
    assert registry.get_sample_value(name, {"gpu": "1", "state": "total"}) == 80 << 30
    driver.away = True
    assert generate_latest(registry) == b""


@pytest.mark.parametrize("library", [None, SimpleNamespace(nvmlInit=lambda: 1 / 0, NVMLError=ZeroDivisionError)])
def test_without_a_library_or_a_driver_nothing_is_told(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    registry = CollectorRegistry()
    monkeypatch.setattr(gpu_memory, "REGISTRY", registry)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert watch_gpu_memory() is False
    assert generate_latest(registry) == b""
