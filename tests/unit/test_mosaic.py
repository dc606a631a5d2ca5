"""Many images as one scene: a window shows what one image of all would show, whatever borders it crosses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from landcover.grid import BlockIndex
from landcover.reading import SceneReader
from landcover.scene import Scene
from landcover.settings import ReadSettings
from mosaics import cut, mosaic_of
from rasters import HALF_METRE, grid_of, noise, scene_of, write_tif

HEIGHT, WIDTH = 203, 331
ROWS, COLS = (61, 140), (87, 205)


@pytest.fixture
def settings(tmp_path: Path) -> ReadSettings:
    return ReadSettings(index_folder=tmp_path / "index")


def same_windows(one: Scene, other: Scene, decimation: int, *, halo_px: int = 16) -> int:
    """Compare every window of two scenes with halos; how many there are."""
    grid, others = grid_of(one, decimation=decimation), grid_of(other, decimation=decimation)
    assert (grid.width_px, grid.height_px, grid.transform) == (others.width_px, others.height_px, others.transform)
    settings = ReadSettings()
    reader, its = SceneReader(settings), SceneReader(settings)
    windows = 0
    for index in grid.blocks():
        expected, found = reader.read(one, grid, index, halo_px), its.read(other, grid, index, halo_px)
        assert np.array_equal(found.image, expected.image), index
        assert np.array_equal(found.valid, expected.valid), index
        windows += 1
    return windows


@pytest.mark.parametrize("decimation", [1, 2, 3])
@pytest.mark.parametrize("overlap", [0, 9])
def test_nine_images_are_read_as_the_one_they_were_cut_from(
    tmp_path: Path, settings: ReadSettings, overlap: int, decimation: int
) -> None:
    pixels = noise(HEIGHT, WIDTH)
    whole = scene_of(write_tif(tmp_path / "whole.tif", pixels))
    cut(tmp_path / "parts", pixels, rows=ROWS, cols=COLS, overlap=overlap)
    mosaic = mosaic_of(tmp_path / "parts", settings)
    assert len(mosaic.locations) == 9
    assert mosaic.layout.aligned.all()
    assert mosaic.crs == whole.crs
    assert mosaic.gsd_m == whole.gsd_m
    assert mosaic.bounds_wgs84 == whole.bounds_wgs84
    assert same_windows(whole, mosaic, decimation) >= 4


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_the_order_of_files_does_not_move_the_grid(
    tmp_path: Path, settings: ReadSettings, order: tuple[int, ...]
) -> None:
    """The first image need not be in the corner."""
    pixels = noise(100, 120)
    whole = scene_of(write_tif(tmp_path / "whole.tif", pixels))
    parts = cut(tmp_path / "parts", pixels, rows=(), cols=(31, 77))
    (tmp_path / "list.txt").write_text("# three\n" + "\n".join(f"parts/{parts[i].name}" for i in order))
    assert same_windows(whole, mosaic_of(tmp_path / "list.txt", settings), 1) == 4


@pytest.mark.parametrize("decimation", [1, 2, 4, 8])
def test_overviews_are_read_where_they_are_the_whole_images(
    tmp_path: Path, settings: ReadSettings, decimation: int
) -> None:
    pixels = noise(192, 256)
    whole = scene_of(write_tif(tmp_path / "whole.tif", pixels, overviews=(2, 4)))
    cut(tmp_path / "even", pixels, rows=(64,), cols=(96, 160), overviews=(2, 4))
    even = mosaic_of(tmp_path / "even", settings)
    assert even.overviews == (2, 4)
    same_windows(whole, even, decimation)
    cut(tmp_path / "odd", pixels, rows=(65,), cols=(98, 160), overviews=(2, 4))
    odd = mosaic_of(tmp_path / "odd", settings)
    assert odd.overviews == ()  # an overview's pixel would lie on both sides of a border
    same_windows(scene_of(write_tif(tmp_path / "plain.tif", pixels)), odd, decimation)


def read_whole(scene: Scene, *, halo_px: int = 0, decimation: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A scene's pixels and validity in one window."""
    grid = grid_of(scene, decimation=decimation, block_px=512)
    window = SceneReader(ReadSettings()).read(scene, grid, BlockIndex(0, 0), halo_px)
    inner = slice(halo_px, halo_px + grid.height_px), slice(halo_px, halo_px + grid.width_px)
    return window.image[inner], window.valid[: grid.height_px, : grid.width_px]


def test_what_lies_on_top(tmp_path: Path, settings: ReadSettings) -> None:
    """The first listed, or the last; and where it has no data, what lies below it."""
    folder = tmp_path / "parts"
    folder.mkdir()
    hole = np.ones((40, 40), bool)
    hole[10:20, 10:20] = False
    for name, value, shift, mask in (("a", 10, 0, hole), ("b", 20, 5, None), ("c", 30, 30, None)):
        write_tif(
            folder / f"{name}.tif",
            np.full((40, 40, 3), value, np.uint8),
            transform=HALF_METRE @ Affine.translation(shift, 0),
            mask=mask,
        )
    first, valid = read_whole(mosaic_of(folder, settings))
    row = first[15, :, 0].tolist()
    assert row == [10] * 10 + [20] * 10 + [10] * 20 + [20] * 5 + [30] * 25
    assert valid.all()
    last, _ = read_whole(mosaic_of(folder, settings, order="last"))
    assert last[15, :, 0].tolist() == [10] * 5 + [20] * 25 + [30] * 40


def test_gaps_have_no_data_and_are_filled_from_beside_them(tmp_path: Path, settings: ReadSettings) -> None:
    pixels = noise(60, 60, low=100)
    cut(tmp_path / "parts", pixels, rows=(20, 40), cols=(20, 40))
    (tmp_path / "parts" / "11.tif").unlink()
    mosaic = mosaic_of(tmp_path / "parts", settings)
    image, valid = read_whole(mosaic)
    expected = np.ones((60, 60), bool)
    expected[20:40, 20:40] = False
    assert np.array_equal(valid, expected)
    assert np.array_equal(image[valid], pixels[valid])
    assert image.min() >= 100
    assert np.array_equal(image[25, 20:30], pixels[25, 18:8:-1])  # mirrored at the last pixel with data


@pytest.mark.parametrize("decimation", [1, 2, 3])
def test_masked_images_are_as_valid_as_the_one_they_were_cut_from(
    tmp_path: Path, settings: ReadSettings, decimation: int
) -> None:
    pixels, mask = noise(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH), bool)
    mask[50:120, 70:222] = False
    whole = scene_of(write_tif(tmp_path / "whole.tif", pixels, mask=mask))
    cut(tmp_path / "parts", pixels, rows=ROWS, cols=COLS, mask=mask)
    mosaic = mosaic_of(tmp_path / "parts", settings)
    expected, known = read_whole(whole, decimation=decimation)
    found, valid = read_whole(mosaic, decimation=decimation)
    assert np.array_equal(valid, known)
    assert np.array_equal(found[valid], expected[known])


def test_images_of_another_depth_are_rescaled_alike(tmp_path: Path, settings: ReadSettings) -> None:
    pixels = np.random.default_rng(3).integers(0, 4000, (90, 120, 4), dtype=np.uint16)
    options = {"bands": (4, 3, 2), "rescale": (0, 3000)}
    whole = scene_of(write_tif(tmp_path / "whole.tif", pixels, photometric="MINISBLACK"), **options)
    cut(tmp_path / "parts", pixels, rows=(33,), cols=(50,), photometric="MINISBLACK")
    same_windows(whole, mosaic_of(tmp_path / "parts", settings, **options), 1)
