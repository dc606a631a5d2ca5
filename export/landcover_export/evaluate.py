"""Class maps of whole images, block by block as in serving, and their accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

from landcover.classes import LandCoverClass
from landcover.contract import Metrics, read_model
from landcover_export.checkpoints import load_checkpoint
from landcover_export.data import LabelledImage
from landcover_export.fused import FusedSegmentation
from landcover_export.metrics import Accuracy, IntArray, confusion_matrix
from landcover_export.networks import classes_of

ByteArray = npt.NDArray[np.uint8]
Runner = Callable[[ByteArray], tuple[ByteArray, ByteArray]]
"""One window, uint8 `(side, side, 3)` → classes and confidence, uint8 `(side, side)`."""


def onnx_runner(path: Path, threads: int = 2) -> Runner:
    """Windows through ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(window: ByteArray) -> tuple[ByteArray, ByteArray]:
        classes, confidence = session.run(["classes", "confidence"], {"image": window[None]})
        return classes[0], confidence[0]

    return run


def torch_runner(fused: FusedSegmentation) -> Runner:
    """Windows through torch on the CPU."""
    fused.eval()

    def run(window: ByteArray) -> tuple[ByteArray, ByteArray]:
        with torch.inference_mode():
            classes, confidence = fused(torch.from_numpy(window[None]))
        return classes[0].numpy(), confidence[0].numpy()

    return run


WINDOW_PX, HALO_PX = 896, 192
"""The demonstration model's: a block of 512 px, chosen by the curve in docs/seams.md."""


def map_image(
    run: Runner, image: ByteArray, *, window_px: int = WINDOW_PX, halo_px: int = HALO_PX
) -> tuple[ByteArray, ByteArray]:
    """Classes and confidence of `image` `(height, width, 3)`, both `(height, width)`, block by block.

    Beyond the image's edge the context is mirrored, as the worker does.
    """
    block_px = window_px - 2 * halo_px
    height, width = image.shape[:2]
    rows, columns = -(-height // block_px), -(-width // block_px)
    padded = _mirrored(
        image, halo_px, rows * block_px - height + halo_px, halo_px, columns * block_px - width + halo_px
    )
    classes = np.empty((rows * block_px, columns * block_px), dtype=np.uint8)
    confidence = np.empty_like(classes)
    inner = slice(halo_px, halo_px + block_px)
    for row in range(0, rows * block_px, block_px):
        for column in range(0, columns * block_px, block_px):
            window = np.ascontiguousarray(padded[row : row + window_px, column : column + window_px])
            found = run(window)
            at = slice(row, row + block_px), slice(column, column + block_px)
            classes[at], confidence[at] = (each[inner, inner] for each in found)
    return classes[:height, :width], confidence[:height, :width]


def _mirrored(image: ByteArray, top: int, bottom: int, left: int, right: int) -> ByteArray:
    """Mirror about the edge pixels, again and again where the image is smaller than the margin."""
    return np.asarray(np.pad(image, ((top, bottom), (left, right), (0, 0)), mode="reflect"))


@dataclass(frozen=True, kw_only=True)
class BlockModel:
    """A model ready to map images: how to run a window, and how windows tile."""

    run: Runner
    classes: tuple[LandCoverClass, ...]
    window_px: int = WINDOW_PX
    halo_px: int = HALO_PX


def load_model(path: Path, *, window_px: int, halo_px: int) -> BlockModel:
    """An ONNX file with the window of its contract, or a checkpoint with the window given.

    Raises:
        InvalidModel: an ONNX file without a valid contract.
        CheckpointError: no checkpoint of ours.
    """
    if path.suffix == ".onnx":
        contract = read_model(path).contract
        return BlockModel(
            run=onnx_runner(path),
            classes=contract.classes,
            window_px=contract.window_px,
            halo_px=contract.halo_px,
        )
    checkpoint = load_checkpoint(path)
    fused = FusedSegmentation(checkpoint.network, checkpoint.config)
    return BlockModel(
        run=torch_runner(fused), classes=classes_of(checkpoint.config), window_px=window_px, halo_px=halo_px
    )


def evaluate_images(model: BlockModel, images: Iterable[LabelledImage]) -> IntArray:
    """Confusion matrix `[reference][predicted]` in pixels, summed over `images`."""
    values = [each.value for each in model.classes]
    total = np.zeros((len(values), len(values)), dtype=np.int64)
    for each in images:
        classes, _ = map_image(model.run, each.image, window_px=model.window_px, halo_px=model.halo_px)
        total += confusion_matrix(each.label, classes, values)
    return total


def report(confusion: IntArray, classes: Sequence[LandCoverClass], dataset: str, console: Console) -> Metrics:
    """Print the figures of `confusion` as tables, and return them."""
    accuracy = Accuracy(confusion=confusion)
    table = Table(title=f"{dataset}: % of each reference class, by predicted class", title_justify="left")
    table.add_column("reference")
    for each in classes:
        table.add_column(str(each.value), justify="right")
    for name in ("recall", "prec.", "IoU"):
        table.add_column(name, justify="right", style="bold")
    for index in map(int, np.flatnonzero(accuracy.present)):
        shares = 100 * confusion[index] / confusion[index].sum()
        scores = (accuracy.recall[index], accuracy.precision[index], accuracy.iou[index])
        name = f"{classes[index].value} {classes[index].name}"
        table.add_row(name, *(f"{share:.0f}" for share in shares), *(f"{score:.3f}" for score in scores))
    console.print(table)
    console.print(
        f"OA {accuracy.overall:.4f}   AA {accuracy.average:.4f}   mIoU {accuracy.mean_iou:.4f}   "
        f"({int(confusion.sum())} pixels, {int(accuracy.present.sum())} classes present)"
    )
    return accuracy.as_metrics(dataset)
