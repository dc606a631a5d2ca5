"""Which annotations are never learnt from, so that a new model can be compared with its parent on them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landcover.grid import BlockIndex
from landcover_export.finetuning.sparse import AnnotatedScene, Drawing, cells_of

Place = tuple[str, BlockIndex]
"""A scene's id and a cell of its lattice."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Drawings and cells on either side: none is on both."""

    taught: frozenset[str]
    """Ids of the annotations that are learnt from."""
    held_out: frozenset[str]
    taught_cells: dict[str, frozenset[BlockIndex]]
    """By scene."""
    held_out_cells: dict[str, frozenset[BlockIndex]]


def hold_out(scenes: Sequence[AnnotatedScene], share: float, seed: int) -> Split:
    """Hold out whole places until they are home to `share` of the polygons.

    A place goes with the polygons at home in it. Each polygon is on one side as a whole: what of it reaches into a
    place of the other side is used on neither, and what is learnt from keeps a gap from the places held out
    (`sparse.cut_places`). So the two sides share no pixel, neither of label nor of image.

    The places come in a random order that follows from the seed alone, those with classes that nothing held out has
    yet first. At least half of the polygons of every class are learnt from, so a class with one is never held out.

    Args:
        scenes: each with its drawings; ids differ between scenes.
        share: of the polygons, 0 to less than 1.
        seed: of the order.
    """
    homes: dict[Place, list[Drawing]] = defaultdict(list)
    for scene in scenes:
        for each in scene.drawings:
            homes[scene.scene.id, each.home].append(each)
    classes = {place: Counter(each.annotation.class_value for each in drawn) for place, drawn in homes.items()}
    drawn = sum(classes.values(), Counter[int]())
    lost = Counter[int]()
    wanted = share * drawn.total()
    most = max(math.ceil(wanted), drawn.total() // 2)
    by_name = sorted(homes)
    order = [by_name[number] for number in np.random.default_rng(seed).permutation(len(by_name))]
    chosen: set[Place] = set()
    covered: set[int] = set()
    while lost.total() < wanted:
        open_places = [
            place
            for place in order
            if place not in chosen
            and lost.total() + classes[place].total() <= most
            and all(2 * (lost[value] + count) <= drawn[value] for value, count in classes[place].items())
        ]
        if not open_places:
            break
        best = max(open_places, key=lambda place: len(classes[place].keys() - covered))  # the first of equals
        chosen.add(best)
        covered |= classes[best].keys()
        lost += classes[best]
    return _split(scenes, chosen)


def _split(scenes: Sequence[AnnotatedScene], chosen: set[Place]) -> Split:
    taught: set[str] = set()
    held: set[str] = set()
    taught_cells: dict[str, frozenset[BlockIndex]] = {}
    held_cells: dict[str, frozenset[BlockIndex]] = {}
    for scene in scenes:
        name = scene.scene.id
        inside = [each for each in scene.drawings if (name, each.home) in chosen]
        outside = [each for each in scene.drawings if (name, each.home) not in chosen]
        held |= {each.annotation.id for each in inside}
        taught |= {each.annotation.id for each in outside}
        here = {cell for place, cell in chosen if place == name}
        to_teach = {cell for each in outside for cell in cells_of(each.outline, scene.grid)} - here
        taught_cells[name] = frozenset(to_teach)
        held_cells[name] = frozenset(
            here | ({cell for each in inside for cell in cells_of(each.outline, scene.grid)} - to_teach)
        )
    return Split(
        taught=frozenset(taught),
        held_out=frozenset(held),
        taught_cells=taught_cells,
        held_out_cells=held_cells,
    )
