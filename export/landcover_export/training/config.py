"""What a training run is told: data, network, recipe. Read from YAML, a shipped recipe, and `key=value` settings."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from landcover.classes import OPENEARTHMAP, LandCoverClass
from landcover.contract import STRIDE_PX, GsdRange
from landcover.errors import InvalidConfiguration
from landcover_export.networks import NetworkConfig

_STRICT = ConfigDict(frozen=True, extra="forbid")
Zoom = tuple[Annotated[float, Field(gt=0.1, le=16)], Annotated[float, Field(gt=0.1, le=16)]]


class LabelledSource(BaseModel):
    """Images and labels on disk: OpenEarthMap's layout, or plain `images/` and `labels/` folders."""

    model_config = _STRICT

    root: Path
    """Holds `images/` and `labels/`, or folders (regions) that do."""
    train: Path | tuple[str, ...] | None = None
    """A split list (a text file), names of folders, or None for all that is not held out."""
    validate_on: Annotated[Path | tuple[str, ...] | None, Field(alias="validate")] = None
    """A split list, or names of folders; None holds nothing out."""
    classes: dict[int, int] | None = None
    """Label value → class value, 0 to leave pixels out; None takes labels as OpenEarthMap's values."""
    gsd_m: Annotated[float, Field(gt=0)] | None = None
    """Ground sample distance of images without a georeference."""
    zoom: Zoom | None = None
    """Image pixels per crop pixel, smallest and largest; None follows from the GSD and the trained range."""
    share: Annotated[float, Field(gt=0)] = 1.0
    """How many crops come from here, relative to the other sources."""


class DrawnSource(BaseModel):
    """Scenes of the demonstration's generator: all eight classes, exact labels, no real place."""

    model_config = _STRICT

    drawn: Annotated[int, Field(ge=1)]
    """How many scenes to learn from."""
    first_seed: int = 1000
    side_px: Annotated[int, Field(ge=256)] = 1280
    validate_seeds: tuple[int, ...] = ()
    """Scenes to be measured on."""
    zoom: Zoom | None = None
    """As in a labelled source; drawn scenes have 0.5 m."""
    share: Annotated[float, Field(gt=0)] = 1.0

    @property
    def seeds(self) -> range:
        """Those to learn from."""
        return range(self.first_seed, self.first_seed + self.drawn)


class Augmentation(BaseModel):
    """How crops are varied. Turns by 90° and mirroring are always on: land has no up."""

    model_config = _STRICT

    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = 20.0
    """Of a third of the crops, either way; the corners are mirrored."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.25
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.25
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.45
    tint: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Red, green and blue each by up to this: light and sensors differ in colour, too."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.3
    noise: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    """Largest standard deviation of noise, of 1."""
    blur: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of crops that are blurred or compressed as JPEG."""


class TrainConfig(BaseModel):
    """A training run. The defaults are those of a U-Net-EfficientNet-B4 with scSE on OpenEarthMap."""

    model_config = _STRICT

    data: Annotated[tuple[LabelledSource | DrawnSource, ...], Field(min_length=1)]
    classes: tuple[LandCoverClass, ...] = OPENEARTHMAP
    """The vocabulary; the network has a channel for each."""
    network: NetworkConfig = NetworkConfig(
        encoder="efficientnet-b4",
        decoder_channels=None,
        decoder_attention_type="scse",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    weights: str = "imagenet"
    """`imagenet`, `random`, or a file: a checkpoint or ONNX model of ours, or a state dict of the encoder."""
    gsd: GsdRange = GsdRange(min_m=0.25, max_m=0.5)
    """Metres per pixel that the network is trained for."""
    crop_px: Annotated[int, Field(ge=STRIDE_PX, multiple_of=STRIDE_PX)] = 512
    candidates: Annotated[int, Field(ge=1, le=16)] = 2
    """Of so many random crops the one with the most classes is learnt from: rare classes come up more often."""
    batch: Annotated[int, Field(ge=2)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches for one step of the optimizer."""
    epochs: Annotated[int, Field(ge=1)] = 60
    crops_per_epoch: Annotated[int, Field(ge=2)] = 4000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak of a one-cycle schedule."""
    warmup: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the steps until the peak."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    class_balance: Literal["sqrt", "none"] = "sqrt"
    """Weight of a class in the loss: one over the square root of its share, or one."""
    dice: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the soft Dice loss beside cross-entropy."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of the exponential moving average of the weights, which is what is kept; 0 keeps the last ones."""
    augmentation: Augmentation = Augmentation()
    validation_crops: Annotated[int, Field(ge=1)] = 64
    """Windows looked at after each epoch, spread evenly over the held-out images."""
    patience: Annotated[int, Field(ge=1)] = 12
    """Epochs without a better mIoU until training stops."""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """Mixed precision; `auto` is 16 bit on a GPU, and bf16 on a CPU only where it has instructions for it."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """GPUs to train on."""
    threads: Annotated[int, Field(ge=0)] = 0
    """torch's threads on a CPU; 0 takes all cores."""
    loaders: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that cut crops."""
    seed: int = 1

    @model_validator(mode="after")
    def _channels_are_the_classes(self) -> TrainConfig:
        values = {each.value for each in self.classes}
        channels = {value for value in self.network.channel_values if value}
        if channels != values:
            raise ValueError(
                f"network.channel_values {sorted(channels)} are not the values of classes {sorted(values)}; name both"
            )
        return self

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return max(1, self.crops_per_epoch // self.batch)


def recipe_path(name: str) -> Path:
    """The YAML file of a shipped recipe."""
    return Path(str(files("landcover_export"))) / "training" / "recipes" / f"{name}.yaml"


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in recipe_path("").parent.glob("*.yaml"))


def read_config(name: str, settings: Sequence[str] = ()) -> TrainConfig:
    """The configuration in a YAML file or a shipped recipe, with `settings` such as `epochs=5` or `data.0.root=DIR`.

    Raises:
        InvalidConfiguration: there is no such file, or it is not valid, or a setting names nothing.
    """
    path = Path(name)
    if not path.is_file():
        if name not in recipe_names():
            raise InvalidConfiguration(
                f"There is no configuration {name}; name a YAML file or a recipe: {', '.join(recipe_names())}."
            )
        path = recipe_path(name)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{path} is no YAML ({error}).") from error
    if not isinstance(document, dict):
        raise InvalidConfiguration(f"{path} holds no configuration; it needs at least `data:`.")
    for setting in settings:
        _set(document, setting)
    return parse_config(document, str(path))


def parse_config(document: dict[str, Any], source: str) -> TrainConfig:
    """The configuration in a document read from `source`.

    Raises:
        InvalidConfiguration: it is not valid; all faults are named.
    """
    try:
        return TrainConfig.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'config'}: {each['msg']}" for each in error.errors())
        raise InvalidConfiguration(f"{source} is no valid training configuration: {faults}.") from error


def dump_config(config: TrainConfig) -> str:
    """The configuration as YAML, every key, as `read_config` reads it."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False)


def _set(document: dict[str, Any], setting: str) -> None:
    name, equals, text = setting.partition("=")
    if not equals or not name:
        raise InvalidConfiguration(f"'{setting}' is no setting; write key=value, such as epochs=5.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidConfiguration(f"'{setting}': the value is no YAML ({error}).") from error
    *parents, last = name.split(".")
    place: Any = document
    try:
        for key in parents:
            if isinstance(place, dict):
                place.setdefault(key, {})
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[int(last) if isinstance(place, list) else last] = value
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InvalidConfiguration(f"'{setting}': the configuration has no place {name}.") from error
