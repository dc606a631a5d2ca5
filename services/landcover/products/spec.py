"""What a product is of: everything about it but its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from landcover.contract import ModelFile
from landcover.grid import Grid
from landcover.products.area import ProductArea
from landcover.scene import Scene

Confidence = Literal["none", "file", "band"]
Vectors = Literal["none", "flatgeobuf", "geoparquet"]


@dataclass(frozen=True, kw_only=True)
class ProductSpec:
    """A part of a scene as one model maps it."""

    scene: Scene
    model: ModelFile
    grid: Grid
    area: ProductArea


class Outputs(BaseModel):
    """Which files a product has, beside the class map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: Confidence = "file"
    """The model's confidence: not written, a second file, or a second band of the class map."""
    vectors: Vectors = "none"
    """The class map as polygons."""
    pmtiles: bool = False
    """The rendered map as one file of tiles."""
