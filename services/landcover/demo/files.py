"""The demonstration scene on disk: two Cloud-Optimized GeoTIFFs, the image and its label."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio import Affine
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_raster

from landcover.classes import OPENEARTHMAP, UNKNOWN, palette
from landcover.demo.render import GSD_M, draw

DEMO_SEED = 20
"""Seed of the scene that is served when no other is named; never one that a model is trained on."""

DEMO_SIZE_PX = 4096
"""Side of that scene: 2048 m."""

CRS = "EPSG:32654"
WEST_M, NORTH_M = 415_000.0, 4_000_000.0
"""Upper left corner in `CRS`: a notional place near 36° N 140° E."""

DESCRIPTION = "Drawn by landcover-tiles; not a real place"


def write_scene(folder: Path, *, seed: int = DEMO_SEED, size_px: int = DEMO_SIZE_PX) -> Path:
    """Draw a square scene and write `demo.tif` and `demo_labels.tif` into `folder`.

    Returns the path of `demo.tif`. Each file appears whole or not at all, the label first: whoever sees the image
    finds its label.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image, label = draw(seed, size_px, size_px)
    _write_cog(
        folder / "demo_labels.tif",
        label[None],
        {"nodata": UNKNOWN},
        {"COMPRESS": "DEFLATE", "PREDICTOR": "NO", "OVERVIEW_RESAMPLING": "MODE"},
        seed,
        colormap=True,
    )
    _write_cog(
        folder / "demo.tif",
        np.moveaxis(image, 2, 0),
        {"photometric": "RGB"},
        {"COMPRESS": "JPEG", "QUALITY": "85", "OVERVIEW_RESAMPLING": "AVERAGE"},
        seed,
    )
    return folder / "demo.tif"


def _write_cog(
    path: Path,
    bands: npt.NDArray[np.uint8],
    profile: Mapping[str, Any],
    options: Mapping[str, str],
    seed: int,
    *,
    colormap: bool = False,
) -> None:
    """Write `bands`, `(bands, height, width)`, as a COG with 256 px blocks and overviews."""
    count, height, width = bands.shape
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tif")
    try:
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff",
                dtype="uint8",
                count=count,
                height=height,
                width=width,
                crs=CRS,
                transform=Affine(GSD_M, 0, WEST_M, 0, -GSD_M, NORTH_M),
                **profile,
            ) as dataset:
                dataset.write(bands)
                dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION=DESCRIPTION, LANDCOVER_DEMO_SEED=str(seed))
                if colormap:
                    table = palette(OPENEARTHMAP)
                    dataset.write_colormap(1, {value: tuple(map(int, table[value])) for value in range(256)})
            copy_raster(memory.name, str(temporary), driver="COG", BLOCKSIZE="256", **options)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
