"""What a round works with, found and checked before the first step: annotations, scenes, places, base set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from landcover.annotations import Annotation, AnnotationStore, read_features
from landcover.catalog import expand_scenes
from landcover.classes import LandCoverClass
from landcover.contract import AnnotationsUsed
from landcover.errors import InvalidConfiguration
from landcover.reading import SceneReader
from landcover.scene import Scene, SceneSource, current_version, describe
from landcover.settings import ReadSettings
from landcover_export.checkpoints import Checkpoint
from landcover_export.finetuning.base import BaseSet, load_base
from landcover_export.finetuning.config import RoundConfig
from landcover_export.finetuning.growth import grow, new_classes
from landcover_export.finetuning.holdout import Split, hold_out
from landcover_export.finetuning.lineage import annotations_used
from landcover_export.finetuning.parent import Parent, load_parent, place_margin_px
from landcover_export.finetuning.sparse import AnnotatedScene, Places, annotate, cut_places, place_side_px
from landcover_export.labelled import DataError, LabelledImage


@dataclass(frozen=True, kw_only=True)
class Material:
    """All that a round needs."""

    parent: Parent
    student: Checkpoint
    """The parent, grown by the classes that are new."""
    brought: tuple[LandCoverClass, ...]
    taught: Places
    held_out: Places
    """Each image with a margin of context on every side."""
    margin_px: int
    side_px: int
    """Of a place without its margin."""
    taught_used: AnnotationsUsed
    held_out_used: AnnotationsUsed | None
    polygons: dict[str, tuple[int, int]]
    """By class name: how many are learnt from, and how many are held out."""
    notes: tuple[str, ...]
    base: BaseSet


def sources_of(scenes: Sequence[str]) -> dict[str, SceneSource]:
    """The scenes at the given locations, by id.

    Raises:
        InvalidConfiguration: a location holds none, or two have the same id.
    """
    found: dict[str, SceneSource] = {}
    for location in scenes:
        for source in expand_scenes(location):
            if source.id in found and found[source.id].location != source.location:
                raise InvalidConfiguration(
                    f"{found[source.id].location} and {source.location} are both scene '{source.id}'; name one, or "
                    "give them ids in a catalogue."
                )
            found[source.id] = source
    return found


def read_annotations(
    sources: dict[str, SceneSource], classes: Sequence[LandCoverClass], *, file: Path | None, database: str | None
) -> list[Annotation]:
    """The annotations of the given scenes in a file or a database.

    Args:
        sources: by id.
        classes: those of the parent.
        file: GeoJSON or GeoPackage; features without a scene are of the only one.
        database: a URL.

    Raises:
        InvalidRequest: features that are no annotations, all listed.
        DataError: there is nothing on any of the scenes.
        DatabaseUnavailable: the database does not answer.
    """
    if file is not None:
        only = next(iter(sources)) if len(sources) == 1 else None
        annotations = read_features(file, classes=classes, scene=only)
        where, named = str(file), sorted({each.scene for each in annotations})
        annotations = [each for each in annotations if each.scene in sources]
    else:
        with AnnotationStore(database or "") as store:
            annotations = [each for scene in sorted(sources) for each in store.for_scene(scene)]
            where, named = store.address, store.scenes() if not annotations else []
    if not annotations:
        there = f"its annotations are of {', '.join(named[:5])}" if named else "it holds no annotation"
        raise DataError(
            f"{where} has nothing on the scenes {', '.join(sorted(sources))}: {there}. Annotate one of them, or name "
            "the images that were annotated with --scenes (a scene's id is its file's name, or the catalogue's)."
        )
    return annotations


def prepare(config: RoundConfig, annotations: Sequence[Annotation], console: Console) -> Material:
    """Check and read everything; nothing is trained.

    Raises:
        LandcoverError: whatever would make the round useless, in a sentence.
    """
    parent = load_parent(config.parent)
    if config.parent_digest not in (None, parent.digest):
        raise InvalidConfiguration(
            f"{config.parent} is not the model that the round began with ({config.parent_digest}); put that one back, "
            "or begin another round."
        )
    brought = new_classes(parent.contract.classes, annotations)
    student = grow(parent.checkpoint, brought)
    if config.training.replay and config.base is None:
        raise InvalidConfiguration(
            "There is no base set to replay, and without replay a network forgets what is not annotated. Name it with "
            "--base (a training configuration, a run's or dataset's folder, or 'drawn'), or say --replay 0."
        )
    side = place_side_px(config.training.crop_px)
    scenes, reader = _scenes(config, annotations), SceneReader(ReadSettings())
    drawn = [
        annotate([each for each in annotations if each.scene == scene.id], scene, parent.contract, side)
        for scene in scenes
    ]
    split = hold_out(drawn, config.hold_out, config.training.seed)
    margin = place_margin_px(parent.contract, side)
    taught, held_out = _cut(drawn, split, reader, margin)
    notes = [note for each in drawn for note in each.notes]
    if not taught.images:
        raise DataError(" ".join(["No pixel is annotated to learn from.", *notes[:5]]))
    if overwritten := sum(each.overwritten_px for each in drawn):
        notes.append(f"{overwritten} pixels lie under a later annotation of another class, which counts.")
    if taught.withheld_px:
        notes.append(f"{taught.withheld_px} annotated pixels near places held out are not learnt from.")
    base = BaseSet() if config.base is None else load_base(config.base, student, parent.contract.gsd, console)
    return Material(
        parent=parent,
        student=student,
        brought=brought,
        taught=taught,
        held_out=held_out,
        margin_px=margin,
        side_px=side,
        taught_used=annotations_used(annotations, split.taught, taught.area_m2),
        held_out_used=annotations_used(annotations, split.held_out, held_out.area_m2) if held_out.images else None,
        polygons=_polygons(drawn, split),
        notes=tuple(notes),
        base=base,
    )


def centre(image: LabelledImage, margin_px: int) -> LabelledImage:
    """A place without its margin."""
    side = image.label.shape[0] - margin_px
    at = slice(margin_px, side), slice(margin_px, side)
    return replace(image, image=image.image[at], label=image.label[at])


def _scenes(config: RoundConfig, annotations: Sequence[Annotation]) -> list[Scene]:
    """Those with annotations; the headers of others are not read."""
    settings = ReadSettings()
    sources = sources_of(config.scenes)
    wanted = sorted({each.scene for each in annotations} & sources.keys())
    return [describe(sources[name], current_version(sources[name], settings), settings) for name in wanted]


def _cut(drawn: Sequence[AnnotatedScene], split: Split, reader: SceneReader, margin_px: int) -> tuple[Places, Places]:
    taught, held_out = [], []
    for each in drawn:
        mine, others = split.taught_cells[each.scene.id], split.held_out_cells[each.scene.id]
        taught.append(cut_places(each, mine, split.taught, reader, away_from=others))
        held_out.append(cut_places(each, others, split.held_out, reader, margin_px=margin_px))
    return _joined(taught), _joined(held_out)


def _joined(parts: Sequence[Places]) -> Places:
    values = sorted({value for each in parts for value in each.area_m2})
    return Places(
        images=tuple(image for each in parts for image in each.images),
        area_m2={value: sum(each.area_m2.get(value, 0.0) for each in parts) for value in values},
        withheld_px=sum(each.withheld_px for each in parts),
    )


def _polygons(drawn: Sequence[AnnotatedScene], split: Split) -> dict[str, tuple[int, int]]:
    taught, held = Counter[str](), Counter[str]()
    for scene in drawn:
        for each in scene.drawings:
            side = held if each.annotation.id in split.held_out else taught
            side[each.annotation.class_name] += 1
    return {name: (taught[name], held[name]) for name in sorted(taught | held)}
