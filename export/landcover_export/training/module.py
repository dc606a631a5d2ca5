"""The network as Lightning trains it: loss, optimizer, and accuracy over the windows looked at after each epoch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from landcover.errors import LandcoverError
from landcover_export.torchvision_ops import make_torchvision_importable
from landcover_export.training.config import TrainConfig
from landcover_export.training.crops import IGNORED

make_torchvision_importable()  # torchmetrics and Lightning import torchvision

from lightning.pytorch import LightningModule  # noqa: E402
from torchmetrics.classification import MulticlassConfusionMatrix  # noqa: E402

from landcover_export.fused import FusedSegmentation  # noqa: E402

MONITORED = "val/miou"


class TrainingDiverged(LandcoverError):
    """The loss is no number any more."""


class SegmentationModule(LightningModule):
    """A network, its loss and its figures. Batches are image uint8 `[N, H, W, 3]` and target int64 `[N, H, W]`."""

    def __init__(self, network: nn.Module, config: TrainConfig, class_weights: Tensor, total_steps: int) -> None:
        super().__init__()
        self.fused = FusedSegmentation(network, config.network)
        self.config = config
        self._total_steps = total_steps
        self.register_buffer("class_weights", class_weights)
        self._confusion = MulticlassConfusionMatrix(len(config.network.channel_values), ignore_index=IGNORED)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[N, C, H, W]` of uint8 `[N, H, W, 3]`."""
        pixels = self.fused.normalised(image).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.fused.network(pixels)
        return logits

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Draw the same random numbers in an epoch after a restart as without one.

        At the first batch and not at the epoch's start: in between a loader draws from the same generator, though
        not in the first epoch after a restart.
        """
        if batch_idx == 0:
            torch.manual_seed(self.config.seed * 1_000_003 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingDiverged: it is no number.
        """
        image, target = batch
        loss = segmentation_loss(
            self(image).float(),
            target,
            self.get_buffer("class_weights"),
            dice=self.config.dice,
            label_smoothing=self.config.label_smoothing,
        )
        if not math.isfinite(float(loss.detach())):
            raise TrainingDiverged(
                f"The loss is {float(loss.detach())} at step {self.global_step}; begin again in another --out with a "
                f"learning_rate below {self.config.learning_rate:g} or precision=32 (weights= takes a checkpoint of "
                "this run)."
            )
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(image))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Count one batch into the confusion matrix."""
        image, target = batch
        logits = self(image).float()
        self._confusion.update(logits.argmax(dim=1), target)
        loss = segmentation_loss(
            logits, target, self.get_buffer("class_weights"), dice=self.config.dice, label_smoothing=0.0
        )
        self.log("val/loss", loss, sync_dist=True, batch_size=len(image))

    def on_validation_epoch_end(self) -> None:
        """Log OA, AA and mIoU, the means over the classes that the windows hold."""
        confusion = self._confusion.compute().double()
        self._confusion.reset()
        correct, reference, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        present = reference > 0
        figures = {
            "val/oa": correct.sum() / reference.sum().clamp(min=1),
            "val/aa": (correct / reference)[present].mean() if present.any() else confusion.new_zeros(()),
            MONITORED: (correct / (reference + predicted - correct))[present].mean()
            if present.any()
            else confusion.new_zeros(()),
        }
        self.log_dict({name: value.float() for name, value in figures.items()}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW under one cycle of the learning rate; norms and biases do not decay."""
        decayed = [p for p in self.fused.network.parameters() if p.ndim > 1]
        kept = [p for p in self.fused.network.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": kept, "weight_decay": 0.0}],
            lr=self.config.learning_rate,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.config.learning_rate, total_steps=self._total_steps, pct_start=self.config.warmup
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def segmentation_loss(
    logits: Tensor, target: Tensor, class_weights: Tensor, *, dice: float, label_smoothing: float
) -> Tensor:
    """Weighted cross-entropy plus `dice` times the soft Dice loss, over labelled pixels.

    Args:
        logits: float `[N, C, H, W]`.
        target: channels, int64 `[N, H, W]`; `IGNORED` counts nowhere.
        class_weights: float `[C]`.
        dice: weight of the second part (Milletari et al., "V-Net", 3DV 2016), averaged over the classes that the
            batch's labels hold.
        label_smoothing: of the first part.
    """
    labelled = target != IGNORED
    if not labelled.any():
        return logits.sum() * 0.0  # a batch without a label teaches nothing; its mean would be 0 / 0
    entropy = functional.cross_entropy(
        logits, target, class_weights, ignore_index=IGNORED, label_smoothing=label_smoothing
    )
    if not dice:
        return entropy
    probability = logits.softmax(dim=1) * labelled.unsqueeze(1)
    truth = functional.one_hot(target.clamp(min=0), logits.shape[1]).movedim(-1, 1) * labelled.unsqueeze(1)
    axes = (0, 2, 3)
    area = truth.sum(axes)
    overlap = 2 * (probability * truth).sum(axes) / (probability.sum(axes) + area).clamp(min=1e-6)
    return entropy + dice * (1 - overlap[area > 0].mean())
