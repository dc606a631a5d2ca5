"""OpenEarthMap's own architecture, with random weights, goes the whole way: exported, verified, served."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import httpx
import numpy as np

from landcover import local
from running import start_service


def test_b4_is_exported_and_served(demo_scene: Path, tmp_path: Path) -> None:
    model = tmp_path / "b4.onnx"
    options = ["--random", "--network", "openearthmap-b4", "--name", "random-b4", "--window", "320", "--halo", "32"]
    subprocess.run(local.landcover_command("export", *options, "--out", str(model)), check=True, timeout=200)
    verified = subprocess.run(
        local.landcover_command("models", "verify", str(model)), capture_output=True, text=True, check=True, timeout=60
    )
    assert "random-b4" in verified.stdout
    service = start_service(tmp_path / "state", scenes=[demo_scene], models=[model])
    try:
        west, south, east, north = httpx.get(f"{service.url}/scenes/demo").json()["bounds"]
        lon, lat = (west + east) / 2, (south + north) / 2
        box = f"{lon - 1e-4},{lat - 1e-4},{lon + 1e-4},{lat + 1e-4}"
        response = httpx.get(
            f"{service.url}/scenes/demo/landcover/bbox/{box}.npy", params={"wait": 60, "max_size": 64}, timeout=90
        )
        assert response.status_code == 200, response.text
        assert np.load(io.BytesIO(response.content))[0].all()  # never 0: "background" is no answer
    finally:
        service.processes.stop()
