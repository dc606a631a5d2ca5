"""What a round of fine-tuning needs, made by code: a small parent, and polygons traced from a drawn scene's labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
import shapely
from affine import Affine

from landcover.annotations import Annotation
from landcover.classes import OPENEARTHMAP
from landcover.contract import Contract, GsdRange
from landcover.geodesy import WGS84, transformer
from landcover_export.checkpoints import Checkpoint
from landcover_export.finetuning.core import FinetuneConfig, finetune
from landcover_export.networks import NetworkConfig, build_network
from landcover_export.onnx_export import export_onnx
from landcover_export.starts import load_start
from landcover_export.training.crops import InMemory, Pool
from landcover_export.training.data import draw_labelled

NETWORK = NetworkConfig(decoder_channels=(16, 16, 8, 8, 8))
"""An EfficientNet-Lite0, whose ImageNet weights come as a package, under a very small decoder."""


def contract(name: str = "parent", classes=OPENEARTHMAP) -> Contract:
    """Of models for drawn scenes at their own 0.5 m, in blocks of 256 px."""
    return Contract(
        name=name, version="1", classes=classes, gsd=GsdRange(min_m=0.4, max_m=1.0), window_px=320, halo_px=32
    )


def train_parent(folder: Path, *, steps: int, wrong: Mapping[int, int] = {}, seed: int = 1) -> Checkpoint:
    """A model taught on two drawn scenes, in which the classes of `wrong` were labelled as others."""
    network = build_network(NETWORK)
    load_start(network, NETWORK, "imagenet")
    table = np.arange(256, dtype=np.uint8)
    for value, mistaken in wrong.items():
        table[value] = mistaken
    scenes = [draw_labelled(scene, 1024) for scene in (5001, 5002)]
    taught = [replace(each, label=table[each.label]) for each in scenes]
    start = Checkpoint(config=NETWORK, classes=OPENEARTHMAP, network=network)
    recipe = FinetuneConfig(
        replay=0.0, crop_px=96, batch=8, epochs=1, steps_per_epoch=steps, learning_rate=3e-3, ema_decay=0.9, seed=seed
    )
    trained = finetune(start, taught, [], recipe, folder)
    return replace(start, network=trained.eval(), gsd=GsdRange(min_m=0.4, max_m=1.0))


def export_parent(parent: Checkpoint, path: Path, name: str = "parent") -> Path:
    """The ONNX file that is served."""
    pixels = draw_labelled(5001, 320).image[None]
    export_onnx(parent.network, parent.config, contract(name, parent.classes), path, pixels)
    return path


def replay_pool() -> list[Pool]:
    """Two drawn scenes with true labels."""
    return [Pool(images=[InMemory(draw_labelled(seed, 512)) for seed in (5003, 5004)], zoom=(0.9, 1.1), share=1.0)]


def trace(
    labels: Path,
    *,
    scene: str = "demo",
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


def annotation(outline, value: int, *, crs: str, scene: str = "demo", created: int = 0, **more) -> Annotation:
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
