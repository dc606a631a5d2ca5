"""Change inside regions: two maps of the same ground, block by block, from the cache."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landcover import block
from landcover.errors import BlockDamaged, InvalidRequest, ModelNotFound, SceneNotFound
from landcover.grid import BlockIndex
from landcover.statistics import cells, change, tally
from landcover.statistics.document import change_figures
from landcover.statistics.region import Region
from landcover_api.blocks import parts_of
from landcover_api.counting import LEAST_COUNTING_S, MAPS, check_client, leaves
from landcover_api.cover import LandCover, land_cover
from landcover_api.drawing import Waiting, raise_failure
from landcover_api.state import ApiState

BLOCKS_AT_ONCE = 4
"""Each with the blocks of the other map that it lies on."""

Layers = Mapping[BlockIndex, tuple[bytes, ...]]


async def find_against(state: ApiState, cover: LandCover, name: str) -> LandCover:
    """The other map: that scene by the same model, or the same scene by that model; `scene:` or `model:` tells which.

    Raises:
        InvalidRequest: there is no such thing, or both, or it is the very same map.
    """
    kind, _, rest = name.partition(":")
    kinds = (kind,) if kind in ("scene", "model") and rest else ("scene", "model")
    wanted = rest if len(kinds) == 1 else name
    found: list[LandCover] = []
    for each in kinds:
        try:
            scene = await state.scene(wanted) if each == "scene" else cover.scene
            model = state.models.model(wanted) if each == "model" else cover.model
        except (SceneNotFound, ModelNotFound):
            continue
        found.append(land_cover(scene, model, cover.on_demand_blocks))
    if not found:
        raise InvalidRequest(f"There is no scene and no model '{wanted}'; GET /scenes and GET /models list them.")
    if len(found) > 1:
        raise InvalidRequest(f"'{name}' is a scene and a model; write scene:{name} or model:{name}.")
    if found[0].blocks == cover.blocks:
        raise InvalidRequest(f"'{name}' is the map that is asked about; name another scene or model in against.")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A block of ours, and where its pixels lie on the other map."""

    index: BlockIndex
    places: change.Positions


class Changing:
    """The area of each pair of classes inside some regions, as far as both maps are there.

    `before` is the map that is compared with, `after` the one that the address names, on whose grid all is counted.
    """

    def __init__(
        self, state: ApiState, before: LandCover, after: LandCover, regions: Sequence[Region], *, discount: bool
    ) -> None:
        self._state = state
        self._before = before
        self._after = after
        self._regions = regions
        self._discount = discount
        shape = before.model.contract.max_value + 1, after.model.contract.max_value + 1
        self._matrices = [np.zeros(shape) for _ in regions]
        self._counted = [0.0 for _ in regions]
        self._open: dict[BlockIndex, list[int]] = {}
        self.total = 0
        """Blocks to be compared."""
        self.missing_before: set[BlockIndex] = set()
        self.missing_after: set[BlockIndex] = set()

    async def plan(self) -> None:
        """Find the blocks of each region."""
        for number, region in enumerate(self._regions):
            found = await self._state.draw(cells.cover, self._after.grid, region)
            inside = (index for square in found.whole for index in leaves(self._after, square))
            for index in (*found.edge, *inside):
                self._open.setdefault(index, []).append(number)
        self.total = len(self._open)

    @property
    def decodings(self) -> int:
        """What is still to be compared: blocks, for each region."""
        return sum(map(len, self._open.values()))

    @property
    def done(self) -> int:
        """How many of the blocks of `total` are."""
        return self.total - len(self._open)

    @property
    def complete(self) -> bool:
        """Whether everything is counted."""
        return not self._open

    async def advance(
        self, waiting: Waiting | None = None, *, until: float = math.inf, most_missing: int = sys.maxsize
    ) -> None:
        """Count what both maps hold in the cache; the arguments are those of `Counting.advance`.

        Raises:
            BlockDamaged: of blocks that failed to be read; they are dropped and made again when asked for.
            Pending: the client that waits has gone.
        """
        self.missing_before, self.missing_after = set(), set()
        for some in parts_of(sorted(self._open), BLOCKS_AT_ONCE):
            if time.monotonic() > until or len(self.missing_before) + len(self.missing_after) > most_missing:
                return
            await check_client(waiting)
            pairs = await self._state.draw(self._pairs, some)
            after = await self._state.blocks.look(self._after, some, MAPS)
            wanted = sorted({each for pair in pairs for each in pair.places.blocks})
            before = await self._state.blocks.look(self._before, wanted, MAPS)
            self.missing_after |= after.missing
            self.missing_before |= before.missing
            ready = [
                pair
                for pair in pairs
                if pair.index in after.found and all(each in before.found for each in pair.places.blocks)
            ]
            try:
                await self._state.draw(self._compare, ready, before.found, after.found)
            except BlockDamaged:
                await self._state.blocks.discard(self._before, before.found)
                await self._state.blocks.discard(self._after, after.found)
                raise
            for pair in ready:
                del self._open[pair.index]

    async def wait(self, waiting: Waiting) -> None:
        """Have what is missing of both maps made and count it, if it is not too much.

        Raises:
            LandcoverError: a block cannot be made.
        """
        if len(self.missing_before) + len(self.missing_after) > self._after.on_demand_blocks:
            return
        maps = (self._before, self.missing_before), (self._after, self.missing_after)
        fetches = (
            self._state.blocks.fetch(cover, sorted(missing), MAPS, wait_s=waiting.seconds, gone=waiting.gone)
            for cover, missing in maps
        )
        for (cover, _), fetched in zip(maps, await asyncio.gather(*fetches), strict=True):
            raise_failure(self._state, cover, fetched)
        until = time.monotonic() + LEAST_COUNTING_S
        await self.advance(until=until, most_missing=self._after.on_demand_blocks)

    def document(self, number: int) -> dict[str, Any]:
        """The change inside one region."""
        counted = self._matrices[number]
        return {
            "from": _head(self._before),
            "to": _head(self._after),
            **change_figures(counted, self._before.model.contract, self._after.model.contract),
            "discounted": self._discount,
            "unsure_m2": max(0.0, self._counted[number] - float(counted.sum())) if self._discount else None,
        }

    def _pairs(self, indices: Sequence[BlockIndex]) -> list[_Pair]:
        return [
            _Pair(index=index, places=change.positions(self._after.grid, index, self._before.grid)) for index in indices
        ]

    def _compare(self, pairs: Sequence[_Pair], before: Layers, after: Layers) -> None:
        ours, theirs = self._after, self._before
        for pair in pairs:
            height, width = ours.grid.block_shape(pair.index)
            classes, sure = (block.decode(each, ours.grid.block_px)[:height, :width] for each in after[pair.index])
            side = theirs.grid.block_px
            others, others_sure = (
                change.gathered(
                    pair.places, ((index, block.decode(before[index][i], side)) for index in pair.places.blocks), side
                )
                for i in range(len(MAPS))
            )
            areas = tally.pixel_areas_m2(ours.grid, pair.index)
            belief = sure.astype(float) * others_sure / 255**2 if self._discount else 1.0
            for number in self._open[pair.index]:
                inside = cells.shares(ours.grid, self._regions[number], pair.index) * areas
                self._matrices[number] += change.matrix(
                    others,
                    classes,
                    inside * np.where((classes > 0) & (others > 0), belief, 1.0),
                    before_max=theirs.model.contract.max_value,
                    after_max=ours.model.contract.max_value,
                )
                self._counted[number] += float(inside.sum())


def _head(cover: LandCover) -> dict[str, str]:
    return {"scene": cover.scene.id, "model": cover.model.name, "model_digest": cover.model.digest}
