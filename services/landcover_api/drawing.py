"""From blocks to an answer: a drawn image, or the statistics of a region, as far as blocks are there in time."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from landcover import block
from landcover.errors import RequestTooLarge
from landcover_api import statistics
from landcover_api.blocks import Fetched
from landcover_api.cover import LandCover
from landcover_api.rendering import Picture, Rendering, colors_of, render
from landcover_api.sampling import Extent, Sampling, sample
from landcover_api.state import ApiState


async def draw(
    state: ApiState, cover: LandCover, extent: Extent, rendering: Rendering, *, wait_s: float | None, whole: bool
) -> tuple[bytes, int]:
    """Draw one image from blocks; returns its bytes and how many blocks were still missing.

    Raises:
        LandcoverError: a block could not be made.
        RequestTooLarge: the image touches more blocks than one request may, or it must be `whole` and lacks more
            than are mapped on demand, so that waiting would not help.
    """
    sampling = await asyncio.to_thread(sample, cover.grid, extent)
    _refuse_too_many(state, len(sampling.blocks))
    fields = [block.field(layer, sampling.level) for layer in rendering.layers]
    wait_s = state.settings.wait_s if wait_s is None else wait_s
    fetched = await state.blocks.fetch(cover.blocks, sampling.blocks, fields, wait_s=wait_s)
    for error in fetched.failed.values():
        raise error
    if whole and not fetched.queued:
        raise _not_on_demand(state, len(fetched.missing))
    return await asyncio.to_thread(_compose, cover, extent, rendering, sampling, fetched), len(fetched.missing)


def _compose(cover: LandCover, extent: Extent, rendering: Rendering, sampling: Sampling, fetched: Fetched) -> bytes:
    side = cover.grid.block_px >> sampling.level
    images = [
        sampling.assemble({index: block.decode(values[i], side) for index, values in fetched.found.items()})
        for i in range(len(rendering.layers))
    ]
    pixels = images[-1]
    if rendering.only is not None:
        pixels = np.where(np.isin(images[0], rendering.only), pixels, 0).astype(np.uint8)
    if rendering.layer == "confidence":
        pixels = np.where(images[0] > 0, np.maximum(pixels, 1), 0).astype(np.uint8)
    colors = colors_of(rendering.layer, cover.model.contract.classes)
    return render(Picture(pixels=pixels, colors=colors, extent=extent), rendering.format)


async def region_statistics(
    state: ApiState, cover: LandCover, region: statistics.Region, *, wait_s: float | None
) -> tuple[dict[str, Any], int]:
    """The statistics document of a region, and how many blocks were missing.

    Raises:
        LandcoverError: a block could not be made.
        RequestTooLarge: the region touches more blocks than one request may, or lacks more than are mapped on demand.
    """
    grid, contract = cover.grid, cover.model.contract
    touched = await asyncio.to_thread(statistics.coverage, grid, region)
    _refuse_too_many(state, len(touched.whole) + len(touched.partial))
    wait_s = state.settings.wait_s if wait_s is None else wait_s
    maps = [block.field("class", 0), block.field("confidence", 0)]
    whole, partial = await asyncio.gather(
        state.blocks.fetch(cover.blocks, touched.whole, [block.HISTOGRAM_FIELD], wait_s=wait_s),
        state.blocks.fetch(cover.blocks, touched.partial, maps, wait_s=wait_s),
    )
    for error in (*whole.failed.values(), *partial.failed.values()):
        raise error
    if not (whole.queued and partial.queued):
        raise _not_on_demand(state, len(whole.missing) + len(partial.missing))

    def count() -> statistics.Tally:
        tally = statistics.Tally(contract.max_value)
        for index, (histogram,) in whole.found.items():
            statistics.add_whole(tally, grid, index, block.decode_histogram(histogram))
        for index, layers in partial.found.items():
            classes, confidence = (block.decode(layer, grid.block_px) for layer in layers)
            statistics.add_partial(tally, grid, region, index, classes, confidence)
        return tally

    tally = await asyncio.to_thread(count)
    missing = len(whole.missing) + len(partial.missing)
    head = {
        "scene": cover.scene.id,
        "model": cover.model.name,
        "model_digest": cover.model.digest,
        "gsd_m": grid.gsd_m,
        "complete": missing == 0,
    }
    return head | statistics.summary(tally, contract.classes, region.area_m2), missing


def _not_on_demand(state: ApiState, missing: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"{missing} blocks of this are not mapped yet; at most {state.settings.max_missing_blocks} are on demand. "
        "Ask for smaller parts."
    )


def _refuse_too_many(state: ApiState, count: int) -> None:
    if count > state.settings.max_blocks:
        raise RequestTooLarge(
            f"This touches {count} blocks; at most {state.settings.max_blocks} are read for one request. Zoom in."
        )
