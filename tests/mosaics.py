"""Mosaics made by cutting one image up, and scenes over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from landcover.mosaic.mosaic import MosaicScene
from landcover.mosaic.options import MosaicOptions
from landcover.scene import SceneSource, current_version, describe
from landcover.settings import ReadSettings
from rasters import HALF_METRE, write_tif


def cut(
    folder: Path,
    pixels: np.ndarray,
    *,
    rows: tuple[int, ...],
    cols: tuple[int, ...],
    overlap: int = 0,
    transform: Affine = HALF_METRE,
    mask: np.ndarray | None = None,
    **profile: Any,
) -> list[Path]:
    """`pixels` as images whose borders are at `rows` and `cols`, each reaching `overlap` px further on all sides."""
    folder.mkdir(exist_ok=True)
    height, width = pixels.shape[:2]
    paths = []
    for i, (top, bottom) in enumerate(zip((0, *rows), (*rows, height), strict=True)):
        for j, (left, right) in enumerate(zip((0, *cols), (*cols, width), strict=True)):
            y, x = max(0, top - overlap), max(0, left - overlap)
            part = slice(y, min(height, bottom + overlap)), slice(x, min(width, right + overlap))
            paths.append(
                write_tif(
                    folder / f"{i}{j}.tif",
                    pixels[part],
                    transform=transform @ Affine.translation(x, y),
                    mask=None if mask is None else mask[part],
                    **profile,
                )
            )
    return paths


def mosaic_source(
    location: Path | str, *, scene: str = "mosaic", bands: Any = None, rescale: Any = None, **options: Any
) -> SceneSource:
    """The source of a mosaic."""
    return SceneSource(
        id=scene, location=str(location), bands=bands, rescale=rescale, mosaic=MosaicOptions.model_validate(options)
    )


def mosaic_of(location: Path | str, settings: ReadSettings, **options: Any) -> MosaicScene:
    """The mosaic at a location."""
    source = mosaic_source(location, **options)
    scene = describe(source, current_version(source, settings), settings)
    assert isinstance(scene, MosaicScene)
    return scene
