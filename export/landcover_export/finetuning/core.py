"""Training a parent further on a little that is new, mixed with a share of what it was trained on before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from landcover.contract import STRIDE_PX
from landcover_export.checkpoints import Checkpoint
from landcover_export.labelled import DataError, LabelledImage
from landcover_export.networks import build_network
from landcover_export.training.config import Augmentation, DrawnSource, TrainConfig, Zoom
from landcover_export.training.crops import InMemory, Pool
from landcover_export.training.data import TrainingData
from landcover_export.training.run import fit  # makes Lightning importable

from lightning.pytorch import LightningModule, Trainer  # isort: skip
from lightning.pytorch.callbacks import Callback  # isort: skip


class FinetuneConfig(BaseModel):
    """How a parent is trained further."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replay: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of crops that come from the base set, so that what is known is not forgotten."""
    crop_px: Annotated[int, Field(ge=STRIDE_PX, multiple_of=STRIDE_PX)] = 224
    zoom: Zoom = (0.8, 1.25)
    """Image pixels per crop pixel of the annotated places."""
    batch: Annotated[int, Field(ge=2)] = 6
    epochs: Annotated[int, Field(ge=1)] = 4
    steps_per_epoch: Annotated[int, Field(ge=1)] = 25
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.96
    augmentation: Augmentation = Augmentation()
    threads: Annotated[int, Field(ge=0)] = 0
    seed: int = 1


def finetune(
    parent: Checkpoint,
    annotated: Sequence[LabelledImage],
    replay: Sequence[Pool],
    config: FinetuneConfig,
    out: Path,
    last: Path | None = None,
    on_epoch: Callable[[int, int], object] | None = None,
) -> nn.Module:
    """The parent's network, trained further; the parent is left as it is.

    Args:
        parent: what to start from.
        annotated: places with sparse labels (0 is ignored), each at least a crop large.
        replay: pools of the base set; may be empty if `config.replay` is 0.
        config: the recipe.
        out: folder for checkpoints and curves.
        last: the checkpoint to resume from.
        on_epoch: called after each epoch with those that are done and all of them.

    Raises:
        DataError: nothing is annotated, or there is nothing to replay.
        TrainingDiverged: the loss is no number any more.
    """
    counts = sum((np.bincount(each.label.ravel(), minlength=256) for each in annotated), np.zeros(256, np.int64))
    if not counts[1:].sum():
        raise DataError("No pixel is annotated; draw at least one polygon inside a scene.")
    if config.replay and not replay:
        raise DataError("There is no base set to replay; name it with --base, or say --replay 0.")
    shares = np.where(np.arange(256) > 0, counts / counts[1:].sum(), 0.0)
    pools = [Pool(images=[InMemory(each) for each in annotated], zoom=config.zoom, share=1 - config.replay)]
    if config.replay:
        known = class_shares(replay)
        shares = (1 - config.replay) * shares + config.replay * known
        total = sum(pool.share for pool in replay)
        pools += [Pool(images=pool.images, zoom=pool.zoom, share=config.replay * pool.share / total) for pool in replay]
    network = build_network(parent.config)
    network.load_state_dict(parent.network.state_dict(), strict=True)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    data = TrainingData(train=tuple(pools), validation=(), held_out=(), shares=shares, sources=(), validation_name="")
    told = [] if on_epoch is None else [_EpochsTold(on_epoch)]
    fit(network, train_config(parent, config), data, out, last, told)
    return network


class _EpochsTold(Callback):
    def __init__(self, tell: Callable[[int, int], object]) -> None:
        self._tell = tell

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell how many epochs are done."""
        self._tell(trainer.current_epoch + 1, trainer.max_epochs or 0)


def class_shares(pools: Sequence[Pool]) -> npt.NDArray[np.float64]:
    """Share of each class value among the pools' labelled pixels, `(256,)`, weighted by their `share`."""
    shares = np.zeros(256)
    for pool in pools:
        counts = np.zeros(256)
        for image in pool.images:
            label = image.read_window(0, 0, image.height_px, image.width_px).label
            counts += np.bincount(label[::4, ::4].ravel(), minlength=256)
        counts[0] = 0
        shares += pool.share * counts / max(counts.sum(), 1)
    return np.asarray(shares / max(shares.sum(), 1e-12))


def train_config(parent: Checkpoint, config: FinetuneConfig) -> TrainConfig:
    """A round as the trainer knows it; its data are given to `fit` apart."""
    return TrainConfig(
        data=(DrawnSource(drawn=1),),  # not read: the pools are given
        classes=parent.classes,
        network=parent.config,
        crop_px=config.crop_px,
        batch=config.batch,
        epochs=config.epochs,
        crops_per_epoch=config.steps_per_epoch * config.batch,
        learning_rate=config.learning_rate,
        ema_decay=config.ema_decay,
        augmentation=config.augmentation,
        threads=config.threads,
        devices=1,  # Lightning starts this very command again for each further GPU, which in a trainer is the trainer
        seed=config.seed,
    )
