"""From a configuration's sources to what crops are cut from, every fault found before the first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from landcover.demo import DEMO_SEED, draw
from landcover.errors import InvalidConfiguration
from landcover_export.labelled import DataError, LabelledImage, LabelledPair, LabelledSet, count_classes, find_set
from landcover_export.training.config import DrawnSource, LabelledSource, TrainConfig, Zoom
from landcover_export.training.crops import Croppable, InMemory, Pool, in_memory

DRAWN_GSD_M = 0.5
DRAWN_VALIDATION_PX = 2048
SMALLEST_ZOOM = 0.6
"""Images are not blown up by more than this: a network would learn what blur looks like."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a run learns from and is measured on."""

    train: tuple[Pool, ...]
    validation: tuple[Pool, ...]
    held_out: tuple[LabelledPair | LabelledImage, ...]
    """Whole images of the validation, for the figures at the end."""
    shares: npt.NDArray[np.float64]
    """Share of each class value among labelled training pixels, `(256,)`, sources weighted by their `share`."""
    sources: tuple[str, ...]
    """A sentence for each source, for the contract."""
    validation_name: str
    """What the figures at the end are measured on."""


def load_data(config: TrainConfig, console: Console) -> TrainingData:
    """Find, check and count everything that `config` names.

    Raises:
        DataError: a file or a label is not as it must be.
        InvalidConfiguration: the same image would be learnt from and measured on.
    """
    train: list[Pool] = []
    validation: list[Pool] = []
    held_out: list[LabelledPair | LabelledImage] = []
    sentences: list[str] = []
    measured_on: list[str] = []
    learnt: set[str] = set()
    kept: set[str] = set()
    shares = np.zeros(256)
    for source in config.data:
        loaded = (
            _load_drawn(source, console) if isinstance(source, DrawnSource) else _load_labelled(source, config, console)
        )
        train.append(_pool(source, config, loaded.train, loaded.train_gsd_m, loaded.name))
        if loaded.validation:
            pool = _pool(source, config, loaded.validation, loaded.validation_gsd_m, loaded.name)
            validation.append(dataclasses.replace(pool, share=1.0))
            held_out += loaded.held_out
            measured_on.append(loaded.validation_name)
        labelled = loaded.counts[1:].sum()
        if not labelled:
            raise DataError(f"Not one pixel of {loaded.name} is labelled; its labels hold only 0.")
        shares[1:] += source.share * loaded.counts[1:] / labelled
        sentences.append(loaded.sentence)
        learnt |= loaded.learnt
        kept |= loaded.kept
    if both := sorted(learnt & kept):
        raise InvalidConfiguration(f"{both[0]} is both learnt from and measured on; take it out of one of the lists.")
    return TrainingData(
        train=tuple(train),
        validation=tuple(validation),
        held_out=tuple(held_out),
        shares=shares / shares.sum(),
        sources=tuple(sentences),
        validation_name="; ".join(measured_on),
    )


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    name: str
    train: Sequence[Croppable]
    validation: Sequence[Croppable]
    held_out: Sequence[LabelledPair | LabelledImage]
    counts: npt.NDArray[np.int64]
    train_gsd_m: Sequence[float | None]
    validation_gsd_m: Sequence[float | None]
    learnt: frozenset[str]
    """Names, unique over all sources, of what is learnt from."""
    kept: frozenset[str]
    """And of what is held out."""
    sentence: str
    validation_name: str


def _load_labelled(source: LabelledSource, config: TrainConfig, console: Console) -> _Loaded:
    values = [each.value for each in config.classes]
    validation = LabelledSet(pairs=()) if source.validate_on is None else _find(source, source.validate_on)
    held_out = validation.pairs
    found = _find(source, source.train)
    for which, each in ((source.train, found), (source.validate_on, validation)):
        if each.missing:
            console.print(
                f"{len(each.missing)} of {len(each.missing) + len(each.pairs)} images of {which} are not in "
                f"{source.root} and are left out ({', '.join(each.missing[:3])}, …); "
                "OpenEarthMap's xBD part is fetched apart."
            )
    pairs = found.pairs
    if source.train is None:
        kept = {pair.image_path for pair in held_out}
        pairs = tuple(pair for pair in pairs if pair.image_path not in kept)
    if not pairs:
        raise DataError(f"All images of {source.root} are held out; none is left to learn from.")
    with Progress(console=console, transient=True) as progress:
        checking = progress.add_task(f"checking the labels of {source.root}", total=len(pairs) + len(held_out))

        def tracked(each: Sequence[LabelledPair]) -> Iterable[LabelledPair]:
            for pair in each:
                yield pair
                progress.advance(checking)

        counts = count_classes(tracked(pairs), values)
        if held_out and not count_classes(tracked(held_out), values)[1:].sum():
            raise DataError(f"Not one pixel of what is held out in {source.root} is labelled.")
    groups = sorted({pair.group for pair in pairs})
    listed = ", ".join(groups[:12]) + (f" and {len(groups) - 12} more" if len(groups) > 12 else "")
    held = (
        f"{len(held_out)} images of {source.validate_on.name}"
        if isinstance(source.validate_on, Path)
        else ", ".join(sorted({pair.group for pair in held_out}))
    )
    return _Loaded(
        name=str(source.root),
        train=in_memory(pairs),
        validation=in_memory(held_out),
        held_out=held_out,
        counts=counts,
        train_gsd_m=[pair.gsd_m for pair in pairs],
        validation_gsd_m=[pair.gsd_m for pair in held_out],
        learnt=frozenset(str(pair.image_path.resolve()) for pair in pairs),
        kept=frozenset(str(pair.image_path.resolve()) for pair in held_out),
        sentence=f"{source.root.name}: {len(pairs)} images{f' of {listed}' if listed else ''}",
        validation_name=f"{source.root.name}: {held}",
    )


def _find(source: LabelledSource, which: Path | tuple[str, ...] | None) -> LabelledSet:
    split = groups = None
    if isinstance(which, Path):
        split = source.root / which if (source.root / which).is_file() else which
    else:
        groups = which
    return find_set(source.root, groups=groups, split=split, classes=source.classes, gsd_m=source.gsd_m)


def _load_drawn(source: DrawnSource, console: Console) -> _Loaded:
    if DEMO_SEED in source.seeds:
        raise InvalidConfiguration(f"Seed {DEMO_SEED} is the demonstration's and must not be trained on.")
    with Progress(console=console, transient=True) as progress:
        drawing = progress.add_task("drawing scenes", total=len(source.seeds))
        drawn = [
            draw_labelled(seed, source.side_px, lambda: progress.advance(drawing))  # the same number of calls as seeds
            for seed in source.seeds
        ]
    unseen = [draw_labelled(seed, DRAWN_VALIDATION_PX) for seed in source.validate_seeds]
    counts = sum((np.bincount(each.label.ravel(), minlength=256) for each in drawn), np.zeros(256, np.int64))
    return _Loaded(
        name="the drawn scenes",
        train=[InMemory(each) for each in drawn],
        validation=[InMemory(each) for each in unseen],
        held_out=unseen,
        counts=counts,
        train_gsd_m=[DRAWN_GSD_M] * len(drawn),
        validation_gsd_m=[DRAWN_GSD_M] * len(unseen),
        learnt=frozenset(f"the drawn scene {seed}" for seed in source.seeds),
        kept=frozenset(f"the drawn scene {seed}" for seed in source.validate_seeds),
        sentence=f"{len(drawn)} scenes drawn by landcover-tiles (seeds {source.seeds[0]} to {source.seeds[-1]}, 0.5 m)",
        validation_name=f"drawn scenes {', '.join(map(str, source.validate_seeds))}",
    )


def draw_labelled(seed: int, side_px: int, done: Callable[[], object] = lambda: None) -> LabelledImage:
    """A scene of the demonstration's generator, `side_px` square, at its own 0.5 m."""
    image, label = draw(seed, side_px, side_px)
    done()
    return LabelledImage(name=f"drawn-{seed}", image=image, label=label, group="drawn", gsd_m=DRAWN_GSD_M)


def class_weights(shares: npt.NDArray[np.float64], values: Sequence[int]) -> npt.NDArray[np.float32]:
    """Weight of each channel: one over the square root of its class's share, 0.5 to 3, mean 1 over the pixels.

    Args:
        shares: of each class value, `(256,)`.
        values: the class value of each channel.
    """
    share = shares[list(values)]
    weight = np.clip(1 / np.sqrt(np.maximum(share, 1e-4) * len(values)), 0.5, 3)
    return np.asarray(weight / (weight * share).sum() * share.sum(), dtype=np.float32)


def _pool(
    source: LabelledSource | DrawnSource,
    config: TrainConfig,
    images: Sequence[Croppable],
    gsds_m: Sequence[float | None],
    name: str,
) -> Pool:
    """Images of one source, each cut at the trained ground sample distance unless the source says how."""
    if source.zoom is not None:
        return Pool(images=images, zoom=source.zoom, share=source.share)
    zooms = [_zoom_from_gsd(config, gsd_m, name) for gsd_m in gsds_m]
    return Pool(images=images, zoom=zooms[0], zooms=zooms, share=source.share)


def _zoom_from_gsd(config: TrainConfig, gsd_m: float | None, name: str) -> Zoom:
    if gsd_m is None:
        raise DataError(
            f"The images of {name} have no georeference, so their ground sample distance is not known; give `gsd_m:` "
            "(metres per pixel) or `zoom:` for this source."
        )
    low, high = config.gsd.min_m / gsd_m, config.gsd.max_m / gsd_m
    if high < SMALLEST_ZOOM:
        raise DataError(
            f"The images of {name} have {gsd_m:g} m per pixel, too coarse for a network of {config.gsd.min_m:g} to "
            f"{config.gsd.max_m:g} m; raise gsd.max_m, or give `zoom:` for this source."
        )
    return max(low, SMALLEST_ZOOM), max(high, SMALLEST_ZOOM)
