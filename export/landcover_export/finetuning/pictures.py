"""Pictures of a round: what is to be learnt, and what parent and child make of the places held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landcover.classes import LandCoverClass, palette
from landcover_export.labelled import ByteArray, LabelledImage

Item = TypeVar("Item")

SHOWN = 12
"""Places in one picture, evenly spread over those there are."""


def draw_places(
    taught: Sequence[LabelledImage], held_out: Sequence[LabelledImage], classes: Sequence[LandCoverClass], path: Path
) -> None:
    """Places with their annotations laid over them; those held out have a red frame."""
    shown = [(each, False) for each in _spread(taught)] + [(each, True) for each in _spread(held_out)]
    columns = min(6, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.6 * rows + 0.8), layout="constrained")
    colors = palette(classes)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set(xticks=[], yticks=[])
        if not shown:
            axes.axis("off")
            continue
        place, held = shown.pop(0)
        axes.imshow(place.image)
        axes.imshow(_overlay(colors, place.label))
        axes.set_title(place.name + (" (held out)" if held else ""), fontsize=6)
        for spine in axes.spines.values():
            spine.set(color="red" if held else "black", linewidth=2.5 if held else 0.8)
    _legend(figure, classes)
    figure.savefig(path, dpi=100)


def draw_comparison(
    places: Sequence[LabelledImage],
    maps: Sequence[tuple[ByteArray, ByteArray]],
    classes: Sequence[LandCoverClass],
    path: Path,
) -> None:
    """Image, annotation, parent's map and child's map of places held out, a row each; nothing where there are none.

    Args:
        places: without margin.
        maps: class values `(height, width)` of parent and child at each place.
        classes: the child's.
        path: a PNG.
    """
    chosen = _spread(list(zip(places, maps, strict=True)))
    if not chosen:
        return
    figure = Figure(figsize=(9.2, 2.35 * len(chosen) + 0.8), layout="constrained")
    colors = palette(classes)
    grid = figure.subplots(len(chosen), 4, squeeze=False)
    for row, (place, (parent, child)) in zip(grid, chosen, strict=True):
        for axes, picture in zip(row, (place.image, None, parent, child), strict=True):
            axes.imshow(place.image if picture is None or picture.ndim == 3 else colors[picture])
            axes.set(xticks=[], yticks=[])
        row[1].imshow(_overlay(colors, place.label, alpha=255))
        for axes, found in ((row[2], parent), (row[3], child)):
            labelled = place.label > 0
            right = (found == place.label)[labelled].mean()
            axes.set_xlabel(f"{right:.0%} of the annotated pixels", fontsize=7)
        row[0].set_ylabel(place.name, fontsize=6)
    for axes, title in zip(grid[0], ("image", "annotation", "parent", "child"), strict=True):
        axes.set_title(title, fontsize=9)
    _legend(figure, classes)
    figure.savefig(path, dpi=100)


def _spread(items: Sequence[Item]) -> list[Item]:
    at = np.linspace(0, len(items) - 1, min(SHOWN, len(items))).round().astype(int)
    return [items[i] for i in at]


def _overlay(colors: ByteArray, label: ByteArray, alpha: int = 150) -> ByteArray:
    shown = colors[label].copy()
    shown[..., 3] = np.where(label > 0, alpha, 0)
    return np.asarray(shown)


def _legend(figure: Figure, classes: Sequence[LandCoverClass]) -> None:
    handles = [Patch(facecolor=each.color, edgecolor="black", label=each.name) for each in classes]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), fontsize=7)
