"""One block on which the network hangs: it alone is set aside, whatever was in hand, or in its batch, beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyproj import Transformer
from test_faults import Supervisor, until

from landcover.grid import BlockIndex
from landcover.keys import DEAD_LETTERS
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import HALF_METRE, UTM54, write_tif
from running import start_service

BLOCK_PX, BLOCKS = 256, 3
POISONED = BlockIndex(1, 1)


def poisoned_scene(path: Path) -> np.ndarray:
    """Write 3 × 3 dark blocks, of which the middle one has a red square that no other block's halo reaches."""
    pixels = np.random.default_rng(0).integers(1, 200, (BLOCKS * BLOCK_PX, BLOCKS * BLOCK_PX, 3), dtype=np.uint8)
    middle = slice(BLOCK_PX + 40, 2 * BLOCK_PX - 40)
    pixels[middle, middle, 0] = 255
    write_tif(path, pixels, blockxsize=256, blockysize=256)
    return pixels


def point_url(scene: str, index: BlockIndex) -> tuple[str, int, int]:
    """The endpoint for a pixel in the middle of a block, and the pixel."""
    row, col = (np.array([index.row, index.col]) * BLOCK_PX + BLOCK_PX // 2).tolist()
    x, y = HALF_METRE @ (col + 0.5, row + 0.5)
    lon, lat = Transformer.from_crs(UTM54, "EPSG:4326", always_xy=True).transform(x, y)
    return f"/scenes/{scene}/landcover/point/{lon},{lat}", row, col


def test_a_block_that_hangs_takes_no_other_with_it(tmp_path: Path) -> None:
    """Two windows a batch and four in hand: some share its run, some wait behind it, each time the process ends."""
    pixels = poisoned_scene(tmp_path / "scene.tif")
    model = write_pixel_model(tmp_path / "m.onnx", pixel_contract("hangs"), busy_loops=1_000_000, busy_above=252)
    service = start_service(
        tmp_path / "state",
        scenes=[tmp_path / "scene.tif"],
        models=[model],
        LANDCOVER_WORKER_DEVICE="cpu",
        LANDCOVER_WORKER_CPU_THREADS="1",
        LANDCOVER_WORKER_THREADS="4",
        LANDCOVER_WORKER_MAX_BATCH="2",
        LANDCOVER_WORKER_HARD_LIMIT_S="2",
        LANDCOVER_WORKER_MAX_ATTEMPTS="2",
    )
    supervisor = Supervisor(service)
    try:
        with service.client as client:
            west, south, east, north = client.get(f"/scenes/{service.scene}").json()["bounds"]
            everything = f"/scenes/{service.scene}/landcover/bbox/{west},{south},{east},{north}.npy"

            def is_set_aside() -> bool:
                client.get(everything, params={"wait": 5})
                return service.broker.hlen(DEAD_LETTERS) > 0

            until(is_set_aside, 60)
            for index in [BlockIndex(row, col) for row in range(BLOCKS) for col in range(BLOCKS)]:
                url, row, col = point_url(service.scene, index)
                answer = client.get(url, params={"wait": 30})
                if index == POISONED:
                    assert answer.status_code == 502
                    assert "was set aside" in answer.json()["detail"]
                else:
                    assert answer.status_code == 200, answer.text
                    assert answer.json()["value"] == expected_classes(pixels)[row, col]
        (letter,) = service.broker.hkeys(DEAD_LETTERS)
        assert letter.decode().endswith(f":{POISONED.row}:{POISONED.col}")
        assert service.broker.keys("landcover:attempts:*") == []
    finally:
        supervisor.stop()
        service.processes.stop()
