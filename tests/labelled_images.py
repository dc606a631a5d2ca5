"""Labelled images for tests: colours that tell the class, in OpenEarthMap's layout or plain folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

COLORS = {1: (200, 170, 120), 4: (120, 120, 120), 5: (30, 110, 40), 6: (30, 60, 160), 8: (210, 60, 50)}


def patchwork(seed: int, height: int = 192, width: int = 224, patch: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """An image `(height, width, 3)` of one-coloured patches with noise, and its label `(height, width)`."""
    rng = np.random.default_rng(seed)
    small = rng.choice(list(COLORS), (-(-height // patch), -(-width // patch)))
    label = np.kron(small, np.ones((patch, patch), int))[:height, :width].astype(np.uint8)
    table = np.zeros((256, 3), np.int16)
    for value, color in COLORS.items():
        table[value] = color
    image = np.clip(table[label] + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    return image, label


def write_folders(root: Path, groups: dict[str, int], **size: int) -> Path:
    """`group/images/group_N.png` and `group/labels/group_N.png`, so many in each group."""
    seed = 0
    for group, count in groups.items():
        for kind in ("images", "labels"):
            (root / group / kind).mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            image, label = patchwork(seed := seed + 1, **size)
            Image.fromarray(image).save(root / group / "images" / f"{group}_{number}.png")
            Image.fromarray(label).save(root / group / "labels" / f"{group}_{number}.png")
    return root


def write_openearthmap(root: Path, regions: dict[str, int], gsd_m: float = 0.5) -> Path:
    """`region/{images,labels}/region_N.tif`, georeferenced, as OpenEarthMap lays them out."""
    seed = 100
    for region, count in regions.items():
        for kind in ("images", "labels"):
            (root / region / kind).mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            image, label = patchwork(seed := seed + 1)
            place = {"crs": "EPSG:32654", "transform": from_origin(400_000, 3_950_000, gsd_m, gsd_m)}
            _write(root / region / "images" / f"{region}_{number}.tif", np.moveaxis(image, -1, 0), place)
            _write(root / region / "labels" / f"{region}_{number}.tif", label[None], place)
    return root


def _write(path: Path, bands: np.ndarray, place: dict[str, object]) -> None:
    count, height, width = bands.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=count, height=height, width=width, **place
    ) as file:
        file.write(bands)
