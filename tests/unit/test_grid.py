"""Decimation, blocks and their ground areas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from landcover.contract import GsdRange
from landcover.errors import SceneTooCoarse
from landcover.geodesy import WGS84, transformer
from landcover.grid import GSD_TOLERANCE, BlockIndex, Grid, choose_decimation, grid_for
from onnx_models import pixel_contract
from rasters import grid_of, noise, scene_of, write_tif


@pytest.mark.parametrize(
    ("gsd_m", "min_m", "max_m", "expected"),
    [
        pytest.param(0.5, 0.4, 1.2, 1, id="inside the range"),
        pytest.param(0.4, 0.4, 1.2, 1, id="on its lower end"),
        pytest.param(1.2, 0.4, 1.2, 1, id="on its upper end"),
        pytest.param(1.22, 0.4, 1.2, 1, id="within tolerance of its upper end"),
        pytest.param(1.25, 0.4, 1.2, None, id="too coarse"),
        pytest.param(0.395, 0.4, 1.2, 1, id="within tolerance of its lower end"),
        pytest.param(0.3, 0.4, 1.2, 2, id="twice as fine"),
        pytest.param(0.1, 0.4, 1.2, 4, id="four times as fine"),
        pytest.param(0.09, 0.4, 1.2, 5, id="the least that reaches the range, not the nearest power of two"),
        pytest.param(0.025, 0.4, 1.2, 16, id="from a drone"),
        pytest.param(0.75, 1.0, 1.0, 1, id="narrow range: 0.75 m is nearer to 1 than 1.5"),
        pytest.param(0.6, 1.0, 1.0, 2, id="narrow range: 1.2 m is nearer to 1 than 0.6"),
    ],
)
def test_choose_decimation(gsd_m: float, min_m: float, max_m: float, expected: int | None) -> None:
    assert choose_decimation(gsd_m, GsdRange(min_m=min_m, max_m=max_m)) == expected


@given(st.floats(0.01, 1.0), st.floats(0.01, 3.0), st.floats(2.0, 8.0))
def test_decimation_is_the_least_that_reaches_a_wide_range(gsd_m: float, min_m: float, width: float) -> None:
    """In a range at least one octave wide there is always a multiple."""
    trained = GsdRange(min_m=min_m, max_m=min_m * width)
    chosen = choose_decimation(gsd_m, trained)
    low, high = trained.min_m / (1 + 2 * GSD_TOLERANCE), trained.max_m * (1 + GSD_TOLERANCE)
    if chosen is None:
        assert gsd_m > high
    else:
        assert low <= gsd_m * chosen <= high
        assert chosen == 1 or gsd_m * (chosen - 1) < trained.min_m


def grid(width_px: int, height_px: int, transform: Affine, crs: str = "EPSG:32654", block_px: int = 64) -> Grid:
    return Grid(
        crs=crs,
        transform=transform,
        width_px=width_px,
        height_px=height_px,
        decimation=1,
        block_px=block_px,
        gsd_m=0.5,
    )


@pytest.mark.parametrize(
    ("width_px", "height_px", "rows", "cols", "last_shape"),
    [
        pytest.param(1, 1, 1, 1, (1, 1), id="one pixel"),
        pytest.param(64, 64, 1, 1, (64, 64), id="one block"),
        pytest.param(65, 64, 1, 2, (64, 1), id="one column more"),
        pytest.param(100, 200, 4, 2, (8, 36), id="both edges cut"),
    ],
)
def test_blocks_cover_the_scene_once(
    width_px: int, height_px: int, rows: int, cols: int, last_shape: tuple[int, int]
) -> None:
    cells = grid(width_px, height_px, Affine.identity())
    assert (cells.rows, cells.cols) == (rows, cols)
    indices = list(cells.blocks())
    assert indices == sorted(set(indices))
    assert cells.block_shape(indices[-1]) == last_shape
    assert sum(math.prod(cells.block_shape(index)) for index in indices) == width_px * height_px
    assert all(index in cells for index in indices)
    outside = [BlockIndex(-1, 0), BlockIndex(0, -1), BlockIndex(rows, 0), BlockIndex(0, cols)]
    assert not any(index in cells for index in outside)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        pytest.param("EPSG:32654", Affine(40, 0, 415_000, 0, -40, 4_000_000), id="UTM"),
        pytest.param("EPSG:3857", Affine(40, 0, 15_500_000, 0, -40, 4_300_000), id="Web Mercator"),
        pytest.param("EPSG:4326", Affine(4e-4, 0, 139, 0, -4e-4, 36), id="degrees"),
        pytest.param("EPSG:32654", Affine(30, 20, 415_000, 20, -30, 4_000_000), id="rotated"),
        pytest.param("EPSG:32654", Affine(40, 0, 415_000, 0, 40, 4_000_000), id="south-up"),
    ],
)
def test_ground_areas_of_the_blocks_add_up_to_the_scene(crs: str, transform: Affine) -> None:
    cells = grid(150, 200, transform, crs)
    total = sum(cells.pixel_area_m2(index) * math.prod(cells.block_shape(index)) for index in cells.blocks())
    edge = np.linspace(0, 1, 400)
    cols = np.concatenate([edge, np.ones(400), 1 - edge, np.zeros(400)]) * 150
    rows = np.concatenate([np.zeros(400), edge, np.ones(400), 1 - edge]) * 200
    lon, lat = transformer(crs, WGS84).transform(*(transform @ (cols, rows)))
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    assert total == pytest.approx(abs(area), rel=1e-7)


def test_max_level_is_where_a_block_is_one_pixel() -> None:
    assert grid(1, 1, Affine.identity(), block_px=512).max_level == 9


def test_grid_for_decimates_and_keeps_the_origin(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "fine.tif", noise(33, 50), transform=Affine(0.1, 0, 415_000, 0, -0.1, 4_000_000))
    scene = scene_of(path)
    cells = grid_for(scene, pixel_contract("pixels"))  # 0.2 to 2 m
    assert cells.decimation == 2
    assert (cells.width_px, cells.height_px) == (25, 17)
    assert cells.transform @ (0, 0) == pytest.approx((415_000, 4_000_000))
    assert cells.transform @ (25, 16.5) == pytest.approx(scene.transform @ (50, 33))
    assert cells == grid_of(scene, decimation=2, block_px=256)


def test_a_scene_too_coarse_is_refused_with_both_distances(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "coarse.tif", noise(20, 20), transform=Affine(10, 0, 415_000, 0, -10, 4_000_000))
    with pytest.raises(SceneTooCoarse, match=r"of 10 m, but model 'pixels' was trained for 0\.2 to 2 m"):
        grid_for(scene_of(path), pixel_contract("pixels"))
