"""Distances and areas on the ground (WGS 84 ellipsoid), whatever the CRS makes of them.

EPSG:3857 inflates lengths by 1/cos(latitude), areas by its square: 1.5× at 36° N. Geographic CRSs have no
metres at all. So every ground figure comes from geodesics (Karney, "Algorithms for geodesics", J. Geodesy
87, 2013, as in pyproj.Geod).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import CRS, Geod, Transformer

WGS84 = "OGC:CRS84"
_GEOD = Geod(ellps="WGS84")


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> Transformer:
    """Coordinates of `source` → `target`, x before y; both as anything pyproj reads (WKT, `EPSG:…`).

    pyproj's transformers may be shared by threads.
    """
    return Transformer.from_crs(CRS.from_user_input(source), CRS.from_user_input(target), always_xy=True)


def outline(x0: float, y0: float, x1: float, y1: float, *, segments: int) -> npt.NDArray[np.float64]:
    """The rectangle's outline with `segments` points a side, `(2, 4 × segments)`, x then y, not closed."""
    t = np.arange(segments) / segments
    x = np.concatenate([x0 + (x1 - x0) * t, np.full(segments, x1), x1 + (x0 - x1) * t, np.full(segments, x0)])
    y = np.concatenate([np.full(segments, y0), y0 + (y1 - y0) * t, np.full(segments, y1), y1 + (y0 - y1) * t])
    return np.stack([x, y])


def window_area_m2(
    crs: str, transform: Affine, *, col_px: float, row_px: float, width_px: float, height_px: float
) -> float:
    """Geodesic area of a window of a raster, m².

    `transform` maps (column, row) to `crs`; the outline is followed at eight points a side, since a straight
    line of the CRS is no geodesic.
    """
    cols, rows = outline(col_px, row_px, col_px + width_px, row_px + height_px, segments=8)
    x, y = apply(transform, cols, rows)
    return geodesic_area_m2(*transformer(crs, WGS84).transform(x, y))


def geodesic_area_m2(lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]) -> float:
    """Area of a ring of longitudes and latitudes, `(points,)` each in degrees, either way round."""
    area, _ = _GEOD.polygon_area_perimeter(lon, lat)
    return abs(float(area))


def ground_sample_distance_m(crs: str, transform: Affine, width_px: int, height_px: int) -> float:
    """Side of a square with the ground area of the raster's centre pixel, in metres.

    One pixel of a projected CRS can be smaller than a geodesic's rounding, so sixteen by sixteen are measured.
    """
    side = 16.0
    area = window_area_m2(
        crs,
        transform,
        col_px=(width_px - side) / 2,
        row_px=(height_px - side) / 2,
        width_px=side,
        height_px=side,
    )
    return math.sqrt(area) / side


def apply(transform: Affine, cols: Any, rows: Any) -> tuple[Any, Any]:
    """`transform` of arrays (or numbers) of columns and rows, element by element."""
    return (
        transform.a * cols + transform.b * rows + transform.c,
        transform.d * cols + transform.e * rows + transform.f,
    )
