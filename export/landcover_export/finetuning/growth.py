"""Growing a network by classes that annotations bring: old channels are copied exactly, new ones begin as a mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from landcover.annotations import Annotation
from landcover.classes import UNKNOWN, LandCoverClass
from landcover_export.checkpoints import Checkpoint, CheckpointError
from landcover_export.labelled import DataError
from landcover_export.networks import NetworkConfig, build_network


def new_classes(known: Sequence[LandCoverClass], annotations: Iterable[Annotation]) -> tuple[LandCoverClass, ...]:
    """The classes of `annotations` that `known` lacks, by value.

    Raises:
        DataError: a value or a name means one class here and another there; every such annotation is named.
    """
    by_value = {each.value: each for each in known}
    by_name = {each.name: each for each in known}
    brought: dict[int, LandCoverClass] = {}
    faults: dict[tuple[int, str], str] = {}
    for annotation in annotations:
        kind = annotation.land_cover_class
        here = by_value.get(kind.value), by_name.get(kind.name)
        if here == (None, None):
            by_value[kind.value] = by_name[kind.name] = brought[kind.value] = kind
        elif here[0] is not here[1]:
            other = here[0] or here[1]
            faults.setdefault(
                (kind.value, kind.name),
                f"Annotation {annotation.id} is of class {kind.value} '{kind.name}', but {other.value} '{other.name}' "  # type: ignore[union-attr]
                "is known; give it the known class, or a value and a name that are free.",
            )
    if faults:
        raise DataError(" ".join(faults.values()))
    return tuple(brought[value] for value in sorted(brought))


def grow(parent: Checkpoint, brought: Sequence[LandCoverClass]) -> Checkpoint:
    """The parent with a channel more for each class in `brought`; the parent itself where there is none.

    Weights of old channels are copied bit by bit. A new channel begins as the mean of the channels that can be
    predicted, so that its logit is the mean of theirs and never the largest: before the first step the grown network
    maps every pixel as the parent does (with a little less confidence), and the new channel lies in the midst of
    what the head can tell apart instead of at a random place that the replay would first have to push it out of.

    Raises:
        CheckpointError: the network has no head that could grow.
    """
    if not brought:
        return parent
    old = parent.config
    config = old.model_copy(update={"channel_values": (*old.channel_values, *(each.value for each in brought))})
    network = build_network(config)
    network.load_state_dict(_grown(parent.network, network, config, len(old.channel_values)), strict=True)
    return replace(parent, config=config, classes=(*parent.classes, *brought), network=network.eval())


def _grown(old: nn.Module, new: nn.Module, config: NetworkConfig, channels: int) -> dict[str, Tensor]:
    """The larger network's state: the old one's, where a tensor of the head has rows for the new channels, too."""
    kept = [index for index, value in enumerate(config.channel_values[:channels]) if value != UNKNOWN]
    expected, state = new.state_dict(), old.state_dict()
    grown = {}
    for name, target in expected.items():
        source = state[name]
        if source.shape != target.shape:
            if source.shape[1:] != target.shape[1:] or source.shape[0] != channels:
                raise CheckpointError(
                    f"{config.architecture} cannot grow by a class: its tensor {name} is {tuple(source.shape)}, and "
                    f"would be {tuple(target.shape)}. Train a new model with landcover train, or use an architecture "
                    "with a plain head, such as Unet."
                )
            mean = source[kept].mean(dim=0, keepdim=True)
            source = torch.cat([source, mean.expand(target.shape[0] - channels, *mean.shape[1:])])
        grown[name] = source.clone()
    return grown
