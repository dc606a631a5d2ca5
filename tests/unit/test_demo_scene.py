"""The demonstration scene: the same for the same seed, all eight classes, an exact label, a valid COG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from landcover.classes import OPENEARTHMAP
from landcover.demo import DEMO_SEED, GSD_M, draw, write_scene
from landcover.demo.canvas import AGRICULTURE, BUILDING, RANGELAND, ROAD, TREE, WATER, Canvas, Rect, make_crowns
from landcover.demo.render import _shadow, _View


def test_same_seed_same_scene() -> None:
    image, label = draw(7, 320, 448)
    again, label_again = draw(7, 320, 448)
    assert image.shape == (320, 448, 3)
    assert label.shape == (320, 448)
    assert image.dtype == label.dtype == np.uint8
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, label_again)


def test_another_seed_another_scene() -> None:
    assert (draw(7, 256, 256)[1] != draw(8, 256, 256)[1]).mean() > 0.1


def test_odd_sides() -> None:
    image, label = draw(3, 301, 517)
    assert image.shape == (301, 517, 3)
    assert label.shape == (301, 517)


@pytest.mark.parametrize("seed", [DEMO_SEED, 1, 2, 3])
def test_every_pixel_has_a_class_and_every_class_has_pixels(seed: int) -> None:
    _, label = draw(seed, 1024, 1024)
    shares = np.bincount(label.ravel(), minlength=9) / label.size
    assert len(shares) == 9
    assert shares[0] == 0
    assert shares[1:].min() > 0.002


def test_label_fits_the_image() -> None:
    """The label is of this image, not of a shifted or mirrored one: classes differ in colour where it says so."""
    image, label = draw(DEMO_SEED, 1024, 1024)
    mean = {each.name: image[label == each.value].mean(axis=0) for each in OPENEARTHMAP}
    assert mean["tree"].sum() < mean["rangeland"].sum() < mean["bareland"].sum()
    assert mean["water"][2] > mean["water"][0]  # blue over red
    assert mean["agriculture land"][1] > mean["agriculture land"][2]  # green over blue
    assert np.ptp(mean["road"]) < 40  # grey


def test_shadow_by_hand() -> None:
    """A wall of 5 m, the sun due south at 45°: the shadow reaches 5 m, ten pixels, to the north."""
    view = _View(
        height_px=40,
        width_px=9,
        turn=0.0,
        bend_v=np.zeros((40, 9), np.float32),
        bend_u=np.zeros((40, 9), np.float32),
        margin_px=0,
        sun_row=1.0,
        sun_column=0.0,
        shadow_per_height=1.0,
    )
    height_dm = np.zeros((40, 9), np.uint8)
    height_dm[30, 3:6] = 51  # 51 dm: the ray has risen 50 dm ten pixels to the north
    expected = np.zeros((40, 9), bool)
    expected[20:30, 3:6] = True
    np.testing.assert_array_equal(_shadow(view, height_dm), expected)


def test_tree_hides_the_ground_but_not_a_roof() -> None:
    canvas = Canvas(64, 64)
    canvas.fill(canvas.extent, RANGELAND, canvas.paints.add((1, 2, 3)))
    canvas.fill(Rect(v0=0, v1=64, u0=32, u1=64), BUILDING, 0, height_dm=250)
    crown = make_crowns(np.random.default_rng(0), (1.0, 0.0))[-1]
    canvas.plant(crown, 32, 30, 0, only_on=frozenset({RANGELAND}))
    assert canvas.cover[32, 29] == TREE
    assert (canvas.cover[:, 32:] == BUILDING).all()
    before = canvas.cover.copy()
    canvas.plant(crown, 32, 40, 0, only_on=frozenset({RANGELAND}))  # its trunk would stand in the building
    np.testing.assert_array_equal(canvas.cover, before)


def test_written_scene_is_a_cog_with_its_label(tmp_path: Path) -> None:
    path = write_scene(tmp_path, seed=5, size_px=1024)
    assert path == tmp_path / "demo.tif"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["demo.tif", "demo_labels.tif"]
    for each in tmp_path.iterdir():
        valid, errors, warnings = cog_validate(each, strict=True)
        assert valid, (errors, warnings)

    image, label = draw(5, 1024, 1024)
    with rasterio.open(path) as dataset:
        assert dataset.crs == "EPSG:32654"
        assert dataset.res == (GSD_M, GSD_M)
        assert dataset.profile["compress"] == "jpeg"
        assert dataset.photometric.name == "ycbcr"
        assert dataset.overviews(1)[0] == 2
        assert dataset.tags()["TIFFTAG_IMAGEDESCRIPTION"] == "Drawn by landcover-tiles; not a real place"
        pixels = np.moveaxis(dataset.read(), 0, 2)
        assert np.abs(pixels.astype(int) - image).mean() < 6  # JPEG
        transform = dataset.transform
    with rasterio.open(tmp_path / "demo_labels.tif") as dataset:
        assert dataset.transform == transform
        assert dataset.nodata == 0
        assert dataset.colormap(1)[BUILDING][:3] == (222, 31, 7)
        np.testing.assert_array_equal(dataset.read(1), label)  # exact


def test_bridges_are_roads_and_fields_have_rows() -> None:
    _, label = draw(DEMO_SEED, 1024, 1024)
    touching = (label[:, :-1] == WATER) & (label[:, 1:] == ROAD)
    assert touching.any()
    assert (label == AGRICULTURE).any()
