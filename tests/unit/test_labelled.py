"""Labelled images on disk: what is found, what labels mean, and what is refused, by name of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from labelled_images import patchwork, write_folders, write_openearthmap
from landcover_export.labelled import DataError, count_classes, find_pairs, find_set, read_split


def test_openearthmaps_layout(tmp_path: Path) -> None:
    root = write_openearthmap(tmp_path, {"aachen": 2, "tokyo": 1})
    pairs = find_pairs(root)
    assert [(pair.group, pair.name) for pair in pairs] == [
        ("aachen", "aachen_1"),
        ("aachen", "aachen_2"),
        ("tokyo", "tokyo_1"),
    ]
    image, label = patchwork(101)
    whole = pairs[0].read()
    np.testing.assert_array_equal(whole.image, image)
    np.testing.assert_array_equal(whole.label, label)
    assert whole.gsd_m == pytest.approx(0.5, rel=2e-3)  # on the ground; UTM's scale differs by 0.04 %
    window = pairs[0].read_window(10, 20, 30, 40)
    np.testing.assert_array_equal(window.image, image[10:40, 20:60])
    np.testing.assert_array_equal(window.label, label[10:40, 20:60])


def test_a_plain_folder_and_windows_of_what_must_be_decoded_whole(tmp_path: Path) -> None:
    write_folders(tmp_path / "set", {"north": 1})
    pair = find_pairs(tmp_path / "set" / "north", gsd_m=0.3)[0]
    assert (pair.group, pair.gsd_m, pair.height_px, pair.width_px) == ("", 0.3, 192, 224)
    image, label = patchwork(1)
    window = pair.read_window(5, 7, 100, 90)
    np.testing.assert_array_equal(window.image, image[5:105, 7:97])
    np.testing.assert_array_equal(window.label, label[5:105, 7:97])


def test_split_lists_name_what_is_missing(tmp_path: Path) -> None:
    root = write_openearthmap(tmp_path / "oem", {"aachen": 3})
    split = tmp_path / "train.txt"
    split.write_text("aachen_1.tif\naachen_3.tif\n\nsantiago_7.tif\n")
    found = find_set(root, split=split)
    assert [pair.name for pair in found.pairs] == ["aachen_1", "aachen_3"]
    assert found.missing == ("santiago_7",)


def test_names_of_a_split_list_may_hold_dots_and_folders(tmp_path: Path) -> None:
    split = tmp_path / "list.txt"
    split.write_text("N12.34_E5\nnorth/1.tif\nplain.png\n")
    assert read_split(split) == ("N12.34_E5", "north/1", "plain")
    root = write_folders(tmp_path / "set", {"north": 1, "south": 1})
    split.write_text("south/south_1.png\n")
    assert [pair.name for pair in find_pairs(root, split=split)] == ["south_1"]


def test_other_bands_are_refused_when_found(tmp_path: Path) -> None:
    root = write_openearthmap(tmp_path, {"aachen": 1})
    path = root / "aachen" / "images" / "aachen_1.tif"
    with rasterio.open(path) as before:
        profile = before.profile | {"dtype": "uint16"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.zeros((3, 192, 224), np.uint16))
    with pytest.raises(DataError, match=r"aachen_1\.tif has 3 band\(s\) of uint16; 3 of uint8 are needed"):
        find_pairs(root)


def test_a_tiff_without_a_place_is_read_without_a_warning(tmp_path: Path) -> None:
    image, label = patchwork(1)
    for kind, pixels in (("images", image), ("labels", label)):
        (tmp_path / kind).mkdir()
        Image.fromarray(pixels).save(tmp_path / kind / "plain.tif")
    (pair,) = find_pairs(tmp_path)
    assert pair.gsd_m is None
    np.testing.assert_array_equal(pair.read().image, image)


def test_a_mapping_gives_labels_their_classes(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"north": 1})
    _, label = patchwork(1)
    mapped = find_pairs(root, classes={1: 3, 4: 0, 5: 5, 6: 6, 8: 8})[0].read_label()
    expected = label.copy()
    expected[label == 1], expected[label == 4] = 3, 0
    np.testing.assert_array_equal(mapped, expected)
    with pytest.raises(
        DataError, match=r"north_1\.png holds the label values 8, which the class mapping does not name"
    ):
        find_pairs(root, classes={1: 1, 4: 4, 5: 5, 6: 6})[0].read()


def test_counting_refuses_values_that_are_no_classes(tmp_path: Path) -> None:
    pairs = find_pairs(write_folders(tmp_path, {"north": 2}))
    counts = count_classes(pairs, (1, 4, 5, 6, 8))
    labels = np.concatenate([patchwork(seed)[1].ravel() for seed in (1, 2)])
    np.testing.assert_array_equal(counts, np.bincount(labels, minlength=256))
    with pytest.raises(DataError, match=r"north_1\.png holds the label values 8, which are no classes \(1, 4, 5, 6\)"):
        count_classes(pairs, (1, 4, 5, 6))


def _no_label(root: Path) -> None:
    (root / "north" / "labels" / "north_1.png").unlink()


def _other_size(root: Path) -> None:
    Image.new("L", (10, 12)).save(root / "north" / "labels" / "north_1.png")


def _colours(root: Path) -> None:
    Image.new("RGB", (224, 192)).save(root / "north" / "labels" / "north_1.png")


def _rubbish(root: Path) -> None:
    (root / "north" / "images" / "north_1.png").write_text("no image")


def _truncated(root: Path) -> None:
    path = root / "north" / "images" / "north_1.png"
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_no_label, r"north_1\.png has no label; .*labels/north_1\.tif or \.png is missing"),
        (_other_size, r"north_1\.png is 224 × 192 px, but its label .*north_1\.png is 10 × 12 px"),
        (_colours, r"labels/north_1\.png is a label of mode RGB"),
        (_rubbish, r"images/north_1\.png cannot be read"),
        (_truncated, r"images/north_1\.png cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    root = write_folders(tmp_path, {"north": 1})
    spoil(root)
    with pytest.raises(DataError, match=sentence):
        find_pairs(root)[0].read()


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        find_pairs(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no images/ folder"):
        find_pairs(tmp_path)
    root = write_folders(tmp_path / "set", {"north": 1})
    with pytest.raises(DataError, match="has no group south; it has north"):
        find_pairs(root, groups=["south"])
    split = tmp_path / "list.txt"
    with pytest.raises(DataError, match="There is no split list"):
        read_split(split)
    split.write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        read_split(split)
    split.write_text("other_1.tif\n")
    with pytest.raises(DataError, match=r"none of the 1 names in .*list\.txt is there"):
        find_pairs(root, split=split)
