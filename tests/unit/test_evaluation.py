"""Models over labelled images: windows as served, known answers, checkpoints as their exports, names and classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from landcover.classes import LandCoverClass
from landcover.contract import Contract, GsdRange
from landcover.errors import InvalidConfiguration, InvalidModel
from landcover.grid import BlockIndex
from landcover.reading import SceneReader
from landcover.settings import ReadSettings
from landcover_export.checkpoints import Checkpoint, save_checkpoint
from landcover_export.evaluation.evaluate import CONFIDENT, evaluate_images, evaluate_windows, tiled
from landcover_export.evaluation.mapping import map_image
from landcover_export.evaluation.models import BlockModel, load_model, load_models, union_of_classes
from landcover_export.labelled import LabelledImage
from landcover_export.networks import NetworkConfig, build_network, classes_of
from landcover_export.onnx_export import export_onnx
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import grid_of, noise, scene_of, write_tif


def labelled(height: int, width: int, *, seed: int = 0, name: str = "field") -> LabelledImage:
    """Noise, and a label that `pixels` gets right except where a ninth of it says 1 and another is unlabelled."""
    image = noise(height, width, seed=seed)
    label = expected_classes(image)
    chance = np.random.default_rng(seed + 1).integers(0, 9, label.shape)
    label[chance == 0] = 1
    label[chance == 1] = 0
    return LabelledImage(name=name, image=image, label=label, group="north")


@pytest.mark.parametrize(("height", "width"), [(128, 128), (129, 257), (100, 60), (1, 5)])
def test_blocks_put_together_give_the_image_back(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    shares = []

    def run(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert window.shape == (192, 192, 3)
        return window[..., 0], window[..., 1]

    classes, confidence = map_image(run, image, window_px=192, halo_px=32, on_block=shares.append)
    np.testing.assert_array_equal(classes, image[..., 0])
    np.testing.assert_array_equal(confidence, image[..., 1])
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(("height", "width"), [(203, 331), (64, 64), (70, 20)])
def test_the_network_sees_the_windows_that_serving_reads(tmp_path: Path, height: int, width: int) -> None:
    image = noise(height, width)
    scene = scene_of(write_tif(tmp_path / "a.tif", image))
    grid = grid_of(scene, block_px=64)
    reader, seen = SceneReader(ReadSettings()), []

    def run(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(window)
        return window[..., 0], window[..., 1]

    map_image(run, image, window_px=144, halo_px=40)
    assert len(seen) == grid.rows * grid.cols
    for window, (row, col) in zip(seen, np.ndindex(grid.rows, grid.cols), strict=True):
        np.testing.assert_array_equal(window, reader.read(scene, grid, BlockIndex(row, col), 40).image)


def test_onnx_model_against_numpy(pixel_model: Path) -> None:
    model = load_model(pixel_model)
    assert (model.window_px, model.halo_px) == (320, 32)
    images = [labelled(300, 411), labelled(97, 64, seed=5, name="yard")]
    expected = np.zeros((8, 8), dtype=np.int64)
    for each in images:
        found = expected_classes(each.image)
        for value in range(1, 9):
            row = np.bincount(found[each.label == value], minlength=9)[1:]
            expected[value - 1] += row
    np.testing.assert_array_equal(evaluate_images(model, images), expected)
    evaluation = evaluate_windows([model], iter(images), classes=model.classes, cluster_px=100)
    (counts,) = evaluation.counts
    np.testing.assert_array_equal(counts.confusion, expected)
    for window, confusion, sure, doubt in zip(
        evaluation.windows, counts.confusions, counts.confident_errors, counts.doubt, strict=True
    ):
        source = next(each for each in images if each.name == window.image)
        at = window.slices
        label, green = source.label[at], source.image[at][..., 1]
        wrong = (label > 0) & (label != expected_classes(source.image[at]))
        assert confusion.sum() == np.count_nonzero(label)
        assert np.trace(confusion) == np.count_nonzero(label) - np.count_nonzero(wrong)
        assert sure == np.count_nonzero(wrong & (green >= CONFIDENT))
        assert doubt == pytest.approx(1 - green.mean() / 255)
    assert counts.by_confidence.sum() == expected.sum()
    assert counts.by_confidence[1].sum() == np.trace(expected)


def test_windows_cover_every_pixel_once_and_none_is_a_sliver() -> None:
    source = labelled(644, 797)
    seen = np.zeros(source.label.shape, dtype=int)
    for window in tiled(source, 256):
        seen[window.slices] += 1
        assert 200 <= window.height_px <= 300
        assert 200 <= window.width_px <= 300
    assert (seen == 1).all()
    assert [(w.height_px, w.width_px) for w in tiled(source, None)] == [(644, 797)]
    assert len(list(tiled(labelled(30, 700), 256))) == 3


def test_windows_without_a_label_are_no_part_of_the_sample(pixel_model: Path) -> None:
    source = labelled(128, 256)
    source.label[:, :128] = 0
    evaluation = evaluate_windows(
        [load_model(pixel_model)], [source], classes=pixel_contract("x").classes, cluster_px=128
    )
    assert [(w.row_px, w.col_px) for w in evaluation.windows] == [(0, 128)]


def test_a_checkpoint_maps_as_its_export_does(tmp_path: Path) -> None:
    config = NetworkConfig(encoder="resnet18", decoder_channels=(8, 8, 8, 8, 8))
    torch.manual_seed(0)
    network = build_network(config).eval()
    contract = Contract(
        name="small",
        version="1",
        classes=classes_of(config),
        gsd=GsdRange(min_m=0.4, max_m=1.2),
        window_px=96,
        halo_px=16,
    )
    image = noise(90, 130)
    export_onnx(network, config, contract, tmp_path / "m.onnx", image[None, :64, :64])
    save_checkpoint(Checkpoint(config=config, classes=classes_of(config), network=network), tmp_path / "m.pt")
    onnx, torched = load_models([tmp_path / "m.onnx", tmp_path / "m.pt"], window_px=96, halo_px=16)
    (classes, confidence), (others, confidence_too) = onnx.map(image), torched.map(image)
    assert (classes == others).mean() > 0.999
    assert np.abs(confidence.astype(int) - confidence_too.astype(int)).max() <= 1
    assert torched.digest is not None
    assert torched.digest != onnx.digest


def test_at_another_scale_the_same_label_pixels_are_measured(pixel_model: Path) -> None:
    small = noise(40, 60)
    enlarged = small.repeat(2, axis=0).repeat(2, axis=1)
    model = replace(load_model(pixel_model), scale=0.5)
    classes, confidence = model.map(enlarged)
    np.testing.assert_array_equal(classes, expected_classes(enlarged))
    np.testing.assert_array_equal(confidence, enlarged[..., 1])


def test_names_differ_and_a_file_is_named_once(tmp_path: Path) -> None:
    paths = []
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        paths.append(write_pixel_model(tmp_path / folder / "best.onnx", pixel_contract("pixels")))
    alone = write_pixel_model(tmp_path / "alone.onnx", pixel_contract("pixels"))
    assert [each.name for each in load_models([*paths, alone])] == ["before/best", "after/best", "alone"]
    with pytest.raises(InvalidConfiguration, match="named twice"):
        load_models([alone, tmp_path / "before" / ".." / "alone.onnx"])


def test_union_of_classes() -> None:
    def model(name: str, *classes: tuple[int, str]) -> BlockModel:
        return BlockModel(
            run=lambda window: (window[..., 0], window[..., 1]),
            classes=tuple(LandCoverClass(value=value, name=word, color="#000000") for value, word in classes),
            name=name,
        )

    a, b = model("a", (8, "building"), (1, "bareland")), model("b", (4, "road"), (8, "building"))
    assert [each.value for each in union_of_classes([a, b])] == [1, 4, 8]
    with pytest.raises(InvalidConfiguration, match="Class 8 is 'building' to a but 'house' to c"):
        union_of_classes([a, b, model("c", (8, "house"))])


def test_a_value_that_no_contract_names_is_the_models_fault(tmp_path: Path) -> None:
    contract = pixel_contract("pixels").model_copy(update={"classes": pixel_contract("pixels").classes[:3]})
    model = load_model(write_pixel_model(tmp_path / "m.onnx", contract))
    source = LabelledImage(name="a", image=noise(64, 64), label=np.ones((64, 64), np.uint8))
    with pytest.raises(InvalidModel, match=r"m\.onnx returns the class values 4, 5, 6, 7, 8"):
        evaluate_windows([model], [source], classes=model.classes)


def test_a_window_that_leaves_no_block_is_refused(tmp_path: Path) -> None:
    for window_px, halo_px in ((256, 128), (250, 32), (256, -1)):
        with pytest.raises(InvalidConfiguration, match="--window is a multiple of 32"):
            load_model(tmp_path / "m.pt", window_px=window_px, halo_px=halo_px)
