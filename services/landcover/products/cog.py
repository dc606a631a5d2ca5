"""The class map and its confidence as Cloud-Optimized GeoTIFFs: what is in their headers, and the pass that fills them.

DEFLATE without predictor: every reader of GeoTIFFs has it, browsers too, and classes are no gradients. Bands lie one
after the other, since a palette and interleaved bands do not go together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from landcover.block import Histogram
from landcover.classes import UNKNOWN, LandCoverClass
from landcover.grid import GRID_VERSION, BlockIndex
from landcover.products.cog_file import TILE_PX, CogFile
from landcover.products.pyramid import Pixels, WindowTiles, build_pyramid, levels_of
from landcover.products.spec import Confidence, ProductSpec
from landcover.products.spool import Spool

MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"

CLASS_BAND = "land cover class"
CONFIDENCE_BAND = "confidence"
CONFIDENCE_SCALE = 1 / 255
"""What a pixel of the confidence is multiplied by: the top softmax probability."""

_MAPPING_SHARE = 0.95
"""Of the progress; the rest is putting the files together."""

_INT, _REAL, _TEXT = "0", "1", "2"
_TABLE = (
    ("Value", _INT, "5"),
    ("Class", _TEXT, "2"),
    ("Count", _REAL, "1"),
    ("Red", _INT, "6"),
    ("Green", _INT, "7"),
    ("Blue", _INT, "8"),
    ("Alpha", _INT, "9"),
)
"""Columns of the raster attribute table: name, GDALRATFieldType, GDALRATFieldUsage."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a product comes from, and what it lacks."""

    made_at: datetime
    """UTC."""
    holes: Mapping[BlockIndex, str]
    """Blocks that are missing, and why."""
    more: Mapping[str, str]
    """Whatever else its maker says of it, such as `software`."""


def transform_of(spec: ProductSpec) -> Affine:
    """(column, row) of the product → CRS of the scene."""
    return spec.grid.transform @ Affine.translation(spec.area.col_px, spec.area.row_px)


def write_cogs(
    spec: ProductSpec,
    spool: Spool,
    classes: Path,
    confidence: Path,
    *,
    layout: Confidence,
    provenance: Provenance,
    on_progress: Callable[[float], None],
) -> Histogram:
    """Write the class map, and its confidence where `layout` says, in one pass over the blocks.

    Args:
        spec: what it is of.
        spool: its finished blocks; those it lacks stay nodata.
        classes: the class map's file. Temporary files are made beside it.
        confidence: the confidence's, if it has one.
        layout: as in `Outputs`.
        provenance: for the tags.
        on_progress: is told the share that is done.

    Returns:
        Pixels, and summed confidence, of each class value.

    Raises:
        OSError: no room, or no permission.
        DestinationUnwritable: the spool is damaged.
    """
    levels = levels_of(spec)
    band = layout == "band"
    with ExitStack() as stack:
        files = [
            stack.enter_context(
                CogFile(classes.parent, "classes", _class_header(spec, provenance, band=band), levels, 1 + band)
            )
        ]
        if layout == "file":
            header = _confidence_header(spec, provenance)
            files.append(stack.enter_context(CogFile(classes.parent, "confidence", header, levels, 1)))

        def put(level: int, row: int, col: int, class_tile: Pixels, confidence_tile: Pixels) -> None:
            files[0].put(level, 0, row, col, class_tile)
            if layout != "none":
                files[-1].put(level, int(band), row, col, confidence_tile)

        counts = build_pyramid(
            WindowTiles(spec, spool, confidence=layout != "none"),
            levels,
            spec.model.contract.max_value,
            put,
            lambda share: on_progress(share * _MAPPING_SHARE),
        )
        for number, (file, path) in enumerate(zip(files, (classes, confidence), strict=False)):
            done = _MAPPING_SHARE + (1 - _MAPPING_SHARE) * number / len(files)
            part = (1 - _MAPPING_SHARE) / len(files)
            file.finish(path, lambda share, done=done, part=part: on_progress(done + part * share))  # type: ignore[misc]
    return counts


def attribute_table(classes: tuple[LandCoverClass, ...], counts: Histogram) -> bytes:
    """GDAL's sidecar `X.tif.aux.xml`: the names of the classes, and a raster attribute table with colours and counts.

    GDAL keeps neither inside a GeoTIFF.
    """
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    names = {each.value: each.name for each in classes} | {UNKNOWN: "unknown"}
    categories = ElementTree.SubElement(band, "CategoryNames")
    for value in range(max(names) + 1):
        ElementTree.SubElement(categories, "Category").text = names.get(value, "")
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_TABLE):
        field = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", name), ("Type", kind), ("Usage", usage)):
            ElementTree.SubElement(field, tag).text = text
    for index, each in enumerate(sorted(classes, key=lambda each: each.value)):
        row = ElementTree.SubElement(table, "Row", index=str(index))
        values = each.value, each.name, counts.pixels[each.value], *each.rgb, 255
        for text in map(str, values):
            ElementTree.SubElement(row, "F").text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root)


def _class_header(spec: ProductSpec, provenance: Provenance, *, band: bool) -> bytes:
    classes = spec.model.contract.classes
    with MemoryFile() as memory:
        with _template(memory, spec, count=1 + band, photometric="MINISBLACK" if band else "PALETTE") as image:
            image.write_colormap(1, {each.value: (*each.rgb, 255) for each in classes})
            image.update_tags(**_tags(spec, provenance, "Land cover"))
            image.update_tags(1, **{f"CLASS_{each.value}": each.name for each in classes})
            image.set_band_description(1, CLASS_BAND)
            if band:
                image.set_band_description(2, CONFIDENCE_BAND)
                image.scales = (1, CONFIDENCE_SCALE)
        return bytes(memory.getbuffer())


def _confidence_header(spec: ProductSpec, provenance: Provenance) -> bytes:
    with MemoryFile() as memory:
        with _template(memory, spec, count=1, photometric="MINISBLACK") as image:
            image.update_tags(**_tags(spec, provenance, "Confidence of the land cover"))
            image.set_band_description(1, CONFIDENCE_BAND)
            image.scales = (CONFIDENCE_SCALE,)
            image.colorinterp = (ColorInterp.gray,)
        return bytes(memory.getbuffer())


def _template(memory: MemoryFile, spec: ProductSpec, *, count: int, photometric: str) -> Any:
    """A file of one pixel, whose tags are all a large one's but size and tiles."""
    return memory.open(
        driver="GTiff",
        width=1,
        height=1,
        count=count,
        dtype="uint8",
        crs=rasterio.CRS.from_wkt(spec.grid.crs),
        transform=transform_of(spec),
        nodata=UNKNOWN,
        interleave="band",
        photometric=photometric,
    )


def _tags(spec: ProductSpec, provenance: Provenance, title: str) -> dict[str, str]:
    area, model = spec.area, spec.model
    tags = {
        "TIFFTAG_IMAGEDESCRIPTION": f"{title} of {spec.scene.source.title or spec.scene.id} by {model.name} "
        f"{model.contract.version}",
        "TIFFTAG_DATETIME": provenance.made_at.strftime("%Y:%m:%d %H:%M:%S"),
        "SCENE_ID": spec.scene.id,
        "SCENE_VERSION": spec.scene.version,
        "MODEL_NAME": model.name,
        "MODEL_VERSION": model.contract.version,
        "MODEL_DIGEST": model.digest,
        "MODEL_CONTRACT": model.contract.model_dump_json(exclude_none=True),
        "CLASSES": json.dumps([each.model_dump() for each in model.contract.classes]),
        "GRID_VERSION": str(GRID_VERSION),
        "GRID_DECIMATION": str(spec.grid.decimation),
        "GRID_BLOCK_PX": str(spec.grid.block_px),
        "GRID_WINDOW": json.dumps([area.row_px, area.col_px, area.height_px, area.width_px]),
        "CLIPPED": str(area.clipped).lower(),
        "HOLES": json.dumps([[index.row, index.col, reason] for index, reason in provenance.holes.items()]),
        "OVERVIEWS": "majority of all pixels" if title == "Land cover" else "mean of all pixels",
        "TILE_PX": str(TILE_PX),
    } | {key.upper(): value for key, value in provenance.more.items()}
    if software := provenance.more.get("software"):
        tags["TIFFTAG_SOFTWARE"] = software
    if attribution := spec.scene.source.attribution:
        tags["TIFFTAG_COPYRIGHT"] = attribution
    return tags
