"""The model a round starts from: its weights, its contract, and the digest of the very file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from landcover.contract import Contract, GsdRange, digest_of, read_model
from landcover_export.checkpoints import Checkpoint, load_checkpoint
from landcover_export.evaluation.mapping import HALO_PX, WINDOW_PX
from landcover_export.evaluation.models import BlockModel, torch_runner
from landcover_export.fused import FusedSegmentation

DEFAULT_GSD = GsdRange(min_m=0.4, max_m=1.2)
"""Of a checkpoint that does not say, as in `landcover export`."""


@dataclass(frozen=True, kw_only=True)
class Parent:
    """What is fine-tuned."""

    path: Path
    checkpoint: Checkpoint
    contract: Contract
    """An ONNX file's own; a checkpoint's as `landcover export` would write it by default."""
    digest: str


def load_parent(path: Path) -> Parent:
    """Read an ONNX file of ours or a checkpoint.

    Raises:
        CheckpointError: it cannot be trained on; the sentence says what can.
        InvalidModel: an ONNX file that does not keep its contract.
    """
    checkpoint = load_checkpoint(path)
    if path.suffix == ".onnx":
        file = read_model(path)
        return Parent(path=path, checkpoint=checkpoint, contract=file.contract, digest=file.digest)
    contract = Contract(
        name="landcover-demo",
        version="1",
        classes=checkpoint.classes,
        gsd=checkpoint.gsd or DEFAULT_GSD,
        window_px=WINDOW_PX,
        halo_px=HALO_PX,
        architecture=str(checkpoint.config),
        training_data=checkpoint.training_data,
        metrics=checkpoint.metrics,
        license="Apache-2.0",
    )
    return Parent(path=path, checkpoint=checkpoint, contract=contract, digest=digest_of(path.read_bytes()))


def block_model(checkpoint: Checkpoint, contract: Contract, name: str) -> BlockModel:
    """The checkpoint ready to map images as `contract` would serve it, through torch, on a GPU where there is one.

    Parent and child run through the same library, so that nothing but their weights differs.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return BlockModel(
        run=torch_runner(FusedSegmentation(checkpoint.network.float(), checkpoint.config).to(device)),
        classes=checkpoint.classes,
        window_px=contract.window_px,
        halo_px=contract.halo_px,
        name=name,
        runs_on=device.upper(),
    )


def place_margin_px(contract: Contract, side_px: int) -> int:
    """Context around a place of `side_px`: what fills the model's window, and at least its halo."""
    return max(contract.halo_px, (contract.window_px - side_px) // 2)


def place_model(model: BlockModel, contract: Contract, side_px: int) -> BlockModel:
    """`model` for images of a place and its margin: a place that fits into one window is mapped in one."""
    whole = side_px + 2 * place_margin_px(contract, side_px) == contract.window_px
    return replace(model, halo_px=0) if whole else model
