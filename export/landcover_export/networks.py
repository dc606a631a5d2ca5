"""Networks of segmentation-models-pytorch, described by a `NetworkConfig` that travels inside every checkpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from landcover.classes import OPENEARTHMAP, UNKNOWN, LandCoverClass
from landcover.errors import InvalidConfiguration
from landcover_export.torchvision_ops import make_torchvision_importable

Rgb = tuple[float, float, float]


class NetworkConfig(BaseModel):
    """Everything needed to build a network and to read its output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = "Unet"
    """A class of segmentation_models_pytorch."""
    encoder: str = "tu-tf_efficientnet_lite0"
    decoder_channels: tuple[int, ...] | None = (64, 48, 32, 24, 16)
    """None leaves the architecture's own default."""
    decoder_attention_type: Literal["scse"] | None = None
    channel_values: Annotated[tuple[int, ...], Field(min_length=1)] = tuple(c.value for c in OPENEARTHMAP)
    """Class value of each output channel; 0 marks a channel that is never predicted."""
    mean: Rgb = (0.5, 0.5, 0.5)
    """Subtracted from an image scaled to 0..1; red, green, blue."""
    std: Rgb = (0.5, 0.5, 0.5)
    """Divides what is left."""

    @model_validator(mode="after")
    def _values_are_distinct(self) -> NetworkConfig:
        values = [value for value in self.channel_values if value != UNKNOWN]
        if not values or len(set(values)) != len(values):
            raise ValueError("channel_values must name at least one class, and none twice")
        return self

    def __str__(self) -> str:
        """One line for a model's contract."""
        parts = [self.architecture, self.encoder]
        if self.decoder_channels is not None:
            parts.append("decoder " + "-".join(map(str, self.decoder_channels)))
        if self.decoder_attention_type is not None:
            parts.append(self.decoder_attention_type)
        return ", ".join(parts)


OPENEARTHMAP_B4 = NetworkConfig(
    encoder="efficientnet-b4",
    decoder_channels=None,
    decoder_attention_type="scse",
    channel_values=(UNKNOWN, *(each.value for each in OPENEARTHMAP)),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
"""OpenEarthMap's published U-Net: nine channels, of which the first is its background; input scaled to 0..1."""


def classes_of(config: NetworkConfig) -> tuple[LandCoverClass, ...]:
    """The classes that a network can predict, of OpenEarthMap's vocabulary.

    Raises:
        InvalidConfiguration: a channel stands for a value that is none of them.
    """
    vocabulary = {each.value: each for each in OPENEARTHMAP}
    values = sorted(value for value in config.channel_values if value != UNKNOWN)
    if strange := [value for value in values if value not in vocabulary]:
        raise InvalidConfiguration(f"The class values {strange} are not among OpenEarthMap's 1 to 8.")
    return tuple(vocabulary[value] for value in values)


def build_network(config: NetworkConfig) -> nn.Module:
    """The network with random weights: float `[N, 3, H, W]` in, logits `[N, channels, H, W]` out.

    Raises:
        InvalidConfiguration: segmentation-models-pytorch has no such architecture or encoder.
    """
    make_torchvision_importable()
    import segmentation_models_pytorch as smp

    options: dict[str, Any] = {}
    if config.decoder_attention_type is not None:
        options["decoder_attention_type"] = config.decoder_attention_type
    if config.decoder_channels is not None:
        options["decoder_channels"] = config.decoder_channels
    try:
        network = smp.create_model(
            arch=config.architecture,
            encoder_name=config.encoder,
            encoder_weights=None,
            in_channels=3,
            classes=len(config.channel_values),
            **options,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidConfiguration(
            f"segmentation-models-pytorch cannot build {config.architecture} with the encoder "
            f"'{config.encoder}': {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InvalidConfiguration(f"{config.architecture} is not a torch module.")
    return network
