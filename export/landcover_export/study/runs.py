"""The study's runs: each trains one model and measures it. A run that has a result is not run again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landcover.atomic import atomic_path
from landcover.classes import OPENEARTHMAP
from landcover.errors import InvalidConfiguration
from landcover_export.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from landcover_export.evaluation.evaluate import evaluate_images
from landcover_export.evaluation.models import BlockModel, torch_runner
from landcover_export.finetuning.core import FinetuneConfig, class_shares, finetune, train_config
from landcover_export.fused import FusedSegmentation
from landcover_export.labelled import LabelledImage
from landcover_export.networks import NetworkConfig, build_network
from landcover_export.starts import load_start
from landcover_export.study.config import StudyConfig
from landcover_export.study.scenes import parts_of, stitch, without_overlap
from landcover_export.study.windows import annotate, choose, polygons
from landcover_export.training.config import Augmentation, Zoom
from landcover_export.training.crops import InMemory, Pool
from landcover_export.training.data import TrainingData
from landcover_export.training.run import fit

WINDOW_PX, HALO_PX = 832, 64
"""A block of 704 px: few windows cover a part of the scenes, and a halo of 64 px is enough to compare models."""
BASE_ZOOM: Zoom = (0.7, 1.4)
AUGMENTATION = Augmentation(saturation=0.35, tint=0.0)
"""Fixed here, so that the study stays what was measured when the default changes."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """Training of a model that has never seen the new scenes."""

    name: str
    architecture: str = "Unet"
    weights: str = "imagenet"
    scale: float = 1.0
    """Images are resampled by this before the network sees them: 0.5 doubles the GSD."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """Annotation of some windows of the new scene, and fine-tuning on them."""

    name: str
    base: str
    strategy: str
    budget: float
    """Share of the new group's labelled ground; 1 is every label of the annotated scene."""
    seed: int
    replay: float = 0.5
    second: str | None = None
    """Another base, for `disagreement`."""


Run = Base | Round


def plan(config: StudyConfig) -> list[Run]:
    """Every run, the most telling first: a study that is stopped early has a whole picture for fewer seeds."""
    runs: list[Run] = [Base(name="base")]
    for seed in config.seeds:
        runs += _rounds_of(seed, config)
    return runs + (_ablation(config) if config.ablation else [])


def _rounds_of(seed: int, config: StudyConfig) -> list[Run]:
    """Worst first and random for every budget, all labels, and no replay for the larger budgets."""
    chosen = [
        _round("base", strategy, budget, seed)
        for budget in reversed(config.budgets)
        for strategy in ("worst", "random")
    ]
    forgetful = [_round("base", "worst", budget, seed, replay=0.0) for budget in config.budgets[-2:]]
    return [*chosen[:2], _round("base", "all", 1.0, seed), *chosen[2:], *forgetful]


def _ablation(config: StudyConfig) -> list[Run]:
    """Each other base with one round of the largest budget, and other choices of windows."""
    largest, first = config.budgets[-1], config.seeds[0]
    bases = (
        Base(name="random-start", weights="random"),
        Base(name="half-scale", scale=0.5),
        Base(name="fpn", architecture="FPN"),
        Base(name="double-scale", scale=2.0),
        Base(name="deeplabv3plus", architecture="DeepLabV3Plus"),
    )
    runs: list[Run] = []
    for base in bases:
        runs += [base, _round(base.name, "worst", largest, first)]
    runs += [_round("base", "plain", largest, seed) for seed in config.seeds[:2]]
    for seed in config.seeds[:2]:
        name = f"base-disagreement-{largest:g}-s{seed}"
        runs.append(Round(name=name, base="base", strategy="disagreement", budget=largest, seed=seed, second="fpn"))
    return runs


def execute(run: Run, config: StudyConfig, data: Path, out: Path, threads: int) -> dict[str, Any]:
    """Train, measure and write `out/results/NAME.json`; what is there already is read.

    Raises:
        DataError: the set is not where it should be.
    """
    path = result_path(out, run.name)
    if path.is_file():
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return result
    torch.set_num_threads(threads)
    outcome = _train_base(run, config, data, out) if isinstance(run, Base) else _train_round(run, config, data, out)
    result = {"run": asdict(run), **outcome}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def result_path(out: Path, name: str) -> Path:
    """Where a run's figures are."""
    return out / "results" / f"{name}.json"


def _round(base: str, strategy: str, budget: float, seed: int, *, replay: float = 0.5) -> Round:
    suffix = "" if replay else "-no-replay"
    name = f"{base}-{strategy}-{budget:g}{suffix}-s{seed}"
    return Round(name=name, base=base, strategy=strategy, budget=budget, seed=seed, replay=replay)


def _train_base(run: Base, config: StudyConfig, data: Path, out: Path) -> dict[str, Any]:
    unet = run.architecture == "Unet"
    network_config = NetworkConfig(
        architecture=run.architecture,
        encoder=config.encoder,
        decoder_channels=config.decoder_channels if unet else None,
    )
    torch.manual_seed(1)
    network = build_network(network_config)
    load_start(network, network_config, run.weights)
    pools = _base_pools(config, data, run.scale)
    blank = Checkpoint(config=network_config, classes=OPENEARTHMAP, network=network)
    recipe = FinetuneConfig(
        crop_px=config.crop_px,
        batch=config.batch,
        epochs=1,
        steps_per_epoch=config.base_steps,
        learning_rate=config.base_learning_rate,
        ema_decay=0.98,
        augmentation=AUGMENTATION,
        threads=torch.get_num_threads(),
    )
    everything = TrainingData(
        train=tuple(pools),
        validation=(),
        held_out=(),
        shares=class_shares(pools),
        sources=(),
        validation_name="",
    )
    fit(network, train_config(blank, recipe), everything, out / "training" / run.name, None)
    save_checkpoint(
        Checkpoint(config=network_config, classes=OPENEARTHMAP, network=network), out / "models" / f"{run.name}.pt"
    )
    return _measured(network, network_config, config, data, run.scale)


def _train_round(run: Round, config: StudyConfig, data: Path, out: Path) -> dict[str, Any]:
    scale = next(each.scale for each in plan(config) if isinstance(each, Base) and each.name == run.base)
    parent = load_checkpoint(out / "models" / f"{run.base}.pt")
    scene = _stitched(data, config.annotated_scene)
    side = config.window_px
    if run.strategy == "all":
        windows = [
            (row, col) for row in range(scene.label.shape[0] // side) for col in range(scene.label.shape[1] // side)
        ]
        steps = config.full_steps
    else:
        count = round(run.budget * _new_ground_px(config, data) / side**2)
        names = [run.base] if run.second is None else [run.base, run.second]
        maps = [] if run.strategy == "random" else [_map_of(name, scale, config, data, out) for name in names]
        windows = choose(run.strategy, scene, maps, side_px=side, count=count, spread=config.spread, seed=run.seed)
        steps = config.round_steps
    places = annotate(scene, windows, side)
    recipe = FinetuneConfig(
        replay=run.replay,
        crop_px=config.crop_px,
        zoom=(0.8 / scale, 1.25 / scale),
        batch=config.batch,
        epochs=1,
        steps_per_epoch=steps,
        learning_rate=config.round_learning_rate,
        ema_decay=0.96,
        augmentation=AUGMENTATION,
        threads=torch.get_num_threads(),
        seed=run.seed,
    )
    replay = _base_pools(config, data, scale) if run.replay else []
    network = finetune(parent, places, replay, recipe, out / "training" / run.name)
    labelled = int(sum((place.label > 0).sum() for place in places))
    return {
        "windows": windows if run.strategy != "all" else len(windows),
        "labelled_px": labelled,
        "polygons": polygons(places),
        **_measured(network, parent.config, config, data, scale),
    }


def _measured(
    network: torch.nn.Module, network_config: NetworkConfig, config: StudyConfig, data: Path, scale: float
) -> dict[str, Any]:
    model = _block_model(network, network_config, scale)
    parts = held_out_parts(config, data)
    return {"confusions": {part.name: evaluate_images(model, [part]).tolist() for part in parts}}


def _block_model(network: torch.nn.Module, network_config: NetworkConfig, scale: float) -> BlockModel:
    return BlockModel(
        run=torch_runner(FusedSegmentation(network.eval(), network_config)),
        classes=OPENEARTHMAP,
        window_px=WINDOW_PX,
        halo_px=HALO_PX,
        scale=scale,
    )


def _map_of(base: str, scale: float, config: StudyConfig, data: Path, out: Path) -> tuple[Any, Any]:
    """Classes and confidence of the annotated scene by a base, kept beside the models."""
    path = out / "maps" / f"{base}.npz"
    if not path.is_file():
        checkpoint = load_checkpoint(out / "models" / f"{base}.pt")
        model = _block_model(checkpoint.network, checkpoint.config, scale)
        classes, confidence = model.map(_stitched(data, config.annotated_scene).image)
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, classes=classes, confidence=confidence)
    with np.load(path) as stored:
        return stored["classes"], stored["confidence"]


@cache
def _stitched(data: Path, scene: str) -> LabelledImage:
    return stitch(data, scene)


@cache
def held_out_parts(config: StudyConfig, data: Path) -> tuple[LabelledImage, ...]:
    """What every model is measured on: parts of the test scenes, less what the annotated scene shows, too."""
    annotated = _stitched(data, config.annotated_scene)
    parts: list[LabelledImage] = []
    for scene in config.test_scenes:
        alone, _ = without_overlap(_stitched(data, scene), annotated)
        parts += [part for part in parts_of(alone)[-config.test_parts :] if (part.label > 0).mean() > 0.05]
    return tuple(parts)


@cache
def _new_ground_px(config: StudyConfig, data: Path) -> int:
    """Labelled pixels of the new group, what two scenes share counted once."""
    annotated = _stitched(data, config.annotated_scene)
    total = int((annotated.label > 0).sum())
    for scene in config.test_scenes:
        total += int((without_overlap(_stitched(data, scene), annotated)[0].label > 0).sum())
    return total


@cache
def _base_pools(config: StudyConfig, data: Path, scale: float) -> tuple[Pool, ...]:
    images = [InMemory(_stitched(data, scene)) for scene in config.base_scenes]
    return (Pool(images=images, zoom=(BASE_ZOOM[0] / scale, BASE_ZOOM[1] / scale), share=1.0),)


def run_all(config: StudyConfig, data: Path, out: Path, jobs: int, done: Any) -> None:
    """Every run, `jobs` at a time in processes of their own; `done(name)` after each."""
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from multiprocessing import get_context

    _bind(config, out)
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    waiting = [run for run in plan(config) if not result_path(out, run.name).is_file()]
    ready = {run.name for run in plan(config) if run not in waiting}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Any, Run] = {}
        while waiting or running:
            for run in _startable(waiting, ready)[: jobs - len(running)]:
                waiting.remove(run)
                running[pool.submit(execute, run, config, data, out, threads)] = run
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                ready.add(running[future].name)
                done(running.pop(future).name)


def _bind(config: StudyConfig, out: Path) -> None:
    """Refuse to mix two studies in one folder: a run's name does not tell how long it was trained.

    Raises:
        InvalidConfiguration: the folder holds another study.
    """
    path = out / "study.json"
    text = config.model_dump_json(indent=1)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise InvalidConfiguration(f"{out} holds a study with another configuration; choose another --out.")
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _startable(waiting: Sequence[Run], ready: set[str]) -> list[Run]:
    """Runs whose bases are there."""
    return [
        run
        for run in waiting
        if isinstance(run, Base) or ({run.base} | ({run.second} if run.second else set())) <= ready
    ]
