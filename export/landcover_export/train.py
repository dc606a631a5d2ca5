"""Training of the demonstration model: drawn scenes and real ones, half of each batch each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.progress import Progress
from torch import nn

from landcover.contract import Metrics
from landcover.demo import DEMO_SEED
from landcover.errors import InvalidConfiguration
from landcover_export.checkpoints import Checkpoint, save_checkpoint
from landcover_export.data import CropSampler, LabelledImage, drawn_scenes, read_tiles
from landcover_export.evaluate import BlockModel, evaluate_images, torch_runner
from landcover_export.fused import FusedSegmentation
from landcover_export.metrics import Accuracy
from landcover_export.networks import NetworkConfig, build_network, classes_of, load_imagenet_encoder

IGNORED = -1
"""Target of a pixel without a label."""


class TrainConfig(BaseModel):
    """A training run; the defaults are those of the shipped model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkConfig = NetworkConfig()
    train_tiles: tuple[int, ...] = (4, 5, 7, 8)
    """Real scenes to learn from."""
    holdout_tiles: tuple[int, ...] = (1, 3)
    """Real scenes to be measured on. {1,3}, {4,7,8} and {5} overlap on the ground and must stay together."""
    drawn_seeds: int = Field(default=48, ge=1)
    """Number of drawn scenes to learn from."""
    first_drawn_seed: int = 1000
    drawn_side_px: int = 1280
    holdout_drawn_seed: int = 900
    """Seed of the drawn scene to be measured on."""
    crop_px: Annotated[int, Field(multiple_of=32)] = 256
    real_zoom: tuple[float, float] = (0.6, 1.4)
    """Image pixels per crop pixel; the real scenes have about 1 m."""
    drawn_zoom: tuple[float, float] = (0.8, 2.2)
    """Image pixels per crop pixel; drawn scenes have 0.5 m."""
    batch: Annotated[int, Field(ge=2, multiple_of=2)] = 8
    steps: Annotated[int, Field(ge=1)] = 1400
    """Batches, from the ImageNet start."""
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 1e-2
    seed: int = 1
    threads: int = 2


def read_config(path: Path | None) -> TrainConfig:
    """The configuration in a YAML file, or the shipped model's.

    Raises:
        InvalidConfiguration: the file is missing or not valid, or a scene is both learnt and held out.
    """
    if path is None:
        return TrainConfig()
    if not path.is_file():
        raise InvalidConfiguration(f"There is no configuration at {path}.")
    try:
        config = TrainConfig.model_validate(yaml.safe_load(path.read_text()) or {})
    except (ValidationError, yaml.YAMLError) as error:
        raise InvalidConfiguration(f"{path} is no valid training configuration: {error}") from error
    if both := set(config.train_tiles) & set(config.holdout_tiles):
        raise InvalidConfiguration(f"{path}: scenes {sorted(both)} are both trained on and held out.")
    return config


def train(config: TrainConfig, data: Path, out: Path, console: Console) -> Path:
    """Train on some real scenes and on drawn ones, measure on others; returns the checkpoint's path.

    `out` receives `config.yaml` and `model.pt`, which carries its figures and what it learnt from.
    """
    torch.set_num_threads(config.threads)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    learnt = read_tiles(data, config.train_tiles)
    held_out = read_tiles(data, config.holdout_tiles)
    seeds = range(config.first_drawn_seed, config.first_drawn_seed + config.drawn_seeds)
    if DEMO_SEED in seeds or config.holdout_drawn_seed in seeds:
        raise InvalidConfiguration("The seeds of the demonstration and of the evaluation must not be trained on.")
    with Progress(console=console) as progress:
        drawing = progress.add_task("drawing scenes", total=len(seeds))
        drawn = list(progress.track(drawn_scenes(seeds, config.drawn_side_px), task_id=drawing))

    torch.manual_seed(config.seed)
    network = build_network(config.network)
    load_imagenet_encoder(network, config.network)
    fit(network, config, learnt, drawn, console)
    path = out / "model.pt"
    save_checkpoint(
        Checkpoint(
            config=config.network,
            network=network,
            training_data=_sources(seeds, config.train_tiles),
            metrics=measure(network, config, held_out, console),
        ),
        path,
    )
    return path


def measure(network: nn.Module, config: TrainConfig, held_out: Sequence[LabelledImage], console: Console) -> Metrics:
    """Accuracy on the held-out real scenes and on an unseen drawn one, pooled over their pixels."""
    fused = FusedSegmentation(network, config.network)
    model = BlockModel(run=torch_runner(fused), classes=classes_of(config.network))
    unseen = list(drawn_scenes([config.holdout_drawn_seed], 2048))
    total = np.zeros((len(model.classes), len(model.classes)), dtype=np.int64)
    for name, images in (("real, held out", held_out), ("drawn, unseen", unseen)):
        total += (confusion := evaluate_images(model, images))
        each = Accuracy(confusion=confusion)
        console.print(f"{name}: OA {each.overall:.3f}, AA {each.average:.3f}, mIoU {each.mean_iou:.3f}")
    tiles = ", ".join(map(str, config.holdout_tiles))
    return Accuracy(confusion=total).as_metrics(
        f"pooled: MBRSC Dubai scenes {tiles} and drawn scene {config.holdout_drawn_seed}, none of them trained on"
    )


def fit(
    network: nn.Module,
    config: TrainConfig,
    real: Sequence[LabelledImage],
    drawn: Sequence[LabelledImage],
    console: Console,
) -> None:
    """Train `network` in place by one cycle of the learning rate; it ends in evaluation mode.

    Raises:
        InvalidConfiguration: the loss is no number any more.
    """
    rng = np.random.default_rng(config.seed)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pools = (
        (real, CropSampler(side_px=config.crop_px, zoom=config.real_zoom)),
        (drawn, CropSampler(side_px=config.crop_px, zoom=config.drawn_zoom)),
    )
    target_of = torch.full((256,), IGNORED, dtype=torch.int64)
    target_of[list(config.network.channel_values)] = torch.arange(len(config.network.channel_values))
    loss_of = nn.CrossEntropyLoss(class_weights(real, drawn, config.network.channel_values), ignore_index=IGNORED)
    fused = FusedSegmentation(network, config.network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, config.steps, pct_start=0.15)
    mean_loss = float("nan")
    with Progress(console=console) as progress:
        task = progress.add_task("training", total=config.steps)
        for step in range(config.steps):
            crops = [sampler.sample(pool, rng) for pool, sampler in pools for _ in range(config.batch // 2)]
            images = torch.from_numpy(np.stack([image for image, _ in crops]))
            labels = torch.from_numpy(np.stack([label for _, label in crops]))
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(fused.normalised(images).contiguous(memory_format=torch.channels_last))
            loss = loss_of(logits.float(), target_of[labels.long()])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            value = float(loss.detach())
            if not np.isfinite(value):
                raise InvalidConfiguration(f"The loss is {value} at step {step}; lower the learning rate.")
            mean_loss = value if step == 0 else 0.98 * mean_loss + 0.02 * value
            progress.update(task, advance=1, description=f"training, loss {mean_loss:.3f}")
    network.eval()


def class_weights(real: Sequence[LabelledImage], drawn: Sequence[LabelledImage], values: Sequence[int]) -> torch.Tensor:
    """Weight of each channel: one over the square root of its class's share, 0.5 to 3, mean 1 over the pixels."""
    share = np.zeros(256)
    for pool in (real, drawn):
        count = sum(np.bincount(each.label[::4, ::4].ravel(), minlength=256) for each in pool)
        share += np.asarray(count) / np.sum(count) / 2
    share = share[list(values)]
    weight = np.clip(1 / np.sqrt(np.maximum(share, 1e-4) * len(values)), 0.5, 3)
    return torch.tensor(weight / (weight * share).sum() * share.sum(), dtype=torch.float32)


def _sources(seeds: range, tiles: Sequence[int]) -> tuple[str, ...]:
    """What a model learnt from, a sentence each, for its contract."""
    numbers = ", ".join(map(str, tiles))
    return (
        f"{len(seeds)} scenes drawn by landcover-tiles (seeds {seeds[0]} to {seeds[-1]}, 0.5 m)",
        f"MBRSC / Humans in the Loop aerial images of Dubai, scenes {numbers} (CC0 1.0), about 1 m",
        "encoder started from ImageNet weights (Apache-2.0)",
    )
