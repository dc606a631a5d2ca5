"""Ground distances and areas against closed formulas of the ellipsoid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS

from landcover.geodesy import (
    WGS84,
    geodesic_area_m2,
    ground_sample_distance_m,
    outline,
    transformer,
    window_area_m2,
)

A_M, F = 6378137.0, 1 / 298.257223563
E2 = F * (2 - F)
E = math.sqrt(E2)


def band_area_m2(south: float, north: float, degrees: float) -> float:
    """Area between two parallels and two meridians of WGS 84 (Snyder 1987, eq. 3-12)."""

    def q(latitude: float) -> float:
        s = math.sin(math.radians(latitude))
        return (1 - E2) * (s / (1 - E2 * s * s) - math.log((1 - E * s) / (1 + E * s)) / (2 * E))

    return A_M**2 / 2 * math.radians(degrees) * (q(north) - q(south))


def pixel_side_m(latitude: float, degrees: float) -> float:
    """Side of the square as large as a pixel of `degrees` (radii of curvature of the ellipsoid)."""
    w = 1 - E2 * math.sin(math.radians(latitude)) ** 2
    meridian, normal = A_M * (1 - E2) / w**1.5, A_M / math.sqrt(w)
    return math.radians(degrees) * math.sqrt(meridian * normal * math.cos(math.radians(latitude)))


@pytest.mark.parametrize("latitude", [-60.0, 0.0, 36.0, 69.5])
def test_area_of_a_window_in_degrees(latitude: float) -> None:
    transform = Affine(1e-3, 0, 139.0, 0, -1e-3, latitude)
    area = window_area_m2("EPSG:4326", transform, col_px=10, row_px=20, width_px=100, height_px=50)
    assert area == pytest.approx(band_area_m2(latitude - 0.07, latitude - 0.02, 0.1), rel=1e-6)


@pytest.mark.parametrize("latitude", [0.0, 36.0, 60.0])
def test_web_mercator_is_not_taken_for_metres(latitude: float) -> None:
    x, y = transformer(WGS84, "EPSG:3857").transform(140.0, latitude)
    transform = Affine(0.6, 0, x, 0, -0.6, y)
    gsd_m = ground_sample_distance_m("EPSG:3857", transform, 2, 2)
    across = math.degrees(0.6 / A_M)  # down it is less by the cosine: EPSG:3857 is conformal on a sphere
    assert gsd_m == pytest.approx(pixel_side_m(latitude, across) * math.cos(math.radians(latitude)) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("latitude", [-45.0, 0.0, 65.0])
def test_gsd_of_degrees(latitude: float) -> None:
    transform = Affine(5e-6, 0, 10, 0, -5e-6, latitude)
    assert ground_sample_distance_m("EPSG:4326", transform, 1, 1) == pytest.approx(
        pixel_side_m(latitude, 5e-6), rel=1e-5
    )


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000), id="north-up"),
        pytest.param(Affine(0.5, 0, 500_000, 0, 0.5, 4_000_000), id="south-up"),
        pytest.param(Affine(0.3, 0.4, 500_000, 0.4, -0.3, 4_000_000), id="rotated"),
    ],
)
def test_gsd_on_utms_central_meridian(transform: Affine) -> None:
    """There the scale is 0.9996 exactly."""
    assert ground_sample_distance_m("EPSG:32654", transform, 100, 100) == pytest.approx(0.5 / 0.9996, rel=1e-6)


def test_area_does_not_depend_on_direction_nor_antimeridian() -> None:
    lon, lat = np.array([179.9, -179.9, -179.9, 179.9]), np.array([-17.1, -17.1, -17.0, -17.0])
    area = band_area_m2(-17.1, -17.0, 0.2)
    assert geodesic_area_m2(lon, lat) == pytest.approx(area, rel=1e-5)
    assert geodesic_area_m2(lon[::-1], lat[::-1]) == pytest.approx(area, rel=1e-5)


def test_outline_by_hand() -> None:
    assert outline(0, 0, 4, 2, segments=2).T.tolist() == [
        [0, 0], [2, 0], [4, 0], [4, 1], [4, 2], [2, 2], [0, 2], [0, 1],
    ]  # fmt: skip


def test_transformer_puts_x_first_whatever_the_authority_says() -> None:
    x, y = transformer("EPSG:4326", CRS.from_epsg(3857).to_wkt()).transform(180.0, 0.0)
    assert (x, y) == pytest.approx((math.pi * A_M, 0.0), abs=1e-6)
