"""Checkpoints: a network's weights and what is needed to rebuild it. Loading is strict and unpickles tensors only."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from landcover.contract import Metrics
from landcover.errors import LandcoverError
from landcover_export.atomic import atomic_path
from landcover_export.networks import NetworkConfig, build_network

_FORMAT = 1


class CheckpointError(LandcoverError):
    """A checkpoint that cannot be read, or is of another network."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network in evaluation mode, and what it was trained and measured on."""

    config: NetworkConfig
    network: nn.Module
    training_data: tuple[str, ...] = ()
    metrics: Metrics | None = None


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write tensors and JSON texts to `path`, whole or not at all."""
    document = {
        "landcover_checkpoint": _FORMAT,
        "network": checkpoint.config.model_dump_json(),
        "training_data": list(checkpoint.training_data),
        "metrics": checkpoint.metrics.model_dump_json() if checkpoint.metrics else None,
        "state_dict": checkpoint.network.state_dict(),
    }
    with atomic_path(path) as temporary:
        torch.save(document, temporary)


def load_checkpoint(path: Path, config: NetworkConfig | None = None) -> Checkpoint:
    """Read our own checkpoint, or a bare state dict of the network that `config` describes.

    A bare state dict may lie under the key `state_dict` or `model`, and its keys may begin with `module.`, as
    `torch.nn.DataParallel` writes them.

    Raises:
        CheckpointError: not readable, of another network, or bare and `config` is None.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}.")
    try:
        document: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is no checkpoint of tensors ({reason}).") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, not a state dict.")
    training_data: tuple[str, ...] = ()
    metrics: Metrics | None = None
    if "landcover_checkpoint" in document:
        if document["landcover_checkpoint"] != _FORMAT:
            raise CheckpointError(f"{path} was written by another version of landcover train; train it again.")
        try:
            config = NetworkConfig.model_validate_json(document["network"])
            if document["metrics"]:
                metrics = Metrics.model_validate_json(document["metrics"])
        except ValidationError as error:
            raise CheckpointError(f"The description in {path} is not valid: {error}") from error
        training_data = tuple(document["training_data"])
    if config is None:
        raise CheckpointError(
            f"{path} is a bare state dict and does not say of which network; name it, "
            "e.g. with --network openearthmap-b4."
        )
    network = build_network(config)
    _load_strictly(network, _state_dict(document), path)
    return Checkpoint(config=config, network=network.eval(), training_data=training_data, metrics=metrics)


def _state_dict(document: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors by name, without the wrapper's key and without the `module.` prefix."""
    for key in ("state_dict", "model"):
        if isinstance(document.get(key), dict):
            document = document[key]
    return {name.removeprefix("module."): value for name, value in document.items()}


def _load_strictly(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    expected = network.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if isinstance(tensors.get(name), Tensor) and tensors[name].shape != expected[name].shape
    ]
    faults = []
    if missing:
        faults.append(f"{len(missing)} tensors are missing ({missing[0]}, …)")
    if surplus:
        faults.append(f"{len(surplus)} tensors have no place ({surplus[0]}, …)")
    if shapes:
        faults.append(f"{len(shapes)} tensors have another shape ({shapes[0]}, …)")
    if faults:
        raise CheckpointError(f"{path} is a checkpoint of another network: " + "; ".join(faults) + ".")
    network.load_state_dict(tensors, strict=True)
