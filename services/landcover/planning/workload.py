"""How much there is to map: of a scene or a part of it, or of so many square kilometres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import shapely

from landcover.contract import ModelFile
from landcover.errors import InvalidRequest, SceneTooCoarse
from landcover.grid import choose_decimation
from landcover.mapping.request import count_blocks
from landcover.planning.imagery import Imagery
from landcover.products.spec import ProductSpec

EQUATOR_PX_M = 2 * math.pi * 6_378_137 / 256
"""A pixel of Web Mercator's one tile of zoom 0, at the equator."""

ECCENTRICITY_SQUARED = 0.00669437999014
"""Of the ellipsoid WGS 84."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Blocks to be made, and the imagery that they are made from."""

    name: str
    """Of the scene, or what was asked for in its place."""
    model: str
    gsd_m: float
    """Of the map, metres."""
    decimation: int
    """Pixels of the imagery for one of the map, along each axis."""
    block_px: int
    halo_px: int
    blocks: int
    pixels: int
    """Of the finished map. Blocks reach beyond its edges, so they have more."""
    imagery: Imagery

    @property
    def window_px(self) -> int:
        """Side of what the network sees for a block."""
        return self.block_px + 2 * self.halo_px


def workload_of(spec: ProductSpec, imagery: Imagery) -> Workload:
    """Of a product of a scene."""
    return Workload(
        name=spec.scene.id,
        model=spec.model.name,
        gsd_m=spec.grid.gsd_m,
        decimation=spec.grid.decimation,
        block_px=spec.grid.block_px,
        halo_px=spec.model.contract.halo_px,
        blocks=count_blocks(spec),
        pixels=_pixels(spec),
        imagery=imagery,
    )


def workload_of_area(area_km2: float, gsd_m: float, model: ModelFile, imagery: Imagery) -> Workload:
    """Of an area whose shape is not known, so large that the blocks on its edge do not count.

    Args:
        area_km2: on the ground.
        gsd_m: of the imagery, metres.
        model: that maps it.
        imagery: where pixels come from.

    Raises:
        SceneTooCoarse: the model was trained for finer imagery.
    """
    contract = model.contract
    decimation = choose_decimation(gsd_m, contract.gsd)
    if decimation is None:
        raise SceneTooCoarse(
            f"Imagery of {gsd_m:g} m is too coarse for model '{model.name}', trained for {contract.gsd.min_m:g} to "
            f"{contract.gsd.max_m:g} m: use finer imagery or a model for coarser."
        )
    pixels = area_km2 * 1e6 / (gsd_m * decimation) ** 2
    return Workload(
        name=f"{area_km2:,.6g} km² at {gsd_m:.3g} m",
        model=model.name,
        gsd_m=gsd_m * decimation,
        decimation=decimation,
        block_px=contract.block_px,
        halo_px=contract.halo_px,
        blocks=math.ceil(pixels / contract.block_px**2),
        pixels=round(pixels),
        imagery=imagery,
    )


def gsd_of_zoom(zoom: int, latitude: float) -> float:
    """Side in metres of a square with the ground area of a pixel of WebMercatorQuad's 256 px tiles at a latitude.

    Web Mercator projects the ellipsoid's latitude as if it were a sphere's, so its scale is a / N(φ) cos φ along the
    parallel and a / M(φ) cos φ along the meridian; N and M are the radii of curvature (Snyder, "Map Projections",
    USGS 1395, 4-18 to 4-20).

    Raises:
        InvalidRequest: there is no such zoom, or no such place on the map.
    """
    if not 0 <= zoom <= 24:
        raise InvalidRequest(f"--zoom {zoom} is none; they run from 0 to 24.")
    if not abs(latitude) <= 85:
        raise InvalidRequest(f"--latitude {latitude:g} is not on the map; it reaches from -85 to 85.")
    sine = math.sin(math.radians(latitude))
    flattening = 1 - ECCENTRICITY_SQUARED * sine**2
    along_parallel = 1 / math.sqrt(flattening)
    along_meridian = (1 - ECCENTRICITY_SQUARED) / flattening**1.5
    shrunk = math.cos(math.radians(latitude)) * math.sqrt(along_parallel * along_meridian)
    return float(EQUATOR_PX_M / 2**zoom * shrunk)


def _pixels(spec: ProductSpec) -> int:
    """Of the map, without what lies beyond the scene or outside the region."""
    area = spec.area
    if area.region is None:
        return area.height_px * area.width_px
    scene = shapely.box(0, -spec.grid.height_px, spec.grid.width_px, 0)
    return round(float(shapely.intersection(area.region.shape, scene).area))
