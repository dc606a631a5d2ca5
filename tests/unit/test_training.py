"""Training: configurations, crops, loss, and a run that is killed and goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from labelled_images import patchwork, write_folders, write_openearthmap
from landcover import local
from landcover.classes import OPENEARTHMAP
from landcover.cli import main
from landcover.errors import InvalidConfiguration
from landcover_export.checkpoints import CheckpointError, load_checkpoint
from landcover_export.labelled import DataError, LabelledImage, find_pairs
from landcover_export.networks import NetworkConfig
from landcover_export.training.config import (
    Augmentation,
    TrainConfig,
    dump_config,
    parse_config,
    read_config,
    recipe_names,
)
from landcover_export.training.crops import IGNORED, FixedCrops, InMemory, Pool, RandomCrops
from landcover_export.training.data import class_weights, load_data
from landcover_export.training.module import TrainingDiverged, segmentation_loss
from landcover_export.training.run import train

VALUES = tuple(each.value for each in OPENEARTHMAP)
PLAIN = Augmentation(rotate_degrees=0, brightness=0, contrast=0, saturation=0, tint=0, hue=0, gamma=0, noise=0, blur=0)


def small_run(root: Path, **changes: Any) -> dict[str, Any]:
    """A configuration that trains within seconds."""
    document: dict[str, Any] = {
        "data": [{"root": str(root), "train": ["north"], "validate": ["south"], "gsd_m": 0.5}],
        "network": {"encoder": "tu-tf_efficientnet_lite0", "decoder_channels": [16, 16, 8, 8, 8]},
        "weights": "random",
        "crop_px": 64,
        "batch": 2,
        "epochs": 2,
        "crops_per_epoch": 6,
        "validation_crops": 3,
        "threads": 1,
        "loaders": 0,
    }
    return document | changes


# --- configuration -----------------------------------------------------------------------------------------------


def test_the_default_is_the_papers_network() -> None:
    config = read_config("openearthmap")
    assert (config.network.architecture, config.network.encoder) == ("Unet", "efficientnet-b4")
    assert config.network.decoder_attention_type == "scse"
    assert config.weights == "imagenet"
    assert (config.gsd.min_m, config.gsd.max_m) == (0.25, 0.5)


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_come_back_whole(name: str) -> None:
    config = read_config(name)
    assert parse_config(yaml.safe_load(dump_config(config)), name) == config


def test_settings_change_what_a_recipe_says() -> None:
    config = read_config(
        "demo", ["epochs=3", "data.0.root=/elsewhere", "augmentation.hue=0.1", "gsd={min_m: 1, max_m: 2}"]
    )
    assert (config.epochs, str(config.data[0].root), config.augmentation.hue) == (3, "/elsewhere", 0.1)  # type: ignore[union-attr]
    assert config.gsd.max_m == 2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["epochs"], "is no setting"),
        (["epochs=0"], "epochs: Input should be greater than or equal to 1"),
        (["no_such_key=1"], "no_such_key: Extra inputs are not permitted"),
        (["data.9.root=x"], "has no place data.9.root"),
        (["crop_px=100"], "multiple of 32"),
        (["network.channel_values=[1, 2]"], "are not the values of classes"),
        (["epochs=[1"], "is no YAML"),
    ],
)
def test_settings_that_are_none(settings: list[str], sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence):
        read_config("demo", settings)


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="demo, demo-shipped, openearthmap"):
        read_config("nonsense")
    path = tmp_path / "mine.yaml"
    path.write_text("[")
    with pytest.raises(InvalidConfiguration, match="is no YAML"):
        read_config(str(path))
    path.write_text("")
    with pytest.raises(InvalidConfiguration, match="holds no configuration"):
        read_config(str(path))


# --- data --------------------------------------------------------------------------------------------------------


def load(document: dict[str, Any]) -> Any:
    return load_data(parse_config(document, "test"), Console(quiet=True))


def test_all_but_what_is_held_out_is_learnt(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"north": 2, "south": 1, "west": 1})
    data = load(small_run(root, data=[{"root": str(root), "validate": ["south"], "gsd_m": 0.5}]))
    assert sum(len(pool.images) for pool in data.train) == 3
    assert [pair.name for pair in data.held_out] == ["south_1"]
    labels = np.concatenate([pair.read_label().ravel() for pair in find_pairs(root, groups=["north", "west"])])
    np.testing.assert_allclose(data.shares, np.bincount(labels, minlength=256) / labels.size)
    assert data.train[0].zoom_of(2) == (
        0.6,
        1.0,
    )  # 0.25 to 0.5 m out of 0.5 m, but nothing is blown up by more than 1 / 0.6


def test_missing_images_of_a_split_list_are_reported_not_fatal(tmp_path: Path) -> None:
    root = write_openearthmap(tmp_path / "oem", {"aachen": 2, "tokyo": 1})
    (root / "train.txt").write_text("aachen_1.tif\naachen_2.tif\nxbd_5.tif\n")
    (root / "val.txt").write_text("tokyo_1.tif\n")
    console = Console(record=True, width=200)
    source = {"root": str(root), "train": "train.txt", "validate": "val.txt"}
    data = load_data(parse_config(small_run(root, data=[source]), "test"), console)
    assert len(data.train[0].images) == 2
    text = console.export_text()
    assert "1 of 3 images of train.txt are not in" in text
    assert "xbd_5" in text


@pytest.mark.parametrize(
    ("source", "kind", "sentence"),
    [
        (
            {"train": ["north", "south"], "validate": ["south"]},
            InvalidConfiguration,
            "both learnt from and measured on",
        ),
        ({"validate": ["north", "south"]}, DataError, "none is left to learn from"),
        ({"train": ["north"], "gsd_m": None}, DataError, "ground sample distance is not known"),
        ({"train": ["north"], "gsd_m": 3.0}, DataError, "too coarse for a network of 0.25 to 0.5 m"),
        ({"train": ["north"], "classes": {1: 1}}, DataError, "the class mapping does not name"),
        ({"train": ["north"], "classes": {1: 0, 4: 0, 5: 0, 6: 0, 8: 0}}, DataError, "Not one pixel of"),
        ({"train": ["north"], "classes": {1: 1, 4: 4, 5: 5, 6: 6, 8: 77}}, DataError, "label values 77, which are no"),
        ({"train": "nowhere.txt"}, DataError, "There is no split list"),
    ],
)
def test_what_is_wrong_with_the_data_is_said_first(
    tmp_path: Path, source: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    root = write_folders(tmp_path, {"north": 1, "south": 1})
    with pytest.raises(kind, match=sentence):
        load(small_run(root, data=[{"root": str(root), "gsd_m": 0.5} | source]))


def test_what_one_source_holds_out_no_other_may_learn(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"north": 1, "south": 1})
    sources = [
        {"root": str(root), "train": ["north"], "validate": ["south"], "gsd_m": 0.5},
        {"root": str(root), "train": ["south"], "gsd_m": 0.5},
    ]
    with pytest.raises(InvalidConfiguration, match=r"south_1\.png is both learnt from and measured on"):
        load(small_run(root, data=sources))
    with pytest.raises(InvalidConfiguration, match="the drawn scene 1001 is both learnt from"):
        load(
            small_run(root, data=[{"drawn": 1, "side_px": 256, "validate_seeds": [1001]}, {"drawn": 2, "side_px": 256}])
        )


def test_each_image_is_cut_at_its_own_ground_sample_distance(tmp_path: Path) -> None:
    write_openearthmap(tmp_path / "set", {"fine": 1}, gsd_m=0.25)
    root = write_openearthmap(tmp_path / "set", {"wide": 1}, gsd_m=0.5)
    (pool,) = load(small_run(root, data=[{"root": str(root)}])).train
    assert pool.zoom_of(0) == pytest.approx((1.0, 2.0), rel=5e-3)
    assert pool.zoom_of(1) == pytest.approx((0.6, 1.0), rel=5e-3)


def test_the_seed_of_the_demonstration_is_not_trained_on(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="must not be trained on"):
        load(small_run(tmp_path, data=[{"drawn": 2, "first_seed": 19}]))


# --- crops -------------------------------------------------------------------------------------------------------


def random_crops(
    images: list[LabelledImage], *, epoch: int = 0, augmentation: Augmentation = PLAIN, **more: Any
) -> RandomCrops:
    options: dict[str, Any] = {"side_px": 64, "count": 8, "candidates": 1, "channel_values": VALUES, "seed": 5}
    pool = Pool(images=[InMemory(each) for each in images], zoom=(1.0, 1.0), share=1.0)
    return RandomCrops([pool], epoch=epoch, augmentation=augmentation, **(options | more))


def labelled(seed: int) -> LabelledImage:
    image, label = patchwork(seed)
    return LabelledImage(name=str(seed), image=image, label=label)


def test_a_crop_follows_from_seed_epoch_and_number() -> None:
    images = [labelled(1), labelled(2)]
    first, again = random_crops(images, augmentation=Augmentation()), random_crops(images, augmentation=Augmentation())
    for i in reversed(range(8)):  # in whatever order they are asked for
        assert all(torch.equal(a, b) for a, b in zip(first[i], again[i], strict=True))
    later = random_crops(images, epoch=1, augmentation=Augmentation())
    assert not torch.equal(first[0][0], later[0][0])
    assert not torch.equal(first[0][0], first[1][0])


def test_image_and_label_are_turned_alike() -> None:
    """The image's red is its label's value, so any turn must keep them equal."""
    _, label = patchwork(3)
    image = np.repeat(label[..., None], 3, axis=2)
    for crop, target in random_crops([LabelledImage(name="x", image=image, label=label)]):  # type: ignore[attr-defined]
        channel = {value: i for i, value in enumerate(VALUES)}
        np.testing.assert_array_equal(np.vectorize(channel.get)(crop[..., 0].numpy()), target.numpy())


def test_what_is_not_labelled_is_ignored() -> None:
    image, label = patchwork(1)
    _, target = random_crops([LabelledImage(name="x", image=image, label=np.zeros_like(label))])[0]
    assert (target == IGNORED).all()
    _, target = random_crops([LabelledImage(name="x", image=image, label=label)], channel_values=(0, 1, 8))[0]
    assert set(target.unique().tolist()) <= {IGNORED, 1, 2}


def test_candidates_prefer_more_classes() -> None:
    _, label = patchwork(1, 512, 512, patch=96)
    image = np.repeat(label[..., None], 3, axis=2)
    scene = [LabelledImage(name="x", image=image, label=label)]

    def classes(candidates: int) -> float:
        crops = random_crops(scene, candidates=candidates, count=60)
        return float(np.mean([len(crops[i][1].unique()) for i in range(60)]))

    assert classes(6) > classes(1) + 0.3


def test_fixed_crops_tile_the_images() -> None:
    pool = Pool(images=[InMemory(labelled(1))], zoom=(1.0, 1.0), share=1.0)
    crops = FixedCrops([pool], side_px=64, count=100, channel_values=VALUES)
    assert len(crops) == 9  # 192 × 224 px hold 3 × 3 whole squares
    image, _ = patchwork(1)
    np.testing.assert_array_equal(crops[4][0], image[64:128, 64:128])
    assert len(FixedCrops([pool], side_px=64, count=4, channel_values=VALUES)) == 4


# --- loss --------------------------------------------------------------------------------------------------------


def test_loss_by_hand() -> None:
    """Two labelled pixels with probabilities 3/4 and 1/4 of their class, one pixel without a label."""
    logits = torch.log(torch.tensor([[[[0.75, 0.75, 0.5]], [[0.25, 0.25, 0.5]]]]))
    target = torch.tensor([[[0, 1, IGNORED]]])
    weights = torch.tensor([1.0, 3.0])
    entropy = (-np.log(0.75) - 3 * np.log(0.25)) / 4
    dice = 1 - (2 * 0.75 / (1.5 + 1) + 2 * 0.25 / (0.5 + 1)) / 2
    plain = segmentation_loss(logits, target, weights, dice=0, label_smoothing=0)
    both = segmentation_loss(logits, target, weights, dice=0.5, label_smoothing=0)
    assert plain.item() == pytest.approx(entropy, rel=1e-6)
    assert both.item() == pytest.approx(entropy + 0.5 * dice, rel=1e-5)


def test_a_batch_without_labels_teaches_nothing() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), IGNORED), torch.ones(2), dice=0.5, label_smoothing=0)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()  # type: ignore[union-attr]


def test_class_weights() -> None:
    shares = np.zeros(256)
    shares[[1, 4, 8]] = 0.64, 0.32, 0.04
    weights = class_weights(shares, (1, 4, 8))
    assert weights[0] < weights[1] < weights[2]
    assert float((weights * [0.64, 0.32, 0.04]).sum()) == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(np.sqrt(2), rel=1e-6)


# --- a run -------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_measured_model_curves_and_pictures(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {"north": 2, "south": 1})
    result = train(parse_config(small_run(root), "test"), tmp_path / "run", Console(quiet=True))
    checkpoint = load_checkpoint(result.checkpoint)
    assert result.epochs == 2
    assert checkpoint.metrics == result.metrics
    assert result.metrics is not None
    counted = sum(map(sum, result.metrics.confusion_matrix))
    assert counted == 192 * 224  # every labelled pixel of what was held out, once
    assert checkpoint.config == NetworkConfig(decoder_channels=(16, 16, 8, 8, 8))
    assert {"config.yaml", "model.pt", "metrics.csv", "curves.png", "predictions.png", "tensorboard"} <= {
        each.name for each in (tmp_path / "run").iterdir()
    }
    with pytest.raises(InvalidConfiguration, match="holds a training already"):
        train(parse_config(small_run(root), "test"), tmp_path / "run", Console(quiet=True))
    with pytest.raises(InvalidConfiguration, match="begun with another learning_rate"):
        changed = parse_config(small_run(root, learning_rate=1e-4), "test")
        train(changed, tmp_path / "run", Console(quiet=True), resume=True)
    with pytest.raises(InvalidConfiguration, match="There is no training in"):
        train(parse_config(small_run(root), "test"), tmp_path / "other", Console(quiet=True), resume=True)


def test_a_killed_training_goes_on_exactly(tmp_path: Path) -> None:
    """SIGKILL after an epoch, then --resume: the same weights, bit by bit, as without the kill."""
    root = write_folders(tmp_path / "set", {"north": 2, "south": 1})
    path = tmp_path / "config.yaml"
    network = {"architecture": "FPN", "encoder": "tu-tf_efficientnet_lite0", "decoder_channels": None}  # has dropout
    document = small_run(root, epochs=3, crops_per_epoch=8, network=network)
    path.write_text(yaml.safe_dump(document))
    whole = train(parse_config(document, "test"), tmp_path / "whole", Console(quiet=True))

    killed = tmp_path / "killed"
    command = local.landcover_command("train", str(path), "--out", str(killed))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (killed / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "model.pt").exists()

    assert main(["train", str(path), "--out", str(killed), "--resume"]) == 0
    resumed = load_checkpoint(killed / "model.pt").network.state_dict()
    for name, tensor in load_checkpoint(whole.checkpoint).network.state_dict().items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.parametrize("held_out", [True, False])
def test_every_epoch_can_be_resumed_from(tmp_path: Path, held_out: bool) -> None:
    """Also one that is no better than the best so far: with a learning rate of almost 0 none is."""
    root = write_folders(tmp_path / "set", {"north": 1, "south": 1})
    source = {"root": str(root), "train": ["north"], "gsd_m": 0.5} | ({"validate": ["south"]} if held_out else {})
    document = small_run(root, data=[source], epochs=3, crops_per_epoch=2, learning_rate=1e-30, ema_decay=0)
    train(parse_config(document, "test"), tmp_path / "run", Console(quiet=True))
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert best.exists() == held_out
    if held_out:
        assert torch.load(best, weights_only=True)["epoch"] == 0


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {"north": 1, "south": 1})
    config = parse_config(small_run(root, epochs=1, crops_per_epoch=2), "test")
    train(config, tmp_path / "run", Console(quiet=True))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged; remove it to begin anew"):
        train(config, tmp_path / "run", Console(quiet=True), resume=True)


def test_a_model_of_which_nothing_was_held_out_has_its_starts_figures(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {"north": 1, "south": 1})
    first = train(
        parse_config(small_run(root, epochs=1, crops_per_epoch=2), "test"), tmp_path / "a", Console(quiet=True)
    )
    alone = [{"root": str(root), "gsd_m": 0.5}]
    document = small_run(root, data=alone, epochs=1, crops_per_epoch=2, weights=str(first.checkpoint))
    second = train(parse_config(document, "test"), tmp_path / "b", Console(quiet=True))
    assert first.metrics is not None
    assert second.metrics is not None
    assert second.metrics.confusion_matrix == first.metrics.confusion_matrix
    assert "measured on the model that this one was trained on from" in second.metrics.dataset

    # A training's own checkpoint is a start as well, and an encoder alone is one without figures.
    state = tmp_path / "a" / "checkpoints" / "best.ckpt"
    third = train(parse_config(document | {"weights": str(state)}, "test"), tmp_path / "c", Console(quiet=True))
    tensors = load_checkpoint(first.checkpoint).network.state_dict()
    encoder = {name: tensor for name, tensor in tensors.items() if name.startswith("encoder.")}
    torch.save(encoder, tmp_path / "encoder.pt")
    document["weights"] = str(tmp_path / "encoder.pt")
    fourth = train(parse_config(document, "test"), tmp_path / "d", Console(quiet=True))
    assert third.metrics is fourth.metrics is None


def test_a_loss_that_is_no_number_is_said(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {"north": 1, "south": 1})
    config = parse_config(small_run(root, learning_rate=1e30, warmup=0.01, ema_decay=0, epochs=4), "test")
    with pytest.raises(TrainingDiverged, match=r"The loss is .* at step \d+; begin again in another --out"):
        train(config, tmp_path / "run", Console(quiet=True))


def test_check_looks_and_does_not_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path / "set", {"north": 1, "south": 1})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_run(root)))
    assert main(["train", str(path), "--out", str(tmp_path / "run"), "--check"]) == 0
    assert "of the labelled pixels" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_other_architectures_by_name() -> None:
    document = small_run(Path("set"), network={"architecture": "FPN", "encoder": "resnet18", "decoder_channels": None})
    config: TrainConfig = parse_config(document, "test")
    from landcover_export.networks import build_network

    assert build_network(config.network)(torch.zeros(1, 3, 64, 64)).shape == (1, 8, 64, 64)
