"""What a round of fine-tuning needs, made by code: a small parent, and polygons traced from a drawn scene's labels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
import shapely
import torch
from affine import Affine

from landcover.annotations import Annotation
from landcover.classes import OPENEARTHMAP
from landcover.contract import Contract, GsdRange
from landcover.demo.noise import value_noise
from landcover.geodesy import WGS84, transformer
from landcover_export.checkpoints import Checkpoint
from landcover_export.finetuning.core import FinetuneConfig, finetune
from landcover_export.labelled import LabelledImage
from landcover_export.networks import NetworkConfig, build_network
from landcover_export.onnx_export import export_onnx

NETWORK = NetworkConfig(encoder="tu-mobilenetv2_035", decoder_channels=(16, 16, 8, 8, 8))
"""So small that it learns the drawn world from random weights within seconds.

Without squeeze-and-excitation: its means over crops of 64 px are unlike those over whole windows, so that a network
with it may be right on every crop and wrong on the map.
"""

_COLORS = np.array(
    [
        (180, 140, 100),
        (120, 170, 60),
        (150, 150, 160),
        (70, 70, 75),
        (30, 80, 40),
        (40, 80, 150),
        (210, 200, 60),
        (190, 60, 50),
    ]
)
"""Red, green, blue of the classes 1 to 8 in the drawn world."""


def draw_world(seed: int, side_px: int) -> LabelledImage:
    """Patches of eight classes, each with its colour under noise, unlike the demonstration's scenes easy to learn."""
    rng = np.random.default_rng(seed)
    heights = np.stack([value_noise(rng, side_px, side_px, 48.0) for _ in _COLORS])
    label = (heights.argmax(axis=0) + 1).astype(np.uint8)
    image = _COLORS[label - 1] + rng.normal(0, 12, (side_px, side_px, 3))
    return LabelledImage(
        name=f"world-{seed}", image=np.clip(image, 0, 255).astype(np.uint8), label=label, group=str(seed), gsd_m=0.5
    )


def contract(name: str = "parent", classes=OPENEARTHMAP) -> Contract:
    """Of models for drawn scenes at their own 0.5 m, in blocks of 256 px."""
    return Contract(
        name=name, version="1", classes=classes, gsd=GsdRange(min_m=0.4, max_m=1.0), window_px=320, halo_px=32
    )


def train_parent(folder: Path, *, steps: int) -> Checkpoint:
    """A model taught on two worlds; with 60 steps it is good, with 20 poor."""
    torch.manual_seed(0)
    start = Checkpoint(config=NETWORK, classes=OPENEARTHMAP, network=build_network(NETWORK))
    taught = [draw_world(seed, 512) for seed in (11, 12)]
    recipe = FinetuneConfig(
        replay=0.0, crop_px=64, batch=8, epochs=1, steps_per_epoch=steps, learning_rate=2e-2, ema_decay=0.8
    )
    trained = finetune(start, taught, [], recipe, folder)
    return replace(start, network=trained.eval(), gsd=GsdRange(min_m=0.4, max_m=1.0))


def export_parent(parent: Checkpoint, path: Path, name: str = "parent") -> Path:
    """The ONNX file that is served."""
    export_onnx(parent.network, parent.config, contract(name, parent.classes), path, draw_world(11, 320).image[None])
    return path


def trace(
    labels: Path,
    *,
    scene: str = "world",
    places: int = 24,
    side_px: int = 96,
    per_place: int = 6,
    seed: int = 0,
    least_px: int = 60,
) -> list[Annotation]:
    """Polygons that an honest annotator draws: the largest patches of single classes in some windows of the scene."""
    rng = np.random.default_rng(seed)
    found: list[Annotation] = []
    with rasterio.open(labels) as dataset:
        label, transform, crs = dataset.read(1), dataset.transform, dataset.crs.to_wkt()
    lattice = [(r, c) for r in range(16, label.shape[0] - 128, 128) for c in range(16, label.shape[1] - 128, 128)]
    for number in rng.permutation(len(lattice))[:places]:
        row, col = lattice[number]
        window = label[row : row + side_px, col : col + side_px]
        offset = transform @ Affine.translation(col, row)
        shapes = [
            (shapely.geometry.shape(outline), int(value))
            for outline, value in rasterio.features.shapes(window, transform=offset)
            if value
        ]
        shapes.sort(key=lambda each: -each[0].area)
        for outline, value in shapes[:per_place]:
            if outline.area >= least_px * abs(transform.determinant):
                found.append(annotation(outline, value, scene=scene, crs=crs))
    return found


def annotation(outline, value: int, *, crs: str, scene: str = "world", created: int = 0, **more) -> Annotation:
    """A polygon in coordinates of `crs` as an annotation, `created` so many seconds after a fixed moment."""
    to_wgs84 = transformer(crs, WGS84)
    kind = {each.value: each for each in OPENEARTHMAP}.get(value)
    when = datetime.fromtimestamp(1_700_000_000 + created, UTC)
    fields = {
        "class_name": kind.name if kind else f"class {value}",
        "class_color": kind.color if kind else "#123456",
        "created": when,
        "updated": when,
    }
    return Annotation(
        scene=scene,
        class_value=value,
        geometry=shapely.transform(
            outline, lambda points: np.column_stack(to_wgs84.transform(points[:, 0], points[:, 1]))
        ),
        **{**fields, **more},
    )
