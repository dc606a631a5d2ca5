"""Products made by code: a spec and a spool over maps that are drawn in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from landcover import block
from landcover.classes import OPENEARTHMAP
from landcover.contract import Contract, GsdRange, ModelFile
from landcover.geodesy import ground_sample_distance_m
from landcover.grid import BlockIndex, Grid
from landcover.products.area import ProductArea, whole_grid
from landcover.products.spec import ProductSpec
from landcover.products.spool import Spool
from landcover.scene import Scene, SceneSource
from rasters import HALF_METRE, UTM54

DIGEST = "sha256:" + "ab" * 32


def spec_of(
    height: int,
    width: int,
    *,
    block_px: int = 512,
    area: ProductArea | None = None,
    transform: Affine = HALF_METRE,
    crs: str = UTM54,
) -> ProductSpec:
    """A product of a scene of so many pixels, all of it unless `area` says otherwise."""
    wkt = rasterio.CRS.from_user_input(crs).to_wkt()
    gsd_m = ground_sample_distance_m(wkt, transform, width, height)
    scene = Scene(
        source=SceneSource(id="field", location="field.tif", attribution="Someone"),
        version="0123456789abcdef",
        crs=wkt,
        crs_name=crs,
        transform=transform,
        width_px=width,
        height_px=height,
        bands=(1, 2, 3),
        dtype="uint8",
        overviews=(),
        gsd_m=gsd_m,
        bounds_wgs84=(140.0, 36.0, 140.1, 36.1),
    )
    contract = Contract(
        name="pixels",
        version="1",
        classes=OPENEARTHMAP,
        gsd=GsdRange(min_m=0.2, max_m=2.0),
        window_px=block_px + 64,
        halo_px=32,
    )
    grid = Grid(
        crs=wkt,
        transform=transform,
        width_px=width,
        height_px=height,
        decimation=1,
        block_px=block_px,
        gsd_m=gsd_m,
    )
    model = ModelFile(path=Path("pixels.onnx"), digest=DIGEST, contract=contract)
    return ProductSpec(scene=scene, model=model, grid=grid, area=area or whole_grid(grid))


def drawn_map(height: int, width: int, *, seed: int = 0, speckles: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Patches of all eight classes, and its confidence, both `(height, width)`.

    A share of `speckles` of the pixels is of any class, and as many are unknown.
    """
    random = np.random.default_rng(seed)
    cells = random.integers(1, 9, (height // 37 + 2, width // 37 + 2), dtype=np.uint8)
    rows = (np.arange(height)[:, None] + 9 * np.sin(np.arange(width) / 23)).clip(0).astype(int) // 37
    cols = (np.arange(width)[None, :] + 9 * np.sin(np.arange(height)[:, None] / 17)).clip(0).astype(int) // 37
    classes = cells[rows.clip(max=len(cells) - 1), cols.clip(max=cells.shape[1] - 1)]
    chance = random.random((height, width))
    classes = np.where(chance < speckles, random.integers(1, 9, (height, width), dtype=np.uint8), classes)
    classes[chance > 1 - speckles] = 0
    confidence = random.integers(1, 256, (height, width), dtype=np.uint8)
    confidence[classes == 0] = 0
    return classes, confidence


def fill_spool(spool: Spool, spec: ProductSpec, classes: np.ndarray, confidence: np.ndarray, holes: tuple = ()) -> None:
    """Cut whole-scene maps into blocks as a worker would, and keep those that the product needs but for `holes`."""
    side, max_value = spec.grid.block_px, spec.model.contract.max_value
    beyond = (0, spec.grid.rows * side - spec.grid.height_px), (0, spec.grid.cols * side - spec.grid.width_px)
    classes, confidence = np.pad(classes, beyond), np.pad(confidence, beyond)
    for index in spec.area.blocks(spec.grid):
        if index in holes:
            continue
        place = cut(index, side)
        spool.put([(index, block.encode(classes[place], confidence[place], max_value))])


def cut(index: BlockIndex, side: int) -> tuple[slice, slice]:
    """Where a block lies."""
    return slice(index.row * side, (index.row + 1) * side), slice(index.col * side, (index.col + 1) * side)
