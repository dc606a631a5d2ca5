"""What fills a district of the demonstration scene: houses, works, fields, woods, grass, bare ground, parks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from landcover.demo.canvas import (
    AGRICULTURE,
    BARELAND,
    BUILDING,
    DEVELOPED,
    RANGELAND,
    ROAD,
    TREE,
    WATER,
    Canvas,
    Crown,
    Rect,
    Rgb,
    metres,
    split,
)
from landcover.demo.noise import fractal_noise

ROOFS: tuple[Rgb, ...] = (
    (158, 92, 70), (142, 78, 60), (176, 116, 88),  # tiles of clay
    (88, 88, 94), (70, 74, 82), (112, 112, 116),  # slate
    (104, 84, 72), (126, 108, 92),  # brown
    (96, 112, 138), (118, 134, 150),  # glazed blue-grey
    (196, 192, 184), (222, 218, 210),  # light
    (92, 116, 100), (150, 62, 56),
)  # fmt: skip
FLAT_ROOFS: tuple[Rgb, ...] = (
    (206, 206, 204), (228, 228, 224), (172, 174, 176), (148, 150, 154), (126, 150, 174), (182, 170, 152),
    (120, 122, 126), (142, 160, 148),
)  # fmt: skip
CROPS: tuple[Rgb, ...] = (
    (88, 118, 64), (108, 134, 72), (74, 102, 60), (126, 146, 84),  # in leaf
    (178, 164, 96), (196, 180, 116),  # ripe
    (132, 106, 80), (116, 92, 70),  # ploughed
    (96, 118, 86), (146, 150, 92),
)  # fmt: skip
CARS: tuple[Rgb, ...] = (
    (225, 225, 225), (36, 38, 42), (150, 30, 28), (40, 62, 120), (150, 152, 156), (86, 90, 94),
)  # fmt: skip
GRASSES: tuple[Rgb, ...] = ((116, 128, 76), (132, 136, 88), (104, 122, 70), (146, 144, 102))
SOILS: tuple[Rgb, ...] = ((176, 150, 118), (196, 176, 146), (158, 130, 100), (206, 190, 164))
LEAVES: tuple[Rgb, ...] = (
    (58, 82, 44), (66, 94, 50), (50, 72, 42), (76, 102, 56), (62, 86, 58), (84, 104, 52), (46, 66, 44),
)  # fmt: skip

OPEN_GROUND = frozenset({BARELAND, RANGELAND})
GARDEN = frozenset({RANGELAND, DEVELOPED})


class Painter:
    """Fills districts on a canvas; every choice comes from one random generator."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator, crowns: list[Crown]) -> None:
        self.canvas = canvas
        self.rng = rng
        self.crowns = crowns
        paints = canvas.paints
        self.asphalt = paints.add(self._vary((104, 104, 107), 14), grain=0.035, mottle=0.05)
        self.street = paints.add(self._vary((124, 122, 120), 14), grain=0.035, mottle=0.06)
        self.track = paints.add(self._vary((168, 152, 126), 12), grain=0.04, mottle=0.08)
        self.marking = paints.add((232, 232, 228), grain=0.03, mottle=0.05)
        self.pavement = paints.add(self._vary((172, 170, 164), 12), grain=0.03, mottle=0.05)
        self.paving = [paints.add(self._vary(c, 10), grain=0.03, mottle=0.06) for c in
                       ((140, 139, 137), (158, 154, 146), (122, 122, 124), (186, 180, 168))]  # fmt: skip
        self.roofs = [paints.add(self._vary(c, 12), grain=0.03, mottle=0.03) for c in ROOFS for _ in range(3)]
        self.flat_roofs = [paints.add(self._vary(c, 10), grain=0.02, mottle=0.03) for c in FLAT_ROOFS * 2]
        self.plant = paints.add((110, 112, 114), grain=0.03, mottle=0.0)
        self.cars = [paints.add(c, grain=0.02, mottle=0.0) for c in CARS]
        self.lawns = [paints.add(self._vary(c, 10), grain=0.06, mottle=0.13) for c in GRASSES * 2]
        self.meadows = [paints.add(self._vary(c, 10), grain=0.08, mottle=0.3) for c in GRASSES]
        self.soils = [paints.add(self._vary(c, 10), grain=0.05, mottle=0.17) for c in SOILS]
        self.leaves = [paints.add(self._vary(c, 8), grain=0.13, mottle=0.08) for c in LEAVES * 2]
        tone = float(self.rng.uniform(-1, 1))
        self.water = [
            paints.add((44 + 16 * tone, 66 + 12 * tone, 74 + 4 * tone), grain=0.03, mottle=0.07),
            paints.add((40, 70 + 10 * tone, 66), grain=0.02, mottle=0.05),
            paints.add((52, 62, 54), grain=0.02, mottle=0.06),
        ]
        self.pool = paints.add((96, 176, 196), grain=0.02, mottle=0.03)

    def residential(self, district: Rect) -> None:
        """Blocks of houses with gardens along local streets."""
        self.canvas.fill(district, DEVELOPED, self.pavement)
        street = district.inset(metres(2))
        density = float(self.rng.uniform(0.72, 0.97))
        self._local_streets(street, metres(float(self.rng.uniform(46, 64))), self._block_of_houses, density)

    def works(self, district: Rect) -> None:
        """Halls, offices and car parks."""
        self.canvas.fill(district, DEVELOPED, self.pavement)
        self._local_streets(district.inset(metres(2)), metres(95), self._yard, 1.0)

    def park(self, district: Rect) -> None:
        """Lawn with paths, a pond and loose trees."""
        rng = self.rng
        self.canvas.fill(district, RANGELAND, self._pick(self.lawns))
        if district.area > metres(70) ** 2:
            self._blob(district.inset(metres(22)), WATER, self._pick(self.water[1:]), 0.3)
        width = metres(2.5)
        path = self._pick(self.paving)
        v = int(rng.integers(district.v0 + 10, max(district.v0 + 11, district.v1 - 10)))
        u = int(rng.integers(district.u0 + 10, max(district.u0 + 11, district.u1 - 10)))
        for each in (
            Rect(v0=v, v1=v + width, u0=district.u0, u1=district.u1),
            Rect(v0=district.v0, v1=district.v1, u0=u, u1=u + width),
        ):
            dry = self.canvas.cover[each.slices] != WATER
            self.canvas.fill_mask(each, dry, DEVELOPED, path)
        self.scatter(district, 1 / 130, OPEN_GROUND)
        self.copse(district, 0.55)

    def fields(self, district: Rect) -> None:
        """Parcels of crops with rows, tracks, margins and hedges between them."""
        rng = self.rng
        gap = metres(4)
        parcels, gaps = split(rng, district, metres(float(rng.uniform(60, 115))), gap)
        self.canvas.fill(district, RANGELAND, self._pick(self.lawns))
        for rect, _ in gaps:
            if rng.random() < 0.55:
                self.canvas.fill(rect.inset(1), ROAD, self.track)
        for parcel in parcels:
            self._field(parcel.inset(int(rng.integers(1, 4))))
        for rect, along_u in gaps:
            if rng.random() < 0.3:
                self._tree_row(rect, along_u)
        if rng.random() < 0.7:
            self._farmstead(parcels[int(rng.integers(len(parcels)))])

    def wood(self, district: Rect) -> None:
        """A closed stand of trees with clearings, its edge frayed into grass."""
        self.canvas.fill(district, RANGELAND, self._pick(self.meadows))
        self.copse(district, -0.35)
        self.scatter(district, 1 / 260, OPEN_GROUND)

    def rangeland(self, district: Rect) -> None:
        """Grass and scrub with patches."""
        self.canvas.fill(district, RANGELAND, self._pick(self.meadows))
        for _ in range(3):
            self._patches(district, RANGELAND, self._pick(self.meadows), float(self.rng.uniform(0.2, 0.5)))
        if self.rng.random() < 0.5:
            self._patches(district, BARELAND, self._pick(self.soils), float(self.rng.uniform(0.1, 0.25)))
        self.scatter(district, 1 / float(self.rng.uniform(350, 1600)), OPEN_GROUND)

    def bare(self, district: Rect) -> None:
        """Open soil or sand, with heaps, wheel tracks and, at times, a building going up."""
        rng = self.rng
        self.canvas.fill(district, BARELAND, self._pick(self.soils))
        for _ in range(3):
            self._patches(district, BARELAND, self._pick(self.soils), float(rng.uniform(0.15, 0.5)))
        at = district.slices
        height, width = self.canvas.relief[at].shape
        if min(height, width) > 0:
            heaps = fractal_noise(rng, height, width, 26, 3)
            slope = np.diff(heaps, axis=0, prepend=heaps[:1]) + np.diff(heaps, axis=1, prepend=heaps[:, :1])
            self.canvas.relief[at] = np.clip(slope * float(rng.uniform(60, 160)), -30, 30).astype(np.int8)
        for _ in range(int(rng.integers(0, 4))):
            self._house(self._somewhere(district, metres(14), metres(22)), flat=True)
        self._patches(district, RANGELAND, self._pick(self.meadows), 0.12)

    def road(self, rect: Rect, *, along_u: bool, main: bool) -> None:
        """A paved road filling `rect`, with its markings."""
        self.canvas.fill(rect, ROAD, self.asphalt if main else self.street)
        if not main:
            return
        middle = (rect.v0 + rect.v1) // 2 if along_u else (rect.u0 + rect.u1) // 2
        first, last = (rect.u0, rect.u1) if along_u else (rect.v0, rect.v1)
        for start in range(first, last, metres(7)):
            self._line(along_u, middle, start, min(start + metres(3), last))
        low, high = (rect.v0, rect.v1) if along_u else (rect.u0, rect.u1)
        for edge in (low + 2, high - 3):
            self._line(along_u, edge, first, last)
        for start in range(first, last, metres(30)):
            if self.rng.random() < 0.45:
                at = start + int(self.rng.integers(metres(24)))
                lane = middle + (4 if self.rng.random() < 0.5 else -7)
                self._car(at, lane, along_u=not along_u, cover=ROAD)

    def scatter(self, rect: Rect, per_m2: float, only_on: frozenset[int]) -> None:
        """Single trees at random, `per_m2` of them per square metre."""
        count = round(rect.area * 0.25 * per_m2)
        for v, u in zip(
            self.rng.integers(rect.v0, max(rect.v1, rect.v0 + 1), count),
            self.rng.integers(rect.u0, max(rect.u1, rect.u0 + 1), count),
            strict=True,
        ):
            self._tree(int(v), int(u), only_on)

    def copse(self, rect: Rect, threshold: float) -> None:
        """Trees standing close wherever a smooth random field exceeds `threshold` (-1..1)."""
        v0, u0 = max(rect.v0, 0), max(rect.u0, 0)
        height, width = rect.v1 - v0, rect.u1 - u0
        if height < 8 or width < 8:
            return
        step = 8
        stand = fractal_noise(self.rng, height // step + 1, width // step + 1, 14, 3) > threshold
        rows, columns = np.nonzero(stand)
        jitter = self.rng.integers(-4, 5, (2, rows.size))
        for v, u in zip(rows * step + jitter[0], columns * step + jitter[1], strict=True):
            self._tree(v0 + int(v), u0 + int(u), frozenset({BARELAND, RANGELAND, TREE}), small=3)

    def _vary(self, rgb: Rgb, amount: float) -> Rgb:
        """The colour, a little lighter or darker, a little warmer or colder."""
        light = float(self.rng.normal(0, amount))
        warm = float(self.rng.normal(0, amount / 3))
        red, green, blue = rgb
        return red + light + warm, green + light, blue + light - warm

    def _pick(self, paints: list[int]) -> int:
        return paints[int(self.rng.integers(len(paints)))]

    def _somewhere(self, rect: Rect, height: int, width: int) -> Rect:
        v = int(self.rng.integers(rect.v0, max(rect.v1 - height, rect.v0 + 1)))
        u = int(self.rng.integers(rect.u0, max(rect.u1 - width, rect.u0 + 1)))
        return Rect(v0=v, v1=v + height, u0=u, u1=u + width)

    def _line(self, along_u: bool, across: int, first: int, last: int) -> None:
        """A painted line one pixel wide."""
        at = (
            Rect(v0=across, v1=across + 1, u0=first, u1=last)
            if along_u
            else Rect(v0=first, v1=last, u0=across, u1=across + 1)
        ).slices
        self.canvas.paint[at] = self.marking

    def _local_streets(self, area: Rect, side: int, fill: Callable[[Rect, float], None], chance: float) -> None:
        """Streets through `area`, and what `fill` makes of the blocks between them."""
        rng = self.rng
        blocks, streets = split(rng, area, side, metres(6.5))
        for rect, along_u in streets:
            self.road(rect, along_u=along_u, main=False)
        for block in blocks:
            self.canvas.fill(block, DEVELOPED, self.pavement)
            fill(block.inset(metres(1.5)), chance)

    def _block_of_houses(self, block: Rect, chance: float) -> None:
        """Lots with a house each; some blocks are flats, a green or a building site."""
        rng = self.rng
        if block.height < metres(14) or block.width < metres(14):
            return
        kind = rng.random()
        if kind < 0.06:
            self.park(block)
            return
        if kind < 0.1:
            self.canvas.fill(block, BARELAND, self._pick(self.soils))
            return
        if kind < 0.2:
            self._flats(block)
            return
        lots, fences = split(rng, block, metres(float(rng.uniform(14, 19))), 1)
        self.canvas.fill(block, RANGELAND, self._pick(self.lawns))
        for rect, _ in fences:
            self.canvas.relief[rect.slices] = -14
        for lot in lots:
            self._lot(lot, chance)

    def _lot(self, lot: Rect, chance: float) -> None:
        rng = self.rng
        self.canvas.fill(lot, RANGELAND, self._pick(self.lawns))
        if rng.random() > chance:
            self.scatter(lot, 1 / 60, GARDEN)
            return
        height = min(metres(float(rng.uniform(8, 14))), lot.height - 4)
        width = min(metres(float(rng.uniform(8, 15))), lot.width - 4)
        if height < metres(6) or width < metres(6):
            return
        house = self._somewhere(lot.inset(2), height, width)
        if rng.random() < 0.75:  # the drive, from the house to the edge of its lot
            drive = Rect(v0=house.v0 + 2, v1=house.v0 + 2 + metres(3), u0=lot.u0, u1=house.u0 + 2)
            self.canvas.fill(drive, DEVELOPED, self._pick(self.paving))
            if rng.random() < 0.6 and drive.width > metres(5):
                self._car(drive.u0 + 2, drive.v0 + 1, along_u=False, cover=DEVELOPED)
        self._house(house, flat=rng.random() < 0.15)
        if rng.random() < 0.3:
            self._house(self._somewhere(lot, metres(4), metres(5)), flat=True, low=True)
        if rng.random() < 0.05:
            pool = self._somewhere(lot, metres(4), metres(7))
            if not (self.canvas.cover[pool.slices] == BUILDING).any():
                self.canvas.fill(pool.inset(-2), DEVELOPED, self._pick(self.paving))
                self.canvas.fill(pool, WATER, self.pool)
        self.scatter(lot, 1 / 150, frozenset({RANGELAND}))

    def _flats(self, block: Rect) -> None:
        """Two or three slabs of flats on grass, with a car park."""
        self.canvas.fill(block, RANGELAND, self._pick(self.lawns))
        parts, _ = split(self.rng, block.inset(3), metres(26), metres(4))
        for index, part in enumerate(parts):
            if index == 0 and len(parts) > 1:
                self._car_park(part)
            else:
                self._house(part.inset(metres(float(self.rng.uniform(2, 4)))), flat=True, tall=True)
        self.scatter(block, 1 / 120, frozenset({RANGELAND}))

    def _yard(self, block: Rect, _chance: float) -> None:
        """A hall and its car park."""
        rng = self.rng
        self.canvas.fill(block, DEVELOPED, self._pick(self.paving))
        parts, _ = split(rng, block.inset(metres(3)), metres(44), metres(9))
        for part in parts:
            kind = rng.random()
            if kind < 0.62:
                self._house(part.inset(int(rng.integers(0, 8))), flat=True, tall=rng.random() < 0.5)
            elif kind < 0.9:
                self._car_park(part)
            else:
                self.canvas.fill(part, RANGELAND, self._pick(self.lawns))
                self.scatter(part, 1 / 60, frozenset({RANGELAND}))

    def _car_park(self, rect: Rect) -> None:
        """Asphalt with stalls, some of them taken."""
        self.canvas.fill(rect, DEVELOPED, self._pick(self.paving[:3]))
        stall_u, stall_v = metres(2.5), metres(5)
        for row, v in enumerate(range(rect.v0 + 2, rect.v1 - stall_v - 1, stall_v + (metres(6) // 2))):
            if row % 3 == 2:
                continue
            for u in range(rect.u0 + 2, rect.u1 - stall_u - 1, stall_u):
                self._line(False, u, v, v + stall_v)
                if self.rng.random() < 0.45:
                    self._car(v + 1, u + 1, along_u=True, cover=DEVELOPED)

    def _car(self, along: int, across: int, *, along_u: bool, cover: int) -> None:
        """A car; `along_u` False has it lie along columns. It takes the class of what it stands on."""
        long_side, short_side = metres(4.2), metres(1.7)
        v, u = (along, across) if along_u else (across, along)
        body = (
            Rect(v0=v, v1=v + long_side, u0=u, u1=u + short_side)
            if along_u
            else Rect(v0=v, v1=v + short_side, u0=u, u1=u + long_side)
        )
        at = body.slices
        if (self.canvas.cover[at] == cover).all():
            self.canvas.paint[at] = self._pick(self.cars)
            self.canvas.height_dm[at] = 14

    def _house(self, rect: Rect, *, flat: bool, tall: bool = False, low: bool = False) -> None:
        """A building: gable, hip or flat roof with fittings."""
        rng, canvas = self.rng, self.canvas
        if rect.height < metres(2.5) or rect.width < metres(2.5) or not canvas.holds(rect):
            return
        height_dm = int(rng.integers(26, 32) if low else rng.integers(100, 220) if tall else rng.integers(48, 82))
        if flat:
            canvas.fill(rect, BUILDING, self._pick(self.flat_roofs), height_dm=height_dm)
            canvas.relief[rect.slices] = 16  # the parapet, then the roof inside it
            canvas.relief[rect.inset(1).slices] = 0
            for _ in range(min(rect.area // 700, 24)):
                vent = self._somewhere(rect.inset(3), int(rng.integers(2, 6)), int(rng.integers(2, 8)))
                if vent.v1 < rect.v1 and vent.u1 < rect.u1:
                    canvas.paint[vent.slices] = self.plant
                    canvas.height_dm[vent.slices] = min(height_dm + 12, 250)
            return
        canvas.fill(rect, BUILDING, self._pick(self.roofs), height_dm=height_dm)
        v = np.arange(rect.height)[:, None]
        u = np.arange(rect.width)[None, :]
        hip = rng.random() < 0.4
        slopes = np.stack(
            np.broadcast_arrays(
                v, rect.height - 1 - v,
                *((u, rect.width - 1 - u) if hip or rect.height >= rect.width else (v + 999, v + 999)),
            )
        )  # fmt: skip
        if not hip and rect.height >= rect.width:
            slopes[:2] += 999
        facet = slopes.argmin(axis=0)
        light = np.array([13, -16, 9, -12]) * (1 if rng.random() < 0.5 else -1)
        canvas.relief[rect.slices] = light[facet].astype(np.int8)
        ridge_dm = np.minimum(slopes.min(axis=0) * 2, 30)
        canvas.height_dm[rect.slices] = (height_dm + ridge_dm).astype(np.uint8)

    def _field(self, parcel: Rect) -> None:
        """One crop, worked in rows along either axis or somewhere between."""
        rng, canvas = self.rng, self.canvas
        if parcel.height < 8 or parcel.width < 8:
            return
        crop = CROPS[int(rng.integers(len(CROPS)))]
        paint = canvas.paints.add(self._vary(crop, 9), grain=0.045, mottle=float(rng.uniform(0.06, 0.2)))
        canvas.fill(parcel, AGRICULTURE, paint)
        at = parcel.slices
        v = np.arange(at[0].stop - at[0].start, dtype=np.float32)[:, None]
        u = np.arange(at[1].stop - at[1].start, dtype=np.float32)[None, :]
        along_v = rng.random() < 0.5
        tilt = float(rng.normal(0, 0.04))
        across = (u + tilt * v) if along_v else (v + tilt * u)
        period = float(rng.uniform(3.0, 7.0))
        strength = float(rng.uniform(3, 13))
        rows = strength * np.sin(2 * math.pi * across / period)
        wheel = np.mod(across, metres(float(rng.uniform(12, 24)))) < 2.0  # tramlines of the tractor
        rows = rows - np.where(wheel, np.float32(rng.uniform(4, 16)), np.float32(0))
        canvas.relief[at] = rows.astype(np.int8)

    def _farmstead(self, parcel: Rect) -> None:
        """A yard with a house and barns at the corner of a parcel."""
        side = metres(44)
        yard = Rect(v0=parcel.v0, v1=parcel.v0 + side, u0=parcel.u0, u1=parcel.u0 + side)
        if parcel.height < side or parcel.width < side or not self.canvas.holds(yard):
            return
        self.canvas.fill(yard, DEVELOPED, self._pick(self.paving))
        for height, width in ((11, 13), (14, 30), (9, 18)):
            barn = self._somewhere(yard.inset(3), metres(height), metres(width))
            if not (self.canvas.cover[barn.slices] == BUILDING).any():
                self._house(barn, flat=False)
        self.scatter(yard, 1 / 160, frozenset({DEVELOPED}))

    def _tree(self, v: int, u: int, only_on: frozenset[int], small: int = 0) -> None:
        # The list is ordered by size; a square root would favour the large, this favours the middle.
        index = int(len(self.crowns) * float(self.rng.beta(1.8, 2.2)))
        self.canvas.plant(
            self.crowns[min(index + small, len(self.crowns) - 1)], v, u, self._pick(self.leaves), only_on=only_on
        )

    def _tree_row(self, rect: Rect, along_u: bool) -> None:
        first, last = (rect.u0, rect.u1) if along_u else (rect.v0, rect.v1)
        across = (rect.v0 + rect.v1) // 2 if along_u else (rect.u0 + rect.u1) // 2
        grounds = frozenset({RANGELAND, ROAD, AGRICULTURE, TREE})
        for along in range(first, last, metres(float(self.rng.uniform(4, 8)))):
            self._tree(*((across, along) if along_u else (along, across)), grounds)

    def _patches(self, rect: Rect, cover: int, paint: int, share: float) -> None:
        """Irregular patches that together cover `share` of `rect`."""
        at = rect.slices
        height, width = self.canvas.cover[at].shape
        if height < 16 or width < 16:
            return
        noise = fractal_noise(self.rng, height, width, metres(float(self.rng.uniform(20, 60))), 5)
        self.canvas.fill_mask(rect, noise > np.quantile(noise[::4, ::4], 1 - share), cover, paint)

    def _blob(self, rect: Rect, cover: int, paint: int, share: float) -> None:
        """One irregular patch covering about `share` of `rect`."""
        at = rect.slices
        height, width = self.canvas.cover[at].shape
        if height < 16 or width < 16:
            return
        v = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        u = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        dv, du = self.rng.uniform(-0.4, 0.4, 2).astype(np.float32)
        noise = fractal_noise(self.rng, height, width, max(24.0, min(height, width) / 4), 4)
        radius = math.sqrt(share * 4 / math.pi)
        mask = np.hypot(v - dv, u - du) + 0.45 * noise < radius
        self.canvas.fill_mask(rect, mask, cover, paint)
