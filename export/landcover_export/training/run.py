"""A training run: from a configuration to a folder with checkpoints, curves, pictures and a measured model.

A run folder holds `config.yaml` (every key), `checkpoints/last.ckpt` (written after every epoch, from which `resume`
goes on exactly) and the best one, `model.pt` (the result), `metrics.csv`, `curves.png`, `predictions.png` and what
TensorBoard reads.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from landcover.atomic import atomic_path
from landcover.contract import Metrics
from landcover.errors import InvalidConfiguration
from landcover.grid import choose_decimation
from landcover_export.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from landcover_export.evaluation.evaluate import evaluate_images
from landcover_export.evaluation.metrics import Accuracy
from landcover_export.evaluation.models import BlockModel, torch_runner
from landcover_export.fused import FusedSegmentation
from landcover_export.labelled import LabelledPair
from landcover_export.networks import build_network
from landcover_export.starts import load_start
from landcover_export.torchvision_ops import make_torchvision_importable
from landcover_export.training.config import TrainConfig, dump_config, parse_config
from landcover_export.training.crops import FixedCrops, RandomCrops
from landcover_export.training.data import TrainingData, class_weights, load_data
from landcover_export.training.module import MONITORED, SegmentationModule
from landcover_export.training.pictures import draw_curves, draw_predictions

make_torchvision_importable()

from lightning.fabric.plugins import TorchCheckpointIO  # noqa: E402
from lightning.pytorch import LightningDataModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import (  # noqa: E402
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger  # noqa: E402

LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
OF_THE_MACHINE = {"devices", "loaders", "threads"}
"""Keys that may differ when a run is resumed: it may go on elsewhere."""
MODEL = "model.pt"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What came of a run."""

    checkpoint: Path
    epochs: int
    """Epochs that were run, over all resumptions."""
    metrics: Metrics | None
    """On what was held out; None if nothing was."""


def train(config: TrainConfig, out: Path, console: Console, *, resume: bool = False) -> TrainResult:
    """Train as `config` says into the folder `out`.

    Raises:
        DataError, InvalidConfiguration: what is wrong with the data or the configuration, before the first step.
        TrainingDiverged: the loss is no number any more.
    """
    last = _open_folder(config, out, resume=resume)
    torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
    data = load_data(config, console)
    torch.manual_seed(config.seed)
    network = build_network(config.network)
    if last is None:
        load_start(network, config.network, config.weights)
    inherited = None if data.held_out else _metrics_of_start(config, console)
    fitted = fit(network, config, data, out, last)
    path = out / MODEL
    if not _is_first_process():
        return TrainResult(checkpoint=path, epochs=fitted, metrics=None)
    console.print(f"trained for {fitted} epochs")
    checkpoint = Checkpoint(
        config=config.network,
        classes=config.classes,
        network=network,
        training_data=(*data.sources, f"start: {config.weights}"),
        gsd=config.gsd,
        metrics=inherited,
    )
    save_checkpoint(checkpoint, path)  # before anything else can fail
    metrics = measure(network, config, data, console) if data.held_out else inherited
    network.cpu()
    save_checkpoint(replace(checkpoint, metrics=metrics), path)
    draw_predictions(_block_model(network, config), data.held_out, config.classes, out / "predictions.png")
    return TrainResult(checkpoint=path, epochs=fitted, metrics=metrics)


def fit(
    network: nn.Module,
    config: TrainConfig,
    data: TrainingData,
    out: Path,
    last: Path | None,
    callbacks: Sequence[Callback] = (),
) -> int:
    """Train `network` in place, to the best weights that were seen; returns the epochs run.

    Raises:
        TrainingDiverged: the loss is no number any more.
        KeyboardInterrupt: it was asked to stop; it can be resumed.
    """
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    values = config.network.channel_values
    weights = np.ones(len(values), np.float32) if config.class_balance == "none" else class_weights(data.shares, values)
    trainer = _trainer(config, out, validates=bool(data.validation))
    trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    steps = math.ceil(config.steps_per_epoch / config.accumulate / trainer.world_size) * config.epochs
    module = SegmentationModule(network, config, torch.from_numpy(weights), steps)
    before = None if last is None else _load_last(last)
    epochs = 0 if before is None else int(before["epoch"]) + 1
    if before is None or not _has_stopped(before, config):
        with _quiet_lightning():
            try:
                trainer.fit(module, datamodule=_Crops(config, data), ckpt_path=last, weights_only=True)
            except SystemExit as stop:  # Lightning's answer to SIGINT and SIGTERM
                raise KeyboardInterrupt from stop
        if trainer.interrupted:
            raise KeyboardInterrupt
        epochs = int(trainer.current_epoch)
    chosen = out / (BEST if data.validation else LAST)
    module.load_state_dict(torch.load(chosen, map_location="cpu", weights_only=True)["state_dict"])
    if _is_first_process():
        draw_curves(out / "metrics.csv", out / "curves.png")
    network.cpu().eval()
    return epochs


def _load_last(path: Path) -> dict[str, Any]:
    """The checkpoint to go on from.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        document: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged; remove it to begin anew, or choose another --out.") from error
    return document


def _has_stopped(checkpoint: dict[str, Any], config: TrainConfig) -> bool:
    """Whether training had stopped early when the process ended: Lightning would go on."""
    states = [state for key, state in checkpoint["callbacks"].items() if key.startswith("EarlyStopping")]
    return any(int(state["wait_count"]) >= config.patience for state in states)


def measure(network: nn.Module, config: TrainConfig, data: TrainingData, console: Console) -> Metrics:
    """Accuracy on the held-out images, mapped block by block as in serving."""
    model = _block_model(network, config)
    confusion = np.zeros((len(config.classes), len(config.classes)), np.int64)
    for each in data.held_out:
        image = each.read() if isinstance(each, LabelledPair) else each
        decimation = choose_decimation(image.gsd_m, config.gsd) if image.gsd_m else None
        confusion += evaluate_images(replace(model, scale=1 / (decimation or 1)), [image])
    accuracy = Accuracy(confusion=confusion)
    console.print(
        f"held out ({data.validation_name}): OA {accuracy.overall:.3f}, AA {accuracy.average:.3f}, "
        f"mIoU {accuracy.mean_iou:.3f}"
    )
    return accuracy.as_metrics(f"{data.validation_name} (not trained on)")


def _metrics_of_start(config: TrainConfig, console: Console) -> Metrics | None:
    """What the model it was trained on from was measured at, said as such; None if it is not known."""
    start = Path(config.weights)
    try:
        metrics = load_checkpoint(start, config.network).metrics if start.is_file() else None
    except CheckpointError:  # an encoder's weights are a start without figures; anything else was refused already
        metrics = None
    if metrics is None:
        console.print("nothing was held out: the model carries no figures; measure it with `landcover evaluate`")
        return None
    console.print(f"nothing was held out: the model carries the figures of {start}, and says so")
    said = f"{metrics.dataset}; measured on the model that this one was trained on from, before it learnt more"
    return metrics.model_copy(update={"dataset": said})


def _is_first_process() -> bool:
    """On several GPUs each has a process; one of them measures and writes."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


class _Crops(LightningDataModule):
    """Loaders; a new one each epoch, whose crops follow from the epoch's number."""

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        super().__init__()
        self._config = config
        self._data = data

    def train_dataloader(self) -> DataLoader[Any]:
        """Random crops of the current epoch."""
        trainer = self.trainer
        epoch = trainer.current_epoch if trainer else 0
        crops = RandomCrops(
            self._data.train,
            side_px=self._config.crop_px,
            count=self._config.steps_per_epoch * self._config.batch,
            candidates=self._config.candidates,
            channel_values=self._config.network.channel_values,
            augmentation=self._config.augmentation,
            seed=self._config.seed,
            epoch=epoch,
        )
        return self._loader(crops)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The same windows every epoch."""
        if not self._data.validation:
            return []
        crops = FixedCrops(
            self._data.validation,
            side_px=self._config.crop_px,
            count=self._config.validation_crops,
            channel_values=self._config.network.channel_values,
        )
        return self._loader(crops)

    def _loader(self, crops: RandomCrops | FixedCrops) -> DataLoader[Any]:
        cpus = len(os.sched_getaffinity(0))
        asked = self._config.loaders
        workers = asked if isinstance(asked, int) else (0 if cpus <= 2 else min(12, cpus - 1))
        # drop_last: several GPUs may share an epoch unevenly, and batch normalisation needs more than one crop
        last = isinstance(crops, RandomCrops)
        pinned = torch.cuda.is_available()
        return DataLoader(crops, self._config.batch, num_workers=workers, pin_memory=pinned, drop_last=last)


def _trainer(config: TrainConfig, out: Path, *, validates: bool) -> Trainer:
    where: dict[str, Any] = {
        "dirpath": out / "checkpoints",
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    callbacks: list[Callback] = [LearningRateMonitor("step")]
    if config.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=config.ema_decay))
    if validates:
        callbacks.append(EarlyStopping(MONITORED, patience=config.patience, mode="max"))
        callbacks.append(ModelCheckpoint(filename=BEST.stem, monitor=MONITORED, mode="max", **where))
    callbacks.append(ModelCheckpoint(filename=LAST.stem, **where))  # every epoch; after the best, whose state it keeps
    progress = os.environ.get("LANDCOVER_LOG_LEVEL", "INFO") != "ERROR"
    if progress:
        callbacks.append(RichProgressBar())
    gpu = torch.cuda.is_available()
    return Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=config.devices if gpu else 1,
        precision=_precision(config),
        max_epochs=config.epochs,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=5.0,
        callbacks=callbacks,
        logger=[
            TensorBoardLogger(out, name="", version="tensorboard"),
            CSVLogger(out, name="", version=""),
        ],
        log_every_n_steps=max(1, min(20, config.steps_per_epoch // 2)),
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        enable_model_summary=False,
        enable_progress_bar=progress,
        default_root_dir=out,
        plugins=[_WholeFiles()],
    )


class _WholeFiles(TorchCheckpointIO):
    """Checkpoints appear whole or not at all: Lightning's own way copies over the last one on some file systems."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def _precision(config: TrainConfig) -> Any:
    """Lightning's name; without instructions for it bf16 takes ten times as long on a CPU as 32 bits (measured)."""
    if config.precision != "auto":
        return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[config.precision]
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def _open_folder(config: TrainConfig, out: Path, *, resume: bool) -> Path | None:
    """Make the run folder, or find the checkpoint to go on from.

    Raises:
        InvalidConfiguration: there is a run already, or none, or it had another configuration.
    """
    described, last = out / "config.yaml", out / LAST
    if not resume:
        if last.exists() or (out / MODEL).exists():
            raise InvalidConfiguration(f"{out} holds a training already; go on with --resume, or name another --out.")
        out.mkdir(parents=True, exist_ok=True)
        described.write_text(dump_config(config), encoding="utf-8")
        return None
    if not described.is_file():
        raise InvalidConfiguration(f"There is no training in {out} to resume; start one without --resume.")
    import yaml

    before = parse_config(yaml.safe_load(described.read_text(encoding="utf-8")), str(described))
    keys = sorted(set(type(config).model_fields) - OF_THE_MACHINE)
    if changed := [key for key in keys if getattr(config, key) != getattr(before, key)]:
        raise InvalidConfiguration(
            f"{out} was begun with another {', '.join(changed)}; resume with {described}, or choose another --out."
        )
    return last if last.is_file() else None  # killed before the end of its first epoch: begin anew


def _block_model(network: nn.Module, config: TrainConfig) -> BlockModel:
    fused = FusedSegmentation(network, config.network).to("cuda" if torch.cuda.is_available() else "cpu")
    return BlockModel(run=torch_runner(fused), classes=config.classes)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's advice about itself is not for mappers; its errors are."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", module="torch")
        try:
            yield
        finally:
            logger.setLevel(level)
