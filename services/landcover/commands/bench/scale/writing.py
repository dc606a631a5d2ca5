"""How fast files of a product are written, once its blocks are there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from landcover.catalog import demo_model_path
from landcover.commands.bench.scale.finisher import made_up_fields
from landcover.commands.bench.scale.parts import VERSION, indices, made_up_grid
from landcover.contract import read_model
from landcover.grid import Grid
from landcover.products.area import whole_grid
from landcover.products.cog import Provenance, write_cogs
from landcover.products.spec import ProductSpec
from landcover.products.spool import Spool
from landcover.scene import Scene, SceneSource


@dataclass(frozen=True, kw_only=True)
class Writing:
    """A COG of classes, and one of confidence if that was wanted."""

    confidence: bool
    blocks: int
    block_px: int
    seconds: float
    mpx_per_s: float
    """By the clock."""
    cpu_ms: float
    """Processor time a block."""
    class_bytes: int
    confidence_bytes: int


def measure_writing(folder: Path, blocks: int, *, block_px: int, blobs: int) -> list[Writing]:
    """Put `blocks` made-up blocks into a spool and write the product of it, without confidence and with it.

    Raises:
        LandcoverError: the disk is full.
    """
    folder.mkdir()
    grid = made_up_grid(blocks, block_px, cols=min(blocks, 20))
    spec = ProductSpec(scene=_scene(grid), model=read_model(demo_model_path()), grid=grid, area=whole_grid(grid))
    fields = made_up_fields(block_px, blobs)
    with Spool(folder / "spool", "bench") as spool:
        for index in indices(blocks, cols=grid.cols):
            spool.put([(index, fields)])
        return [_write(folder, spec, spool, blocks, confidence=confidence) for confidence in (False, True)]


def _write(folder: Path, spec: ProductSpec, spool: Spool, blocks: int, *, confidence: bool) -> Writing:
    maps = folder / "map.tif", folder / "map.confidence.tif"
    provenance = Provenance(made_at=datetime.now(UTC), holes={}, more={})
    begin, used = time.perf_counter(), time.process_time()
    write_cogs(
        spec,
        spool,
        *maps,
        layout="file" if confidence else "none",
        provenance=provenance,
        on_progress=lambda _: None,
    )
    seconds, cpu_s = time.perf_counter() - begin, time.process_time() - used
    return Writing(
        confidence=confidence,
        blocks=blocks,
        block_px=spec.grid.block_px,
        seconds=seconds,
        mpx_per_s=blocks * spec.grid.block_px**2 / 1e6 / seconds,
        cpu_ms=cpu_s * 1000 / blocks,
        class_bytes=maps[0].stat().st_size,
        confidence_bytes=maps[1].stat().st_size if confidence else 0,
    )


def _scene(grid: Grid) -> Scene:
    return Scene(
        source=SceneSource(id="nowhere", location="/nowhere.tif"),
        version=VERSION,
        crs=grid.crs,
        crs_name="EPSG:3857",
        transform=grid.transform,
        width_px=grid.width_px,
        height_px=grid.height_px,
        bands=(1, 2, 3),
        dtype="uint8",
        overviews=(),
        gsd_m=grid.gsd_m,
        bounds_wgs84=(0.0, 0.0, 1.0, 1.0),
    )
