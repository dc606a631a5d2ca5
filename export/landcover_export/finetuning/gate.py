"""The gate: whether a fine-tuned model takes its parent's place, judged on data that neither has seen.

Two sets are looked at: (a) the annotations held out of the round, a window for each place, and (b) the held-out part
of the base set, where there is one.

1. *It improves.* On (a), mIoU or OA must be higher, beyond what another sample of places would explain: the lower
   bound of the 95 % interval of the paired difference (`evaluation.bootstrap.paired_difference`, places resampled) is
   above 0. The other of the two must not be lower by the same measure: its upper bound is not below 0. With three
   places this asks that every one of them improves; with fewer nothing can be said, and the model is not promoted
   unless that is forced.
2. *No class falls* by more than the bound, 0.02 by default. A class is judged on (b) where (b) holds it, and on (a)
   otherwise. The figure is IoU and not recall: a class that is painted everywhere gains recall while it eats its
   neighbours, IoU counts both errors. The estimate itself is compared, not its interval: to keep the parent by
   mistake costs another round, to replace it by mistake costs a class. A class with fewer than `MIN_CLASS_PX` pixels
   of reference is reported and not judged.

Without (b) a round of wrong annotations cannot be told from one of right ones: the held-out part of them is wrong,
too. That is what the base set is for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landcover.classes import LandCoverClass
from landcover_export.evaluation.bootstrap import FEW_WINDOWS, Estimate, paired_difference
from landcover_export.evaluation.metrics import (
    Confusions,
    Statistic,
    class_iou,
    mean_iou,
    of_class,
    overall_accuracy,
)

MIN_PLACES = 3
"""Held-out places below which nothing is judged."""

MIN_CLASS_PX = 200
"""Reference pixels of a class below which its fall is not judged."""

DEFAULT_BOUND = 0.02

ANNOTATIONS = "held-out annotations"
BASE = "base set"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Parent and child on the same windows."""

    parent: Confusions
    """Pixels `(windows, classes, classes)`, `[window][reference][predicted]`."""
    child: Confusions
    """The same shape, over the child's classes: a class the parent lacks it never predicts."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of both models."""

    on: str
    """`ANNOTATIONS` or `BASE`."""
    figure: str
    """`OA`, `mIoU`, or `IoU` of a class."""
    name: str
    """Of the class; empty for the means."""
    pixels: int
    """Of reference."""
    parent: float
    """NaN where it is not defined, as may be the next ones."""
    child: float
    low: float
    """Of the 95 % interval of the difference, child less parent."""
    high: float
    fell: bool = False
    """By more than the bound, where that counts."""

    @property
    def difference(self) -> float:
        """Child less parent."""
        return self.child - self.parent


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says."""

    promoted: bool
    reasons: tuple[str, ...]
    """A sentence each; those that speak against promotion name figure and class."""
    table: tuple[Row, ...]


def judge(
    classes: Sequence[LandCoverClass],
    annotations: Measured,
    base: Measured | None = None,
    *,
    bound: float = DEFAULT_BOUND,
    force: bool = False,
    seed: int = 0,
) -> Verdict:
    """Apply the rules of this module.

    Args:
        classes: rows and columns of the confusion matrices.
        annotations: on the held-out annotations, a window for each place.
        base: on the base set's held-out part.
        bound: by which no class's IoU may fall.
        force: promote although there are too few held-out places to judge; classes of the base set still count.
        seed: of the resampling.
    """
    table: list[Row] = []
    for on, measured in ((ANNOTATIONS, annotations), (BASE, base)):
        if measured is not None and measured.child.sum():
            table += _rows(classes, measured, on, seed)
    improved, reasons = _improvement(table, len(annotations.child), force=force)
    judged = {row.name: row for row in table if row.name}  # the base set's rows come later and count
    enough = {name: row for name, row in judged.items() if row.pixels >= MIN_CLASS_PX}
    fallen = {id(row) for row in enough.values() if row.difference < -bound}
    table = [Row(**{**vars(row), "fell": id(row) in fallen}) for row in table]
    for row in table:
        if row.fell:
            reasons.append(
                f"Class '{row.name}' falls by {-row.difference:.3f} in IoU, from {row.parent:.3f} to {row.child:.3f} "
                f"on the {row.on}; at most {bound:g} is allowed."
            )
    if unjudged := sorted(judged.keys() - enough.keys()):
        reasons.append(f"Too little reference to judge: {', '.join(unjudged)} (fewer than {MIN_CLASS_PX} px).")
    if base is None:
        reasons.append("Without a base set, classes are judged on the held-out annotations alone.")
    return Verdict(promoted=improved and not fallen, reasons=tuple(reasons), table=tuple(table))


def _improvement(table: Sequence[Row], places: int, *, force: bool) -> tuple[bool, list[str]]:
    if places < MIN_PLACES:
        told = (
            f"{places} held-out place{'s are' if places != 1 else ' is'} too few to judge by, {MIN_PLACES} are needed: "
            "annotate in more places, or raise --hold-out."
        )
        return force, [told + (" It was promoted by force." if force else " The parent is kept (--force overrules).")]
    means = [row for row in table if row.on == ANNOTATIONS and not row.name]
    better = [row for row in means if row.low > 0]
    worse = [row for row in means if row.high < 0]
    reasons = [
        f"{row.figure} on {places} held-out places: {row.parent:.3f} → {row.child:.3f} "
        f"({row.difference:+.3f}, 95 % {row.low:+.3f} to {row.high:+.3f})."
        for row in means
    ]
    if not better:
        reasons.append("Neither mIoU nor OA is surely higher than the parent's on the held-out annotations.")
    reasons += [f"{row.figure} is surely lower than the parent's on the held-out annotations." for row in worse]
    if places < FEW_WINDOWS:
        reasons.append(f"{places} places are few: the intervals are likely too narrow.")
    return bool(better) and not worse, reasons


def _rows(classes: Sequence[LandCoverClass], measured: Measured, on: str, seed: int) -> list[Row]:
    pixels = measured.child.sum(axis=(0, 2))
    rows = [
        _row(on, figure, "", int(pixels.sum()), measured, statistic, seed)
        for figure, statistic in (("OA", overall_accuracy), ("mIoU", mean_iou))
    ]
    rows += [
        _row(on, "IoU", each.name, int(pixels[index]), measured, of_class(class_iou, index), seed)
        for index, each in enumerate(classes)
        if pixels[index]
    ]
    return rows


def _row(on: str, figure: str, name: str, pixels: int, measured: Measured, statistic: Statistic, seed: int) -> Row:
    change: Estimate = paired_difference(measured.child, measured.parent, statistic, seed=seed)
    return Row(
        on=on,
        figure=figure,
        name=name,
        pixels=pixels,
        parent=float(np.asarray(statistic(measured.parent.sum(axis=0)))),
        child=float(np.asarray(statistic(measured.child.sum(axis=0)))),
        low=change.low if math.isfinite(change.low) else math.nan,
        high=change.high if math.isfinite(change.high) else math.nan,
    )
