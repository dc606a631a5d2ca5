"""Addresses and boxes become outlines, or a sentence."""

from __future__ import annotations

import math

import pytest
from pyproj import CRS, Transformer

from landcover.errors import InvalidRequest, NotFound
from landcover_api.extents import TILE_MATRIX_SETS, box_extent, check_tile, tile_extent, tile_matrix_set, tms_crs

MERCATOR = tile_matrix_set("WebMercatorQuad")
EDGE_M = math.pi * 6378137


@pytest.mark.parametrize(("z", "x", "y"), [(0, 0, 0), (1, 1, 0), (18, 232799, 103246)])
def test_mercator_tiles_by_arithmetic(z: int, x: int, y: int) -> None:
    side = 2 * EDGE_M / 2**z
    extent = tile_extent(MERCATOR, z, x, y, 512)
    assert (extent.xmin, extent.xmax) == pytest.approx((x * side - EDGE_M, (x + 1) * side - EDGE_M), abs=1e-6)
    assert (extent.ymax, extent.ymin) == pytest.approx((EDGE_M - y * side, EDGE_M - (y + 1) * side), abs=1e-6)
    assert (extent.width_px, extent.height_px) == (512, 512)
    assert CRS.from_wkt(extent.crs).to_epsg() == 3857


@pytest.mark.parametrize(
    ("z", "x", "y", "sentence"),
    [
        (-1, 0, 0, "zooms 0 to 24; there is no -1"),
        (25, 0, 0, "there is no 25"),
        (2, 4, 0, r"x runs from 0 to 3 and y to 3; there is no 4/0"),
        (2, 0, 4, "there is no 0/4"),
        (2, -1, 0, "there is no -1/0"),
    ],
)
def test_addresses_that_are_not_there(z: int, x: int, y: int, sentence: str) -> None:
    check_tile(MERCATOR, 2, 3, 3)
    with pytest.raises(InvalidRequest, match=sentence):
        check_tile(MERCATOR, z, x, y)


@pytest.mark.parametrize(
    ("name", "lon", "lat"),
    [
        ("WebMercatorQuad", 139.77, 35.68),
        ("WGS1984Quad", 139.77, 35.68),
        ("WorldCRS84Quad", -70.65, -33.45),
        ("NZTM2000Quad", 174.78, -41.29),
        ("CanadianNAD83_LCC", -75.7, 45.4),
        ("EuropeanETRS89_LAEAQuad", 13.4, 52.5),
        ("UTM31WGS84Quad", 2.35, 48.86),
        ("UPSArcticWGS84Quad", 15.6, 78.2),
    ],
)
def test_the_tile_of_a_place_holds_it(name: str, lon: float, lat: float) -> None:
    """Also in sets whose authority puts latitude or northing first."""
    assert name in TILE_MATRIX_SETS.list()
    tms = tile_matrix_set(name)
    zoom = tms.minzoom + 5
    tile = tms.tile(lon, lat, zoom)
    extent = tile_extent(tms, zoom, tile.x, tile.y, 256)
    x, y = Transformer.from_crs("OGC:CRS84", tms_crs(name), always_xy=True).transform(lon, lat)
    assert extent.xmin <= x <= extent.xmax
    assert extent.ymin <= y <= extent.ymax


def test_a_set_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="no tile matrix set 'Nope'; WebMercatorQuad"):
        tile_matrix_set("Nope")


BOX = (139.0, 35.0, 141.0, 36.0)


@pytest.mark.parametrize(
    ("max_size", "width", "height", "expected"),
    [
        pytest.param(1000, None, None, (1000, 500), id="the longer side"),
        pytest.param(1000, 300, None, (300, 150), id="width"),
        pytest.param(1000, None, 300, (600, 300), id="height"),
        pytest.param(1000, 10, 900, (10, 900), id="both"),
        pytest.param(1, None, None, (1, 1), id="never less than a pixel"),
    ],
)
def test_sizes(max_size: int, width: int | None, height: int | None, expected: tuple[int, int]) -> None:
    extent = box_extent(BOX, "OGC:CRS84", None, max_size, width, height)
    assert (extent.width_px, extent.height_px) == expected
    assert (extent.xmin, extent.ymin, extent.xmax, extent.ymax) == BOX


def test_a_box_in_another_crs_holds_every_corner() -> None:
    extent = box_extent(BOX, "EPSG:4326", "EPSG:32654", 1000, None, None)
    transform = Transformer.from_crs("EPSG:4326", "EPSG:32654", always_xy=True)
    x, y = transform.transform([139, 141, 141, 139], [35, 35, 36, 36])
    assert extent.xmin == pytest.approx(min(x), abs=1)
    assert extent.xmax == pytest.approx(max(x), abs=1)
    assert extent.ymin <= min(y)
    assert extent.ymax == pytest.approx(max(y), abs=1)
    assert CRS.from_wkt(extent.crs).to_epsg() == 32654
    assert max(extent.width_px, extent.height_px) == 1000


@pytest.mark.parametrize(
    ("box", "coord_crs", "dst_crs", "sentence"),
    [
        pytest.param((1, 0, 0, 1), "EPSG:4326", None, "smaller values first", id="reversed"),
        pytest.param((0, 0, 0, 1), "EPSG:4326", None, "smaller values first", id="empty"),
        pytest.param((0, 0, math.inf, 1), "EPSG:4326", None, "smaller values first", id="infinite"),
        pytest.param((0, 0, math.nan, 1), "EPSG:4326", None, "smaller values first", id="no number"),
        pytest.param(BOX, "EPSG:999999", None, "'EPSG:999999' is no CRS", id="no CRS"),
        pytest.param(BOX, "nonsense", "EPSG:3857", "'nonsense' is no CRS", id="the box's, not the image's"),
        pytest.param(BOX, "EPSG:4326", "nonsense", "'nonsense' is no CRS", id="the image's"),
        pytest.param(BOX, "EPSG:4326", "EPSG:5703", "no CRS of a map", id="heights"),
        pytest.param((1e7, 1e7, 2e7, 2e7), "EPSG:4326", "EPSG:32654", "outside what", id="off the Earth"),
    ],
)
def test_boxes_that_cannot_be_drawn(
    box: tuple[float, float, float, float], coord_crs: str, dst_crs: str | None, sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        box_extent(box, coord_crs, dst_crs, 1000, None, None)
