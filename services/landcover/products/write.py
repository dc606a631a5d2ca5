"""Placeholder by the lead until the helper "products" commits the real one: same interface, whole map in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from affine import Affine
from pydantic import BaseModel, ConfigDict

from landcover import block
from landcover.grid import BlockIndex
from landcover.products.spec import Outputs, ProductSpec
from landcover.products.spool import Spool

Role = Literal["classes", "confidence", "vectors", "pmtiles", "item"]


class ProductFile(BaseModel):
    """One file of a product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    location: str
    media_type: str
    size_bytes: int
    sha256: str


def write_products(
    spec: ProductSpec,
    spool: Spool,
    destination: str,
    outputs: Outputs,
    *,
    holes: Mapping[BlockIndex, str],
    provenance: Mapping[str, str],
    work_folder: Path,
    on_progress: Callable[[str, float], None],
) -> list[ProductFile]:
    """Write the files of a product."""
    area, grid, side = spec.area, spec.grid, spec.grid.block_px
    files = []
    for role, layer in (("classes", "class"), ("confidence", "confidence")):
        rows, cols = area.block_rows(grid), area.block_cols(grid)
        full = np.zeros((len(rows) * side, len(cols) * side), np.uint8)
        for row in rows:
            for index, (data,) in spool.row(row, [block.field(layer, 0)]):  # type: ignore[arg-type]
                if index.col not in cols:
                    continue
                part = block.decode(data, side)
                inside = area.inside(grid, index)
                if inside is not None:
                    part = np.where(inside, part, 0)
                top, left = (row - rows.start) * side, (index.col - cols.start) * side
                full[top : top + side, left : left + side] = part
            on_progress(f"writing {role}", (row - rows.start) / len(rows))
        top, left = area.row_px - rows.start * side, area.col_px - cols.start * side
        cut = full[top : top + area.height_px, left : left + area.width_px]
        path = Path(destination)
        if role == "confidence":
            path = path.with_suffix(".confidence.tif")
        transform = grid.transform @ Affine.translation(area.col_px, area.row_px)
        with rasterio.open(
            path, "w", driver="COG", dtype="uint8", count=1, width=area.width_px, height=area.height_px,
            crs=grid.crs, transform=transform, nodata=0, compress="deflate", overview_resampling="mode",
        ) as image:  # fmt: skip
            image.write(cut, 1)
        content = path.read_bytes()
        files.append(
            ProductFile(
                role=role,  # type: ignore[arg-type]
                location=str(path),
                media_type="image/tiff; application=geotiff; profile=cloud-optimized",
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
        )
    return files
