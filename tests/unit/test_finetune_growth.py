"""A network grows by a class: old weights bit by bit, and the same map until it is trained."""

from __future__ import annotations

import pytest
import torch
from shapely import box

from landcover.classes import OPENEARTHMAP, LandCoverClass
from landcover_export.checkpoints import Checkpoint, CheckpointError
from landcover_export.finetuning.core import FinetuneConfig, train_config
from landcover_export.finetuning.growth import grow, new_classes
from landcover_export.fused import FusedSegmentation
from landcover_export.labelled import DataError
from landcover_export.networks import NetworkConfig, build_network
from rasters import UTM54
from rounds import annotation

SOLAR = LandCoverClass(value=9, name="solar panel", color="#1122ee")
POOL = LandCoverClass(value=42, name="pool", color="#00eeee")


def parent(**network: object) -> Checkpoint:
    torch.manual_seed(0)
    config = NetworkConfig(encoder="tu-mobilenetv3_small_050", decoder_channels=(16, 16, 8, 8, 8), **network)
    built = build_network(config)
    for parameter in built.parameters():  # biases are zero at first, which would hide a mistake
        torch.nn.init.normal_(parameter, std=0.2)
    return Checkpoint(config=config, classes=OPENEARTHMAP, network=built.eval())


BACKGROUND = (0, *range(1, 9))


@pytest.mark.parametrize("values", [tuple(range(1, 9)), BACKGROUND])
def test_old_channels_are_copied_exactly_and_the_map_stays(values: tuple[int, ...]) -> None:
    before = parent(channel_values=values)
    after = grow(before, (SOLAR, POOL))
    assert after.config.channel_values == (*values, 9, 42)
    assert after.classes == (*OPENEARTHMAP, SOLAR, POOL)
    old, new = before.network.state_dict(), after.network.state_dict()
    assert old.keys() == new.keys()
    grown = [name for name in old if old[name].shape != new[name].shape]
    assert grown == ["segmentation_head.0.weight", "segmentation_head.0.bias"]
    for name, tensor in old.items():
        assert torch.equal(new[name][: len(tensor)] if tensor.ndim else new[name], tensor)
    kept = [index for index, value in enumerate(values) if value]
    for name in grown:
        for channel in (len(values), len(values) + 1):
            torch.testing.assert_close(new[name][channel], old[name][kept].mean(dim=0))
    image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected, sure = FusedSegmentation(before.network, before.config)(image)
        found, less_sure = FusedSegmentation(after.network, after.config).eval()(image)
    assert len(expected.unique()) > 1
    assert torch.equal(found, expected)
    assert (less_sure <= sure).all()


def test_without_new_classes_the_parent_is_returned() -> None:
    before = parent()
    assert grow(before, ()) is before


def test_a_grown_network_can_be_trained(tmp_path: object) -> None:
    config = train_config(grow(parent(), (SOLAR,)), FinetuneConfig())
    assert config.classes[-1] == SOLAR and config.network.channel_values[-1] == 9


def test_a_head_that_cannot_grow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landcover_export.finetuning.growth.build_network", lambda _: torch.nn.Linear(3, 9))
    before = Checkpoint(config=NetworkConfig(), classes=OPENEARTHMAP, network=torch.nn.Linear(4, 8))
    with pytest.raises(CheckpointError, match="Unet cannot grow by a class: its tensor weight"):
        grow(before, (SOLAR,))


def test_new_classes_are_found_once_each_and_by_value() -> None:
    outline = box(415_000, 3_999_900, 415_010, 3_999_910)
    pools, panels = ({"class_name": each.name, "class_color": each.color} for each in (POOL, SOLAR))
    annotations = [
        annotation(outline, 42, crs=UTM54, **pools),
        annotation(outline, 9, crs=UTM54, **panels),
        annotation(outline, 9, crs=UTM54, **panels | {"class_color": "#ffffff"}),  # the first colour counts
        annotation(outline, 5, crs=UTM54),
    ]
    assert new_classes(OPENEARTHMAP, annotations) == (SOLAR, POOL)
    assert new_classes((*OPENEARTHMAP, SOLAR, POOL), annotations) == ()


@pytest.mark.parametrize(("value", "name"), [(5, "solar panel"), (9, "tree"), (5, "water")])
def test_a_value_or_name_of_another_class_is_refused(value: int, name: str) -> None:
    wrong = annotation(box(415_000, 3_999_900, 415_010, 3_999_910), value, crs=UTM54, class_name=name)
    with pytest.raises(DataError, match=f"Annotation {wrong.id} is of class {value} '{name}', but .* is known"):
        new_classes(OPENEARTHMAP, [wrong])
