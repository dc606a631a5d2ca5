"""Checkpoints: a network's weights and what is needed to rebuild it. Loading is strict and unpickles tensors only.

A model that `landcover export` wrote is a checkpoint, too: its initializers keep their names, and its metadata says
of which network. So what is served can be fine-tuned, and its lineage is the digest of the very file.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from landcover.atomic import atomic_path
from landcover.classes import LandCoverClass
from landcover.contract import GsdRange, Metrics, read_model
from landcover.errors import LandcoverError
from landcover_export.networks import NetworkConfig, build_network, classes_of

NETWORK_KEY = "landcover_network"
"""The key of an ONNX file's `metadata_props` that holds its `NetworkConfig`: its initializers make up that network."""

_FORMAT = 2
_IN_TRAINING = "fused.network."
"""Prefix of a network's tensors in the checkpoints of a running training."""


class CheckpointError(LandcoverError):
    """A checkpoint that cannot be read, or is of another network."""


class _Description(BaseModel):
    """All of a checkpoint that is not a tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkConfig
    classes: tuple[LandCoverClass, ...]
    gsd: GsdRange | None = None
    training_data: tuple[str, ...] = ()
    metrics: Metrics | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network in evaluation mode, and what it was trained and measured on."""

    config: NetworkConfig
    classes: tuple[LandCoverClass, ...]
    network: nn.Module
    gsd: GsdRange | None = None
    """Metres per pixel it was trained for, where that is known."""
    training_data: tuple[str, ...] = ()
    metrics: Metrics | None = None


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write tensors and a JSON text to `path`, whole or not at all."""
    description = _Description(
        network=checkpoint.config,
        classes=checkpoint.classes,
        gsd=checkpoint.gsd,
        training_data=checkpoint.training_data,
        metrics=checkpoint.metrics,
    )
    document = {
        "landcover_checkpoint": _FORMAT,
        "description": description.model_dump_json(),
        "state_dict": checkpoint.network.state_dict(),
    }
    with atomic_path(path) as temporary:
        torch.save(document, temporary)


def load_checkpoint(path: Path, config: NetworkConfig | None = None) -> Checkpoint:
    """Read our own checkpoint or ONNX model, or a bare state dict of the network that `config` describes.

    A bare state dict may lie under the key `state_dict` or `model`, and its keys may begin with `module.`, as
    `torch.nn.DataParallel` writes them.

    Raises:
        CheckpointError: not readable, of another network than `config`, or bare and `config` is None.
        InvalidModel: an ONNX file that does not keep its contract.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}.")
    if path.suffix == ".onnx":
        return _load_onnx(path, config)
    document = _unpickle_tensors(path)
    if "landcover_checkpoint" not in document:
        if config is None:
            raise CheckpointError(
                f"{path} is a bare state dict and does not say of which network; name it, "
                "e.g. with --network openearthmap-b4."
            )
        network = _rebuild(config, state_dict_of(document), path)
        return Checkpoint(config=config, classes=classes_of(config), network=network)
    if document["landcover_checkpoint"] != _FORMAT:
        raise CheckpointError(f"{path} was written by another version of landcover train; train it again.")
    try:
        about = _Description.model_validate_json(document["description"])
    except (ValidationError, KeyError) as error:
        raise CheckpointError(f"The description in {path} is not valid: {error}") from error
    _expect(config, about.network, path)
    return Checkpoint(
        config=about.network,
        classes=about.classes,
        network=_rebuild(about.network, state_dict_of(document), path),
        gsd=about.gsd,
        training_data=about.training_data,
        metrics=about.metrics,
    )


def tensors_of_onnx(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state dict from an ONNX file's initializers.

    What the graph does not use is not in the file (a batch counter, an encoder's last layer that no decoder reads):
    there `expected` stands. A convolution that was given its padding as a layer of its own (`with_static_padding`)
    is found one level deeper.
    """
    stored = {each.name: each for each in onnx.load(str(path)).graph.initializer}
    found = dict(expected)
    for name, tensor in expected.items():
        module, _, leaf = name.rpartition(".")
        source = stored.get(f"network.{name}") or stored.get(f"network.{module}.1.{leaf}")
        if source is not None:
            found[name] = torch.from_numpy(np.array(onnx.numpy_helper.to_array(source))).to(tensor.dtype)
    return found


def _load_onnx(path: Path, config: NetworkConfig | None) -> Checkpoint:
    contract = read_model(path).contract
    metadata = {each.key: each.value for each in onnx.load(str(path)).metadata_props}
    try:
        stored = NetworkConfig.model_validate_json(metadata[NETWORK_KEY])
    except (KeyError, ValidationError) as error:
        raise CheckpointError(
            f"{path} can be run but not trained: it does not name its network. Use the checkpoint it was exported from."
        ) from error
    _expect(config, stored, path)
    tensors = tensors_of_onnx(path, build_network(stored).state_dict())
    return Checkpoint(
        config=stored,
        classes=contract.classes,
        network=_rebuild(stored, tensors, path),
        gsd=contract.gsd,
        training_data=contract.training_data,
        metrics=contract.metrics,
    )


def _unpickle_tensors(path: Path) -> dict[str, Any]:
    try:
        document: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is no checkpoint of tensors ({reason}).") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, not a state dict.")
    return document


def _expect(wanted: NetworkConfig | None, found: NetworkConfig, path: Path) -> None:
    if wanted is not None and wanted != found:
        raise CheckpointError(f"{path} is of another network: it is {found}, {wanted} was expected.")


def _rebuild(config: NetworkConfig, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    network = build_network(config)
    _load_strictly(network, tensors, path)
    return network.eval()


def state_dict_of(document: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors by name, without the wrapper's key and without the `module.` prefix."""
    for key in ("state_dict", "model"):
        if isinstance(document.get(key), dict):
            document = document[key]
    if any(name.startswith(_IN_TRAINING) for name in document):
        document = {name: value for name, value in document.items() if name.startswith(_IN_TRAINING)}
    return {name.removeprefix(_IN_TRAINING).removeprefix("module."): value for name, value in document.items()}


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
