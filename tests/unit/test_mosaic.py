"""Many images as one scene: a window shows what one image of all would show, whatever borders it crosses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from landcover.grid import BlockIndex
from landcover.reading import SceneReader
from landcover.scene import Scene
from landcover.settings import ReadSettings
from mosaics import cut, mosaic_of
from rasters import grid_of, noise, scene_of, write_tif

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
