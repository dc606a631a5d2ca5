"""From the blocks in the cache to a review: which there are, their doubt, and what the ranked windows hold.

Blocks are read some at a time and let go, so that a scene of thousands costs little memory; what needs the processor
runs in the drawing threads, between the tiles of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np

from landcover import block
from landcover.errors import BlockDamaged, Pending, RequestTooLarge
from landcover.grid import BlockIndex
from landcover.review import ByteArray
from landcover.review_document import Review
from landcover.review_survey import Contents, RankedWindow, ReviewRequest, Survey, check_request, contents, rank
from landcover_api.blocks import parts_of
from landcover_api.cover import LandCover
from landcover_api.drawing import Waiting, raise_failure
from landcover_api.state import ApiState

F = TypeVar("F")
D = TypeVar("D")

PIXELS_AT_ONCE = 1 << 24
"""Of the blocks that are in memory together."""

HISTOGRAMS_AT_ONCE = 512

_MAPS = (block.field("class", 0), block.field("confidence", 0))


@dataclass(frozen=True)
class Reviewer:
    """One request for a ranking."""

    state: ApiState
    cover: LandCover
    against: LandCover | None
    request: ReviewRequest
    waiting: Waiting

    @property
    def _covers(self) -> Sequence[LandCover]:
        return [self.cover, self.against] if self.against else [self.cover]

    async def review(self) -> tuple[Review, bool]:
        """The ranking, and whether blocks that it lacks are being mapped.

        Raises:
            InvalidRequest, RequestTooLarge: it cannot be made of this scene.
            LandcoverError: a block that was waited for could not be made.
        """
        state, grid = self.state, self.cover.grid
        check_request(self.request, grid, against=self.against.grid if self.against else None)
        total = grid.rows * grid.cols
        if total > state.settings.max_blocks:
            raise RequestTooLarge(
                f"Scene '{self.cover.scene.id}' has {total} blocks; at most {state.settings.max_blocks} are read for "
                "one request. Cut the image, or use a model with larger blocks."
            )
        mapped, queued = await self._mapped()
        survey = Survey(self.request, grid, self.cover.model.contract)
        if survey.needs_maps:
            async for maps in self._maps(list(mapped)):
                await state.draw(_add_maps, survey, maps)
        else:
            for index, histogram in (await self._decoded(mapped, block.decode_histogram)).items():
                survey.add_histogram(index, histogram)
        doubt = await state.draw(survey.doubt)
        ranked = await state.draw(rank, doubt, self.request)
        review = Review(
            scene=self.cover.scene,
            model=self.cover.model,
            grid=grid,
            request=self.request,
            against=self.against.model if self.against else None,
            windows=await self._described(ranked),
            candidates=int(np.isfinite(doubt).sum()),
            mapped=survey.mapped,
            note=self._note(total, survey.mapped, queued),
        )
        return review, queued and not review.complete

    async def _mapped(self) -> tuple[dict[BlockIndex, bytes], bool]:
        """Histograms of the blocks that every model has mapped, and whether others are being made."""
        answers = await asyncio.gather(*(self._histograms(cover) for cover in self._covers))
        ours, *others = (found for found, _ in answers)
        mapped = {index: ours[index] for index in sorted(ours) if all(index in theirs for theirs in others)}
        return mapped, any(queued for _, queued in answers)

    async def _histograms(self, cover: LandCover) -> tuple[dict[BlockIndex, bytes], bool]:
        """Histograms of what one model has mapped, and whether missing blocks were asked of workers."""
        indices = list(cover.grid.blocks())
        found: dict[BlockIndex, bytes] = {}
        for some in parts_of(indices, HISTOGRAMS_AT_ONCE):
            look = await self.state.blocks.look(cover, some, [block.HISTOGRAM_FIELD])
            found |= {index: histogram for index, (histogram,) in look.found.items()}
        missing = [index for index in indices if index not in found]
        if not missing or not self.waiting.seconds or len(missing) > cover.on_demand_blocks:
            return found, False
        fetched = await self.state.blocks.fetch(
            cover, missing, [block.HISTOGRAM_FIELD], wait_s=self.waiting.seconds, gone=self.waiting.gone
        )
        raise_failure(self.state, cover, fetched)
        return found | {index: histogram for index, (histogram,) in fetched.found.items()}, True

    async def _maps(self, indices: Sequence[BlockIndex]) -> AsyncIterator[dict[BlockIndex, list[ByteArray]]]:
        """Class map and confidence, and the other model's class map, of so many blocks at a time."""
        side = self.cover.grid.block_px
        for some in parts_of(indices, max(1, PIXELS_AT_ONCE // side**2)):
            if await self.waiting.gone():
                raise Pending("The client has gone.")
            looks = [
                await self.state.blocks.look(cover, some, _MAPS if cover is self.cover else _MAPS[:1])
                for cover in self._covers
            ]
            layers = {
                index: list(chain.from_iterable(look.found[index] for look in looks))
                for index in some
                if all(index in look.found for look in looks)
            }
            yield await self._decoded(layers, lambda each: [block.decode(data, side) for data in each])

    async def _decoded(self, fields: dict[BlockIndex, F], decode: Callable[[F], D]) -> dict[BlockIndex, D]:
        """`decode` of each block's fields, in a drawing thread.

        Raises:
            BlockDamaged: of some that failed; they are dropped, and made again when asked for.
        """
        decoded, damaged = await self.state.draw(_decode_each, fields, decode)
        if damaged:
            for cover in self._covers:
                await self.state.blocks.discard(cover, damaged)
            raise next(iter(damaged.values()))
        return decoded

    async def _described(self, ranked: Sequence[RankedWindow]) -> list[tuple[RankedWindow, Contents | None]]:
        """What each ranked window holds; none where the cache has dropped its block meanwhile."""
        grid, contract = self.cover.grid, self.cover.model.contract
        by_block: dict[BlockIndex, list[RankedWindow]] = {}
        for window in ranked:
            by_block.setdefault(window.block(self.request, grid), []).append(window)
        known: dict[RankedWindow, Contents] = {}
        async for maps in self._maps(list(by_block)):
            known |= await self.state.draw(
                lambda maps: {
                    window: contents(window, self.request, contract, *layers)
                    for index, layers in maps.items()
                    for window in by_block[index]
                },
                maps,
            )
        return [(window, known.get(window)) for window in ranked]

    def _note(self, total: int, mapped: int, queued: bool) -> str | None:
        """What is not in the ranking, and how it gets there."""
        missing = total - mapped
        if not missing:
            return None
        head = f"{missing} of {total} blocks are not mapped yet and not ranked"
        if self.against:
            head = f"{missing} of {total} blocks are not mapped yet by both models and not ranked"
        if queued:
            return f"{head}; they are being mapped: ask again."
        on_demand = self.cover.on_demand_blocks
        if missing <= on_demand:
            return f"{head}; ask with wait=30 to have them mapped."
        return (
            f"{head}. What is looked at is mapped, on the map page or as tiles, at most {on_demand} blocks at a time."
        )


def _add_maps(survey: Survey, maps: dict[BlockIndex, list[ByteArray]]) -> None:
    for index, layers in maps.items():
        survey.add(index, *layers)


def _decode_each(
    fields: dict[BlockIndex, F], decode: Callable[[F], D]
) -> tuple[dict[BlockIndex, D], dict[BlockIndex, BlockDamaged]]:
    """What could be decoded, and why the rest could not."""
    decoded: dict[BlockIndex, D] = {}
    damaged: dict[BlockIndex, BlockDamaged] = {}
    for index, data in fields.items():
        try:
            decoded[index] = decode(data)
        except BlockDamaged as error:
            damaged[index] = error
    return decoded, damaged
