"""The base set: what the parent learnt before, replayed beside the annotations and measured again at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from landcover.contract import GsdRange
from landcover.errors import InvalidConfiguration
from landcover.grid import choose_decimation
from landcover_export.checkpoints import Checkpoint
from landcover_export.labelled import LabelledImage, LabelledPair
from landcover_export.training.config import (
    DrawnSource,
    LabelledSource,
    TrainConfig,
    read_config,
    recipe_names,
)
from landcover_export.training.crops import Pool
from landcover_export.training.data import load_data

DRAWN = "drawn"
"""The name of the base set that anybody has: scenes of the demonstration's generator."""

MAX_IMAGES = 60
"""Held-out images that are mapped by both models, evenly spread over those there are."""

_DRAWN_SOURCE = DrawnSource(drawn=16, first_seed=3000, validate_seeds=(900,))
_LISTS = ("train.txt", "val.txt")


@dataclass(frozen=True, kw_only=True)
class BaseSet:
    """What is replayed, and what is measured on."""

    pools: tuple[Pool, ...] = ()
    held_out: tuple[LabelledPair | LabelledImage, ...] = ()
    sources: tuple[str, ...] = ()
    """A sentence each, for the contract."""
    validation_name: str = ""


def load_base(name: str, student: Checkpoint, gsd: GsdRange, console: Console) -> BaseSet:
    """The base set that `name` means: a YAML file, a recipe, a run's folder, a dataset's folder, or `drawn`.

    Args:
        name: what the user said.
        student: its classes are those that the labels may hold.
        gsd: metres per pixel that it is trained for.
        console: for progress.

    Raises:
        DataError, InvalidConfiguration: it cannot be used; said before any training.
    """
    config = _config(name).model_copy(update={"classes": student.classes, "network": student.config, "gsd": gsd})
    data = load_data(config, console)
    chosen = np.linspace(0, len(data.held_out) - 1, min(MAX_IMAGES, len(data.held_out))).round().astype(int)
    return BaseSet(
        pools=data.train,
        held_out=tuple(data.held_out[i] for i in chosen),
        sources=data.sources,
        validation_name=data.validation_name,
    )


def held_out_images(base: BaseSet, gsd: GsdRange) -> Iterator[LabelledImage]:
    """The held-out images one after another, at the decimation at which serving would show them to the model."""
    for each in base.held_out:
        image = each.read() if isinstance(each, LabelledPair) else each
        decimation = None if image.gsd_m is None else choose_decimation(image.gsd_m, gsd)
        yield image if decimation in (None, 1) else _decimated(image, int(decimation or 1))


def _decimated(image: LabelledImage, factor: int) -> LabelledImage:
    height, width = (side // factor * factor for side in image.label.shape)
    pixels = Image.fromarray(np.ascontiguousarray(image.image[:height, :width])).reduce(factor)
    return LabelledImage(
        name=image.name,
        image=np.asarray(pixels),
        label=np.ascontiguousarray(image.label[factor // 2 : height : factor, factor // 2 : width : factor]),
        group=image.group,
        gsd_m=None if image.gsd_m is None else image.gsd_m * factor,
    )


def _config(name: str) -> TrainConfig:
    path = Path(name).expanduser()
    if name == DRAWN:
        return TrainConfig(data=(_DRAWN_SOURCE,))
    if (path / "config.yaml").is_file():
        return read_config(str(path / "config.yaml"))
    if path.is_dir():
        train, validate = (path / each if (path / each).is_file() else None for each in _LISTS)
        source = LabelledSource.model_validate({"root": path, "train": train, "validate": validate})
        return TrainConfig(data=(source,))
    if path.is_file() or name in recipe_names():
        return read_config(name)
    raise InvalidConfiguration(
        f"There is no base set {name}; name a training configuration, a recipe ({', '.join(recipe_names())}), a run's "
        f"folder, a folder with images/ and labels/, or '{DRAWN}'."
    )
