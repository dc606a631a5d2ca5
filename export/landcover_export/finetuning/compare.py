"""Parent and child, mapped and measured on what neither has learnt from."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress

from landcover.contract import Metrics
from landcover_export.checkpoints import Checkpoint
from landcover_export.evaluation.evaluate import MappedImage, evaluate_windows
from landcover_export.evaluation.mapping import ByteArray
from landcover_export.finetuning.base import held_out_images
from landcover_export.finetuning.gate import Measured
from landcover_export.finetuning.material import Material
from landcover_export.finetuning.parent import block_model, place_model

CLUSTER_PX = 256
"""Side of the base set's windows, which are resampled for intervals."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What both models make of the held-out data."""

    annotations: Measured
    base: Measured | None
    maps: tuple[tuple[ByteArray, ByteArray], ...]
    """Class values of parent and child at each held-out place, without margin."""
    metrics: Metrics | None
    """The child's, on the base set where there is one: comparable with the parent's own."""


def compare(material: Material, child: Checkpoint, console: Console) -> Comparison:
    """Map the held-out places and the base set's held-out images by both models.

    A place is one window of the comparison, mapped with as much context as in serving.
    """
    contract = material.parent.contract
    models = [
        block_model(material.parent.checkpoint, contract, "parent"),
        block_model(child, contract, "child"),
    ]
    maps: list[tuple[ByteArray, ByteArray]] = []
    margin, side = material.margin_px, material.side_px
    inner = slice(margin, margin + side)

    def keep(mapped: MappedImage) -> None:
        (parent, _), (grown, _) = mapped.maps
        maps.append((parent[inner, inner], grown[inner, inner]))

    total = 2 * (len(material.held_out.images) + len(material.base.held_out))
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("comparing with the parent", total=total)
        on_places = evaluate_windows(
            [place_model(each, contract, side) for each in models],
            material.held_out.images,
            classes=child.classes,
            cluster_px=None,
            observe=keep,
            on_progress=lambda share: progress.advance(task, share),
        )
        on_base = evaluate_windows(
            models,
            held_out_images(material.base, contract.gsd),
            classes=child.classes,
            cluster_px=CLUSTER_PX,
            on_progress=lambda share: progress.advance(task, share),
        )
    annotations, base = (
        Measured(parent=each.counts[0].confusions, child=each.counts[1].confusions) for each in (on_places, on_base)
    )
    known = (
        (on_base.counts[1], f"{material.base.validation_name} (not trained on)"),
        (on_places.counts[1], "annotations held out of fine-tuning"),
    )
    measured = next(((counts, name) for counts, name in known if counts.confusions.any()), None)
    return Comparison(
        annotations=annotations,
        base=base if base.child.sum() else None,
        maps=tuple(maps),
        metrics=measured[0].as_metrics(measured[1]) if measured else None,
    )
