"""Rasters made by code, and the scenes and grids over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from landcover.grid import Grid
from landcover.scene import Scene, SceneSource, current_version, describe
from landcover.settings import ReadSettings

UTM54 = "EPSG:32654"
HALF_METRE = Affine(0.5, 0, 415_000, 0, -0.5, 4_000_000)


def noise(height: int, width: int, *, bands: int = 3, seed: int = 0, low: int = 1) -> np.ndarray:
    """Random pixels `(height, width, bands)` uint8, `low`..255."""
    return np.random.default_rng(seed).integers(low, 256, (height, width, bands), dtype=np.uint8)


def write_tif(
    path: Path,
    pixels: np.ndarray,
    *,
    crs: str | None = UTM54,
    transform: Affine = HALF_METRE,
    overviews: Sequence[int] = (),
    mask: np.ndarray | None = None,
    **profile: Any,
) -> Path:
    """Write `(height, width, bands)` as a GeoTIFF, by default tiled by 64 px."""
    height, width, count = pixels.shape
    options: dict[str, Any] = {"tiled": True, "blockxsize": 64, "blockysize": 64} | profile
    if not options["tiled"]:
        del options["blockxsize"]  # strips are as wide as the image
    if count in (3, 4) and pixels.dtype == np.uint8:
        options.setdefault("photometric", "RGB")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_TIFF_OVR_BLOCKSIZE=64):
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=count,
            dtype=pixels.dtype,
            crs=crs,
            transform=transform,
            **options,
        ) as image:
            image.write(np.moveaxis(pixels, -1, 0))
            if mask is not None:
                image.write_mask(mask)
        if overviews:
            with rasterio.open(path, "r+") as image:
                image.build_overviews(list(overviews), Resampling.average)
    return path


def scene_of(path: Path, **source: Any) -> Scene:
    """The scene in a file."""
    entry = SceneSource(id="scene", location=str(path), **source)
    settings = ReadSettings()
    return describe(entry, current_version(entry, settings), settings)


def grid_of(scene: Scene, *, decimation: int = 1, block_px: int = 64) -> Grid:
    """A grid over `scene` at any decimation, whatever a model would want."""
    return Grid(
        crs=scene.crs,
        transform=scene.transform @ Affine.scale(decimation),
        width_px=-(-scene.width_px // decimation),
        height_px=-(-scene.height_px // decimation),
        decimation=decimation,
        block_px=block_px,
        gsd_m=scene.gsd_m * decimation,
    )
