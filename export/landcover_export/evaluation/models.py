"""Models ready to map images: ONNX files and checkpoints behind one interface, on a GPU where there is one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from landcover.classes import LandCoverClass
from landcover.contract import digest_of, read_model
from landcover.errors import InvalidConfiguration, InvalidModel
from landcover_export.checkpoints import load_checkpoint
from landcover_export.evaluation.mapping import HALO_PX, WINDOW_PX, ByteArray, OnBlock, Runner, map_image
from landcover_export.fused import FusedSegmentation

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass(frozen=True, kw_only=True)
class BlockModel:
    """A model ready to map images: how to run a window, and how windows tile."""

    run: Runner
    classes: tuple[LandCoverClass, ...]
    window_px: int = WINDOW_PX
    halo_px: int = HALO_PX
    name: str = "model"
    """By which reports call it."""
    path: Path | None = None
    digest: str | None = None
    """`sha256:…` of its file."""
    runs_on: str = "CPU"
    scale: float = 1.0
    """Images are resampled by this before they are mapped: 0.5 gives the model half as many pixels a side."""

    def map(self, image: ByteArray, on_block: OnBlock | None = None) -> tuple[ByteArray, ByteArray]:
        """Classes and confidence of `image` `(height, width, 3)`, both `(height, width)` at any scale.

        Raises:
            InvalidModel: the network fails.
        """
        height, width = image.shape[:2]
        if self.scale != 1.0:
            size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
            method = Image.Resampling.BOX if self.scale < 1 else Image.Resampling.BILINEAR  # means, as serving reduces
            image = np.asarray(Image.fromarray(image).resize(size, method))
        classes, confidence = map_image(
            self.run, image, window_px=self.window_px, halo_px=self.halo_px, on_block=on_block
        )
        if self.scale != 1.0:
            classes, confidence = _resized(classes, width, height), _resized(confidence, width, height)
        return classes, confidence


def load_model(path: Path, *, window_px: int = WINDOW_PX, halo_px: int = HALO_PX) -> BlockModel:
    """An ONNX file with the window of its contract, or a checkpoint with the window given.

    Raises:
        InvalidModel: an ONNX file without a valid contract, or one that ONNX Runtime cannot load.
        CheckpointError: no checkpoint of ours.
        InvalidConfiguration: the window of a checkpoint leaves no block between its halos.
    """
    if path.suffix == ".onnx":
        model = read_model(path)
        run, runs_on = onnx_session(path)
        return BlockModel(
            run=run,
            classes=model.contract.classes,
            window_px=model.contract.window_px,
            halo_px=model.contract.halo_px,
            name=path.stem,
            path=path,
            digest=model.digest,
            runs_on=runs_on,
        )
    if halo_px < 0 or window_px <= 2 * halo_px or window_px % 32:
        raise InvalidConfiguration(
            f"A window of {window_px} px with halos of {halo_px} px cannot be used; --window is a multiple of 32 and "
            "larger than twice --halo."
        )
    checkpoint = load_checkpoint(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return BlockModel(
        run=torch_runner(FusedSegmentation(checkpoint.network, checkpoint.config).to(device)),
        classes=checkpoint.classes,
        window_px=window_px,
        halo_px=halo_px,
        name=path.stem,
        path=path,
        digest=digest_of(path.read_bytes()),
        runs_on=device.upper(),
    )


def load_models(
    paths: Sequence[Path], *, window_px: int = WINDOW_PX, halo_px: int = HALO_PX, scale: float = 1.0
) -> list[BlockModel]:
    """`load_model` for each path, under names that differ: the file's, with its folder where two are alike.

    Raises:
        InvalidConfiguration: a file is named twice, or as in `load_model`.
        InvalidModel, CheckpointError: as in `load_model`.
    """
    if twice := [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]:
        raise InvalidConfiguration(f"{twice[0]} is named twice; name each model once.")
    stems = Counter(path.stem for path in paths)
    tails = Counter(_with_folder(path) for path in paths)
    models = []
    for path in paths:
        name = path.stem if stems[path.stem] == 1 else _with_folder(path)
        model = load_model(path, window_px=window_px, halo_px=halo_px)
        models.append(replace(model, name=name if tails[_with_folder(path)] == 1 else str(path), scale=scale))
    return models


def union_of_classes(models: Sequence[BlockModel]) -> tuple[LandCoverClass, ...]:
    """Every class that any of `models` knows, by value.

    Raises:
        InvalidConfiguration: two models give one value different names.
    """
    known: dict[int, tuple[LandCoverClass, BlockModel]] = {}
    for model in models:
        for each in model.classes:
            first, owner = known.setdefault(each.value, (each, model))
            if first.name != each.name:
                raise InvalidConfiguration(
                    f"Class {each.value} is '{first.name}' to {owner.name} but '{each.name}' to {model.name}; "
                    "models are compared only where a value means the same to all of them."
                )
    return tuple(known[value][0] for value in sorted(known))


def onnx_runner(path: Path, threads: int | None = None) -> Runner:
    """Windows through ONNX Runtime."""
    return onnx_session(path, threads)[0]


def onnx_session(path: Path, threads: int | None = None) -> tuple[Runner, str]:
    """Windows through ONNX Runtime, and where they run: `CUDA` or `CPU`.

    Raises:
        InvalidModel: ONNX Runtime cannot load the file; the runner raises it when it cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _available_cpus()
    providers = [CPU]
    if CUDA in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their wheels, where they are not on the system
        providers = [CUDA, CPU]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises its own types for each fault, none public
        raise InvalidModel(f"{path} cannot be loaded by ONNX Runtime: {error}") from error

    def run(window: ByteArray) -> tuple[ByteArray, ByteArray]:
        try:
            classes, confidence = session.run(["classes", "confidence"], {"image": window[None]})
        except Exception as error:
            raise InvalidModel(f"{path} fails on a window of {window.shape[0]} px: {error}") from error
        return classes[0], confidence[0]

    return run, session.get_providers()[0].removesuffix("ExecutionProvider")


def torch_runner(fused: FusedSegmentation) -> Runner:
    """Windows through torch, wherever the module is."""
    fused.eval()
    device = fused.get_buffer("scale").device

    def run(window: ByteArray) -> tuple[ByteArray, ByteArray]:
        with torch.inference_mode():
            classes, confidence = fused(torch.from_numpy(window[None]).to(device))
        return classes[0].cpu().numpy(), confidence[0].cpu().numpy()

    return run


def _available_cpus() -> int:
    """Cores this process may use; ONNX Runtime by itself takes those of the whole machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _resized(values: ByteArray, width_px: int, height_px: int) -> ByteArray:
    """By nearest neighbour."""
    return np.asarray(Image.fromarray(values).resize((width_px, height_px), Image.Resampling.NEAREST))


def _with_folder(path: Path) -> str:
    return f"{path.resolve().parent.name}/{path.stem}"
