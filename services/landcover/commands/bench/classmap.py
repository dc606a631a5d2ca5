"""The finished map of a part of the scene as a Cloud-Optimized GeoTIFF with its colours, as other servers want it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import rasterio
from rasterio.shutil import copy as copy_raster

from landcover import block
from landcover.classes import palette
from landcover.commands.bench.queueing import map_blocks
from landcover.commands.bench.service import Service
from landcover.commands.bench.subject import Subject
from landcover.grid import BlockIndex

SIDE_BLOCKS = 4
"""Of the part, from the scene's origin on."""


def mapped_part(subject: Subject) -> list[BlockIndex]:
    """The blocks around the origin that the map shows."""
    return [each for each in subject.whole_blocks() if max(each.row, each.col) < SIDE_BLOCKS]


def write_class_map(service: Service, folder: Path) -> Path:
    """Have the blocks around the origin mapped and write their classes.

    Raises:
        LandcoverError: a block cannot be made.
    """
    subject = service.subject
    part = mapped_part(subject)
    map_blocks(service, part)
    classes = _assemble(service, part)
    plain, path = folder / "plain.tif", folder / "map.tif"
    height, width = classes.shape
    with rasterio.open(
        plain,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=1,
        height=height,
        width=width,
        crs=subject.grid.crs,
        transform=subject.grid.transform,
        nodata=0,
    ) as image:
        image.write(classes, 1)
        colors = palette(subject.model.contract.classes)
        image.write_colormap(1, {value: tuple(rgba) for value, rgba in enumerate(colors.tolist())})
    options = {"BLOCKSIZE": "256", "COMPRESS": "DEFLATE", "OVERVIEW_RESAMPLING": "MODE"}
    copy_raster(str(plain), str(path), driver="COG", **options)
    plain.unlink()
    return path


def _assemble(service: Service, part: list[BlockIndex]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    side, blocks = service.subject.grid.block_px, service.subject.blocks
    rows, cols = max(each.row for each in part) + 1, max(each.col for each in part) + 1
    classes = np.zeros((rows * side, cols * side), np.uint8)
    for index in part:
        data = cast(bytes, service.cache.hget(blocks.key(index).block, block.field("class", 0)))
        at = slice(index.row * side, (index.row + 1) * side), slice(index.col * side, (index.col + 1) * side)
        classes[at] = block.decode(data, side)
    return classes
