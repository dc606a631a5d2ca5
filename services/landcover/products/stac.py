"""The STAC Item beside a product: where it is, what its files are, which model made it, and of what.

Extensions: projection, raster, classification, file, processing, and MLM for the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pystac
import shapely
from pyproj import CRS
from pystac.extensions.classification import Classification, ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import (
    InputStructure,
    MLMExtension,
    ModelInput,
    ModelOutput,
    ResultStructure,
    TaskType,
)
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import DataType, RasterBand, RasterExtension

from landcover.block import Histogram
from landcover.classes import UNKNOWN
from landcover.contract import Contract
from landcover.geodesy import WGS84, apply, outline, transformer
from landcover.products.cog import CONFIDENCE_SCALE, Provenance, transform_of
from landcover.products.delivery import ProductFile, Role
from landcover.products.spec import ProductSpec
from landcover.scene import public_location

MEDIA_TYPE = "application/geo+json"

PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"

_SEGMENTS = 8
_DECIMALS = 7
"""Of a degree: a centimetre."""

_SHA256 = "1220"
"""Of a multihash: the function, and 32 bytes."""

_ASSETS: dict[Role, tuple[str, str, list[str]]] = {
    "classes": ("landcover", "Land cover", ["data"]),
    "names": ("names", "Names, colours and counts of the classes for GDAL and QGIS", ["metadata"]),
    "confidence": ("confidence", "Confidence of the land cover", ["data", "confidence"]),
    "vectors": ("polygons", "Land cover as polygons", ["data"]),
    "pmtiles": ("tiles", "Land cover as map tiles", ["visual"]),
}
"""Role of the file → key, title and roles of the asset."""


def make_item(
    spec: ProductSpec,
    name: str,
    files: Sequence[ProductFile],
    counts: Histogram,
    *,
    confidence_band: bool,
    provenance: Provenance,
) -> bytes:
    """The item as JSON. Links and assets are relative to it.

    The date of the image is not known, so `datetime` is when it was mapped, as `created` is.

    Args:
        spec: what the product is of.
        name: the item's id.
        files: the product's other files.
        counts: pixels of each class value.
        confidence_band: whether the class map has a second band.
        provenance: as in the files' tags.
    """
    footprint = footprint_wgs84(spec)
    item = pystac.Item(
        id=name,
        geometry=shapely.geometry.mapping(footprint),
        bbox=_bbox(footprint),
        datetime=provenance.made_at,
        properties={"created": _rfc3339(provenance.made_at), "title": f"Land cover of {spec.scene.id}"}
        | _processing(spec, provenance),
        stac_extensions=[PROCESSING],
    )
    if spec.scene.source.attribution:
        item.properties["attribution"] = spec.scene.source.attribution
    _add_projection(item, spec)
    _add_model(item, spec)
    for file in files:
        _add_file(item, file)
    _describe_rasters(item, spec, counts, confidence_band=confidence_band)
    if spec.scene.source.is_remote:
        item.add_link(pystac.Link("derived_from", public_location(spec.scene.source), title=spec.scene.id))
    return json.dumps(item.to_dict(include_self_link=False), indent=1).encode()


def footprint_wgs84(spec: ProductSpec) -> shapely.Polygon | shapely.MultiPolygon:
    """Outline of the window, degrees; in two parts, if it crosses the antimeridian (RFC 7946 3.1.9)."""
    cols, rows = outline(0, 0, spec.area.width_px, spec.area.height_px, segments=_SEGMENTS)
    lon, lat = transformer(spec.grid.crs, WGS84).transform(*apply(transform_of(spec), cols, rows))
    away = np.asarray(lon) - lon[0]
    lon = lon - 360 * (away > 180) + 360 * (away < -180)
    shape = shapely.Polygon(np.column_stack([lon, lat]).round(_DECIMALS))
    parts = []
    for turn in (-360, 0, 360):
        part = shapely.intersection(shape, shapely.box(turn - 180, -90, turn + 180, 90))
        if part.area > 0:
            parts.append(shapely.orient_polygons(shapely.affinity.translate(part, -turn)))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(sorted(parts, key=lambda part: -part.bounds[0]))


def _bbox(footprint: shapely.Polygon | shapely.MultiPolygon) -> list[float]:
    """West, south, east, north; across the antimeridian west is the greater."""
    parts = shapely.get_parts(footprint)
    _, south, _, north = footprint.bounds
    return [parts[0].bounds[0], south, parts[-1].bounds[2], north]


def _processing(spec: ProductSpec, provenance: Provenance) -> dict[str, Any]:
    software, _, version = provenance.more.get("software", "landcover-tiles").partition(" ")
    holes = [[index.row, index.col, reason] for index, reason in provenance.holes.items()]
    area = spec.area
    return {
        "processing:datetime": _rfc3339(provenance.made_at),
        "processing:level": "L4",
        "processing:lineage": f"Scene {spec.scene.id}, version {spec.scene.version}, at "
        f"{spec.grid.gsd_m:.3g} m a pixel, mapped by the model {spec.model.name} {spec.model.contract.version} "
        f"({spec.model.digest}).",
        "processing:software": {software: version},
        "landcover:scene": spec.scene.id,
        "landcover:scene_version": spec.scene.version,
        "landcover:model_digest": spec.model.digest,
        "landcover:window": [area.row_px, area.col_px, area.height_px, area.width_px],
        "landcover:clipped": area.clipped,
        "landcover:holes": holes,
    }


def _add_projection(item: pystac.Item, spec: ProductSpec) -> None:
    crs = CRS.from_user_input(spec.grid.crs)
    code = crs.to_authority()
    transform, area = transform_of(spec), spec.area
    cols, rows = outline(0, 0, area.width_px, area.height_px, segments=1)
    x, y = apply(transform, cols, rows)
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=":".join(code) if code else None,
        wkt2=crs.to_wkt(),
        bbox=[float(x.min()), float(y.min()), float(x.max()), float(y.max())],
        shape=[area.height_px, area.width_px],
        transform=list(transform)[:6],
    )


def _add_model(item: pystac.Item, spec: ProductSpec) -> None:
    contract, digest = spec.model.contract, spec.model.digest
    side = contract.window_px
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=contract.name,
        architecture=contract.architecture or "unknown",
        tasks=[TaskType.SEMANTIC_SEGMENTATION],
        framework="ONNX",
        input=[
            ModelInput.create(
                name="image",
                bands=["red", "green", "blue"],
                input=InputStructure.create(
                    shape=[-1, side, side, 3],
                    dim_order=["batch", "height", "width", "channel"],
                    data_type=DataType.UINT8,
                ),
                description=f"{contract.gsd.min_m:g} to {contract.gsd.max_m:g} m a pixel; "
                f"{contract.halo_px} px around are context.",
            )
        ],
        output=[
            ModelOutput.create(
                name=name,
                tasks=[TaskType.SEMANTIC_SEGMENTATION],
                result=ResultStructure.create(
                    shape=[-1, side, side], dim_order=["batch", "height", "width"], data_type=DataType.UINT8
                ),
                classes=_classes(contract) if name == "classes" else None,
                description=what,
            )
            for name, what in (("classes", "Class values"), ("confidence", "Top softmax probability × 255"))
        ],
    )
    item.add_asset(
        "model",
        pystac.Asset(
            href=f"urn:{digest}",
            title=f"{contract.name} {contract.version}",
            description="The ONNX file with this digest; its contract is in the class map's tag MODEL_CONTRACT.",
            media_type="application/octet-stream; framework=onnx",
            roles=["mlm:model"],
            extra_fields={"mlm:artifact_type": "onnx"},
        ),
    )
    FileExtension.ext(item.assets["model"], add_if_missing=True).apply(checksum=_SHA256 + digest.partition(":")[2])


def _add_file(item: pystac.Item, file: ProductFile) -> None:
    key, title, roles = _ASSETS[file.role]
    item.add_asset(key, pystac.Asset(href=f"./{file.name}", title=title, media_type=file.media_type, roles=roles))
    FileExtension.ext(item.assets[key], add_if_missing=True).apply(size=file.size_bytes, checksum=_SHA256 + file.sha256)


def _describe_rasters(item: pystac.Item, spec: ProductSpec, counts: Histogram, *, confidence_band: bool) -> None:
    def band(scale: float | None) -> RasterBand:
        return RasterBand.create(
            nodata=UNKNOWN, data_type=DataType.UINT8, spatial_resolution=spec.grid.gsd_m, scale=scale
        )

    classes = item.assets["landcover"]
    bands = [band(None), band(CONFIDENCE_SCALE)] if confidence_band else [band(None)]
    RasterExtension.ext(classes, add_if_missing=True).apply(bands)
    ClassificationExtension.ext(classes, add_if_missing=True).classes = _classes(spec.model.contract, counts)
    if "confidence" in item.assets:
        RasterExtension.ext(item.assets["confidence"], add_if_missing=True).apply([band(CONFIDENCE_SCALE)])


def _classes(contract: Contract, counts: Histogram | None = None) -> list[Classification]:
    return [
        Classification.create(
            value=each.value,
            name=re.sub(r"[^0-9A-Za-z_-]", "_", each.name),
            title=each.name,
            description=each.name,
            color_hint=each.color[1:].upper(),
            count=None if counts is None else int(counts.pixels[each.value]),
        )
        for each in contract.classes
    ]


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
