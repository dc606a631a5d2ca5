"""The plan of a demonstration scene: main roads, the use of each district between them, and the river."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landcover.demo.canvas import BARELAND, RANGELAND, WATER, Canvas, Crown, Rect, metres, split
from landcover.demo.districts import Painter
from landcover.demo.noise import value_noise

BoolArray = npt.NDArray[np.bool_]

# Those named first are there in every scene that has room for them; the rest follows the weights.
TOWN = {"residential": 6.0, "works": 1.2, "bare": 0.4, "park": 0.7}
COUNTRY = {"fields": 4.0, "wood": 1.6, "rangeland": 1.3, "bare": 0.9}


def paint_plan(canvas: Canvas, rng: np.random.Generator, crowns: list[Crown], view: Rect, town_share: float) -> None:
    """Paint everything onto `canvas`; `view` is the part of it that will be seen."""
    painter = Painter(canvas, rng, crowns)
    river, bank = _river(canvas, rng, view)
    canvas.no_building |= bank
    side = float(np.clip(0.2 * min(view.height, view.width), metres(75), metres(320)))
    districts, roads = split(rng, canvas.extent, side, metres(12))
    for rect, use in zip(districts, _uses(rng, districts, view, town_share), strict=True):
        getattr(painter, use)(rect)
    canvas.fill_mask(canvas.extent, bank, RANGELAND, painter.lawns[0])
    for rect, along_u in roads:  # before the river they would be under water; after it they are bridges
        painter.road(rect, along_u=along_u, main=True)
    covered = np.zeros_like(river)
    for rect, _ in roads:
        covered[rect.slices] = True
    canvas.fill_mask(canvas.extent, river & ~covered, WATER, painter.water[0])
    _plant_banks(painter, bank & ~river & ~covered)


def _uses(rng: np.random.Generator, districts: list[Rect], view: Rect, town_share: float) -> list[str]:
    """The use of each district: a town around one point, country elsewhere."""
    centre_v = rng.uniform(view.v0 + 0.2 * view.height, view.v1 - 0.2 * view.height)
    centre_u = rng.uniform(view.u0 + 0.2 * view.width, view.u1 - 0.2 * view.width)
    distance = np.array([np.hypot((r.v0 + r.v1) / 2 - centre_v, (r.u0 + r.u1) / 2 - centre_u) for r in districts])
    seen = [
        index
        for index, r in enumerate(districts)
        if view.v0 < (r.v0 + r.v1) / 2 < view.v1 and view.u0 < (r.u0 + r.u1) / 2 < view.u1
    ]
    by_distance = sorted(seen, key=lambda index: float(distance[index]))
    unseen = [index for index in range(len(districts)) if index not in set(seen)]
    town = max(1, round(town_share * len(by_distance)))
    uses = [""] * len(districts)
    for indices, weights in ((by_distance[:town], TOWN), (by_distance[town:] + unseen, COUNTRY)):
        for index, use in zip(indices, _drawn(rng, weights, len(indices)), strict=True):
            uses[index] = use
    return uses


def _drawn(rng: np.random.Generator, weights: dict[str, float], count: int) -> list[str]:
    """`count` uses: each once while there is room, then by weight; the nearest places are shuffled too."""
    names = list(weights)
    share = np.array([weights[name] for name in names])
    drawn = names[:count] + [str(n) for n in rng.choice(names, max(count - len(names), 0), p=share / share.sum())]
    head = drawn[: max(len(names) + 2, count // 2)]
    rng.shuffle(head)
    return head + drawn[len(head) :]


def _river(canvas: Canvas, rng: np.random.Generator, view: Rect) -> tuple[BoolArray, BoolArray]:
    """Where the river is, and where its banks are (the river included); bool `(height, width)`."""
    height, width = canvas.cover.shape
    u = np.arange(width, dtype=np.float32)
    centre = np.full(width, view.v0 + rng.uniform(0.25, 0.75) * view.height, dtype=np.float32)
    half = np.full(width, metres(float(rng.uniform(22, 52))) / 2, dtype=np.float32)
    for length in (view.width / 1.3, view.width / 2.9, metres(130), metres(60)):
        amplitude = 0.055 * length * float(rng.uniform(0.6, 1.2))
        centre += np.float32(amplitude) * np.sin(2 * np.pi * u / length + rng.uniform(0, 6.3)).astype(np.float32)
    half *= 1 + 0.18 * value_noise(rng, 1, width, metres(70))[0] + 0.1 * value_noise(rng, 1, width, metres(14))[0]
    v = np.arange(height, dtype=np.float32)[:, None]
    away = np.abs(v - centre[None, :])
    return away < half[None, :], away < half[None, :] * 1.25 + metres(7)


def _plant_banks(painter: Painter, bank: BoolArray) -> None:
    """Trees and gravel along the river."""
    rows, columns = np.nonzero(bank[::9, ::9])
    for v, u in zip(rows * 9, columns * 9, strict=True):
        if painter.rng.random() < 0.3:
            painter.scatter(Rect(v0=int(v), v1=int(v) + 9, u0=int(u), u1=int(u) + 9), 1 / 20,
                            frozenset({RANGELAND, BARELAND}))  # fmt: skip
