"""What is asked of a map: a scene, a model, an area, and which files come of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self

import shapely
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pyproj.exceptions import ProjError

from landcover.contract import ModelFile
from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84
from landcover.grid import GRID_VERSION, grid_for
from landcover.products.area import area_of, whole_grid
from landcover.products.spec import Outputs, ProductSpec
from landcover.scene import Scene
from landcover.statistics.geojson import read_asked
from landcover.statistics.region import Area, is_geographic, polygon_region

MOST_FEATURES = 1000
MOST_VERTICES = 200_000


class MapRequest(BaseModel):
    """A part of a scene, or all of it, to be mapped into a product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scene: str
    model: str
    """Digest."""
    bbox: tuple[float, float, float, float] | None = None
    """xmin, ymin, xmax, ymax; across the antimeridian xmin is the greater. The product is a window that holds it."""
    geometry: dict[str, Any] | None = None
    """GeoJSON of areas: a Feature, a FeatureCollection or a geometry. What lies outside is left out."""
    crs: str = WGS84
    """Of the coordinates, as anything pyproj reads; x comes first."""
    outputs: Outputs = Field(default_factory=Outputs)
    allow_missing: bool = False
    """Make the product although blocks cannot be had, and declare its holes."""

    @model_validator(mode="after")
    def _one_area(self) -> Self:
        if self.bbox is not None and self.geometry is not None:
            raise ValueError("give bbox or geometry, not both")
        if self.bbox is not None and self.bbox[1] >= self.bbox[3]:
            raise ValueError("bbox is xmin, ymin, xmax, ymax: its ymin must be less than its ymax")
        return self

    def job_id(self, version: str) -> str:
        """The same for whoever asks the same of the same image.

        Also with and without leave for holes: who gives it after a job has failed goes on with what that has finished.
        """
        asked = self.model_dump(mode="json", exclude={"allow_missing"})
        document = json.dumps([GRID_VERSION, version, asked], sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()[:32]


def plan(request: MapRequest, scene: Scene, model: ModelFile) -> ProductSpec:
    """The product that is asked for.

    Raises:
        InvalidRequest: the area is none, or lies outside the scene.
        RequestTooLarge: it has too many vertices.
    """
    grid = grid_for(scene, model.contract)
    drawn = _drawn(request)
    if drawn is None:
        return ProductSpec(scene=scene, model=model, grid=grid, area=whole_grid(grid))
    try:
        region = polygon_region(grid, request.crs, drawn)
    except ProjError:
        raise InvalidRequest("Nothing leads from the area's CRS to the scene's; name a CRS of the Earth.") from None
    return ProductSpec(
        scene=scene, model=model, grid=grid, area=area_of(grid, region, clip=request.geometry is not None)
    )


def count_blocks(spec: ProductSpec) -> int:
    """How many blocks the product needs."""
    rows = spec.area.block_rows(spec.grid)
    if spec.area.region is None:
        return len(rows) * len(spec.area.block_cols(spec.grid))
    return sum(len(spec.area.blocks_of_row(spec.grid, row)) for row in rows)


def _drawn(request: MapRequest) -> Area | None:
    if request.bbox is not None:
        xmin, ymin, xmax, ymax = request.bbox
        if xmin >= xmax:
            if not (is_geographic(request.crs) and xmax + 360 > xmin):
                raise InvalidRequest("bbox is xmin, ymin, xmax, ymax: its xmin must be less than its xmax.")
            xmax += 360
        return shapely.box(xmin, ymin, xmax, ymax)
    if request.geometry is None:
        return None
    asked = read_asked(request.geometry, max_features=MOST_FEATURES, max_vertices=MOST_VERTICES)
    together: Area = shapely.union_all([each.geometry for each in asked])
    return together
