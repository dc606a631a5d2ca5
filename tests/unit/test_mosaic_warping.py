"""Images of another CRS, pixel size or place come onto the mosaic's grid where GDAL puts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds

from landcover.errors import SceneUnsupported
from landcover.grid import BlockIndex
from landcover.mosaic.entries import Placement
from landcover.mosaic.layout import Layout, lay_out
from landcover.reading import SceneReader
from landcover.scene import Scene
from landcover.settings import ReadSettings
from mosaics import mosaic_of
from rasters import HALF_METRE, UTM54, grid_of, write_tif


@pytest.fixture
def settings(tmp_path: Path) -> ReadSettings:
    return ReadSettings(index_folder=tmp_path / "index")


def smooth(height: int, width: int) -> np.ndarray:
    """A picture that resampling changes little: `(height, width, 3)` uint8."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9) + np.cos(y / 7), np.sin((x + y) / 11), np.cos(x / 13) * np.sin(y / 5)]
    return np.stack([(wave * 50 + 128).astype(np.uint8) for wave in waves], axis=-1)


def window(scene: Scene, *, block_px: int = 512, index: BlockIndex | None = None) -> tuple[np.ndarray, np.ndarray]:
    grid = grid_of(scene, block_px=block_px)
    read = SceneReader(ReadSettings()).read(scene, grid, index or BlockIndex(0, 0), 0)
    return read.image, read.valid


def two_images(folder: Path, transform: Affine, crs: str, **profile: Any) -> tuple[np.ndarray, np.ndarray]:
    """An image in UTM 54 and beside it one that is not; their pixels."""
    folder.mkdir()
    first, second = smooth(128, 128), smooth(100, 140)
    write_tif(folder / "a.tif", first)
    write_tif(folder / "b.tif", second, crs=crs, transform=transform, **profile)
    return first, second


WEST, SOUTH, EAST, NORTH = transform_bounds(UTM54, "EPSG:3857", 415_070, 3_999_940, 415_140, 3_999_990)
IN_MERCATOR = Affine((EAST - WEST) / 140, 0, WEST, 0, (SOUTH - NORTH) / 100, NORTH)
ELSEWHERE = [
    pytest.param(IN_MERCATOR, "EPSG:3857", id="another CRS"),
    pytest.param(Affine(0.5, 0, 415_070.2, 0, -0.5, 3_999_990.1), UTM54, id="half a pixel off"),
    pytest.param(Affine(0.4, 0, 415_070, 0, -0.4, 3_999_990), UTM54, id="finer"),
    pytest.param(Affine(0.7, 0, 415_070, 0, -0.7, 3_999_990), UTM54, id="coarser"),
    pytest.param(Affine(0.4, 0.2, 415_070, 0.2, -0.4, 3_999_990), UTM54, id="rotated"),
    pytest.param(Affine(0.5, 0, 415_070, 0, 0.5, 3_999_940), UTM54, id="south up"),
]


@pytest.mark.parametrize(("transform", "crs"), ELSEWHERE)
def test_it_lies_where_gdal_puts_it(tmp_path: Path, settings: ReadSettings, transform: Affine, crs: str) -> None:
    first, second = two_images(tmp_path / "parts", transform, crs)
    mosaic = mosaic_of(tmp_path / "parts", settings)
    assert mosaic.layout.aligned.tolist() == [True, False]
    assert mosaic.transform.a == 0.5
    image, valid = window(mosaic)
    top, bottom, left, right = mosaic.layout.boxes[0]
    assert np.array_equal(image[top:bottom, left:right], first)
    expected = np.zeros((4, 512, 512), np.uint8)
    reproject(
        np.concatenate([np.moveaxis(second, -1, 0), np.full((1, 100, 140), 255, np.uint8)]),
        expected,
        src_crs=crs,
        src_transform=transform,
        dst_crs=mosaic.crs,
        dst_transform=mosaic.transform,
        resampling=Resampling.bilinear,
    )
    inside = expected[3] == 255
    inside[top:bottom, left:right] = False
    assert inside.sum() > 5000
    assert valid[inside].all()
    difference = np.abs(image[inside].astype(int) - np.moveaxis(expected[:3], 0, -1)[inside])
    assert np.percentile(difference, 99) <= 1
    outside = expected[3] == 0
    outside[top:bottom, left:right] = False
    assert valid[outside].mean() < 0.02  # GDAL's outline and ours may differ along the edge


def test_a_warped_pixel_is_the_same_in_whatever_window(tmp_path: Path, settings: ReadSettings) -> None:
    two_images(tmp_path / "parts", IN_MERCATOR, "EPSG:3857")
    mosaic = mosaic_of(tmp_path / "parts", settings)
    whole, known = window(mosaic)
    for block_px in (32, 64):
        grid = grid_of(mosaic, block_px=block_px)
        for index in grid.blocks():
            part, valid = window(mosaic, block_px=block_px, index=index)
            height, width = grid.block_shape(index)
            place = (
                slice(index.row * block_px, index.row * block_px + height),
                slice(index.col * block_px, index.col * block_px + width),
            )
            valid = valid[:height, :width]
            assert np.array_equal(valid, known[place])
            assert np.array_equal(part[:height, :width][valid], whole[place][valid])


@pytest.mark.parametrize("nothing", ["mask", "nodata", "alpha"])
def test_what_has_no_data_has_none_when_warped(tmp_path: Path, settings: ReadSettings, nothing: str) -> None:
    hole = np.ones((100, 140), bool)
    hole[30:70, 40:90] = False
    (tmp_path / "parts").mkdir()
    write_tif(tmp_path / "parts" / "a.tif", smooth(128, 128))
    pixels = np.where(hole[..., None], smooth(100, 140), 0).astype(np.uint8)
    transform = Affine(0.5, 0, 415_100.2, 0, -0.5, 3_999_990.1)
    profile: dict[str, Any] = {"mask": {"mask": hole}, "nodata": {"nodata": 0}, "alpha": {}}[nothing]
    if nothing == "alpha":
        pixels = np.dstack([pixels, hole.astype(np.uint8) * 255])
        profile = {"alpha": "yes"}
    write_tif(tmp_path / "parts" / "b.tif", pixels, transform=transform, **profile)
    mosaic = mosaic_of(tmp_path / "parts", settings)
    _, valid = window(mosaic)
    top, _, left, _ = mosaic.layout.boxes[1]
    assert not valid[top + 32 : top + 68, left + 42 : left + 88].any()
    assert valid[top + 2 : top + 28, left + 20 : left + 130].all()


def placement(transform: Affine, crs: str = UTM54, size: tuple[int, int] = (100, 100)) -> Placement:
    return Placement(
        crs=rasterio.CRS.from_user_input(crs).to_wkt(), transform=transform[:6], width_px=size[0], height_px=size[1]
    )


def laid_out(*placements: Placement, **options: Any) -> Layout:
    names = [f"{i}.tif" for i in range(len(placements))]
    return lay_out(placements, names, **({"crs": None, "resolution": None} | options))


def test_the_grid_is_that_of_most_images() -> None:
    layout = laid_out(
        placement(Affine(0.25, 0, 415_000, 0, -0.25, 4_000_000)),
        placement(HALF_METRE),
        placement(HALF_METRE @ Affine.translation(-100, 50)),
    )
    assert layout.transform.a == 0.5
    assert layout.aligned.tolist() == [False, True, True]
    assert layout.boxes.tolist() == [[0, 50, 100, 150], [0, 100, 100, 200], [50, 150, 0, 100]]
    assert (layout.width_px, layout.height_px) == (200, 150)


def test_the_crs_and_the_resolution_can_be_said() -> None:
    layout = laid_out(placement(HALF_METRE), resolution=2.0)
    assert not layout.aligned.any()
    assert layout.transform[:6] == (2, 0, 415_000, 0, -2, 4_000_000)
    assert (layout.width_px, layout.height_px) == (25, 25)
    mercator = rasterio.CRS.from_epsg(3857).to_wkt()
    layout = laid_out(placement(HALF_METRE), crs=mercator)
    assert layout.crs == mercator
    assert layout.transform.a == pytest.approx(0.5 * 1.233, rel=0.01)  # 1 / cos 36.1°
    assert laid_out(placement(HALF_METRE), resolution=0.5).aligned.all()


@pytest.mark.parametrize(("shift_px", "aligned"), [(0.04, True), (0.06, False), (7.0, True), (1e5 + 0.04, True)])
def test_what_counts_as_aligned(shift_px: float, aligned: bool) -> None:
    layout = laid_out(placement(HALF_METRE), placement(HALF_METRE @ Affine.translation(shift_px, 0)))
    assert layout.aligned.tolist() == [True, aligned]


def test_pixels_that_drift_apart_are_not_aligned() -> None:
    """A millionth more a pixel is a tenth of a pixel after 10⁵."""
    wide = placement(Affine(0.500_000_5, 0, 415_000, 0, -0.5, 4_000_000), size=(100_000, 10))
    assert laid_out(placement(HALF_METRE), placement(HALF_METRE), wide).aligned.tolist() == [True, True, False]


def test_images_at_opposite_ends_of_the_earth_are_no_mosaic() -> None:
    far = Affine(0.1, 0, -19_000_000, 0, -0.1, 0), Affine(0.1, 0, 19_000_000, 0, -0.1, 0)
    with pytest.raises(SceneUnsupported, match=r"380000100 × 100 px apart"):
        laid_out(*(placement(each, "EPSG:3857") for each in far))


def test_an_image_that_is_nowhere_in_the_mosaics_crs() -> None:
    with pytest.raises(SceneUnsupported, match=r"1\.tif does not lie where the mosaic's CRS is defined"):
        laid_out(
            placement(Affine(0.5, 0, 0, 0, -0.5, 0), "EPSG:3857"),
            placement(Affine(0.001, 0, 0, 0, -0.001, 100), "EPSG:4326"),
        )
