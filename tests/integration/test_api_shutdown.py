"""An API that is told to stop answers what it has begun: an update of a running service cuts nobody off."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from running import start_service

WAIT_S = 7
"""Longer than a process has that is told nothing else."""


@pytest.mark.parametrize(("limit_s", "answered"), [("20", True), ("1", False)])
def test_a_request_that_waits(demo_scene: Path, tmp_path: Path, limit_s: str, answered: bool) -> None:
    """For a block that nobody makes: unfinished when its time is over, or cut off when the process's is."""
    service = start_service(tmp_path, scenes=[demo_scene], workers=0, LANDCOVER_API_SHUTDOWN_S=limit_s)
    try:
        bounds = httpx.get(f"{service.url}/scenes/{service.scene}").json()["bounds"]
        lon, lat = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        address = f"{service.url}/scenes/{service.scene}/landcover/point/{lon},{lat}"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.get, address, params={"wait": WAIT_S}, timeout=60)
            while not service.broker.llen("interactive"):
                time.sleep(0.05)
            service.child("API").process.terminate()
            try:
                status = asked.result().status_code
            except httpx.TransportError:
                status = 0
        assert (status in (200, 503)) is answered, status
    finally:
        service.processes.stop()
