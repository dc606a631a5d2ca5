"""From blocks and their overviews to an image, as far as they are there in time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from landcover import tracing
from landcover.errors import BlockDamaged, NotFound, RequestTooLarge, SceneChanged
from landcover_api.blocks import Fetched
from landcover_api.cover import LandCover
from landcover_api.pieces import Pieces, block_fields, block_parts, find_pieces
from landcover_api.rendering import Picture, Rendering, colors_of, render
from landcover_api.sampling import Extent, Sampling, sample
from landcover_api.state import ApiState


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How long a request may wait for blocks, and how to tell that its client no longer does."""

    seconds: float
    gone: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """An encoded image and how far it is finished."""

    data: bytes
    missing: int
    """Blocks not there in time, transparent in the image."""
    queued: bool
    """False if they are too many to be mapped on demand."""
    touches_scene: bool


async def draw(
    state: ApiState, cover: LandCover, extent: Extent, rendering: Rendering, *, waiting: Waiting, whole: bool
) -> Drawing:
    """Draw one image from blocks, or from overviews of them where a pixel covers many.

    Raises:
        LandcoverError: a block could not be made.
        NotFound: the image must be `whole` and shows nothing of the scene.
        RequestTooLarge: nothing of the image is in overviews and it touches more blocks than one request may, or it
            must be `whole` and lacks more than are mapped on demand, so that waiting would not help.
    """
    sampling = await state.draw(sample, cover.grid, extent)
    touches = bool(sampling.inside.any())
    if whole and not touches:
        raise NotFound(f"This lies outside scene '{cover.scene.id}'.")
    until = time.monotonic() + waiting.seconds
    pieces = await find_pieces(state, cover, sampling, rendering.layers, until=until)
    if whole or not pieces.found:
        refuse_too_many(state, pieces.block_count)
    if pieces.block_count > state.settings.max_blocks:
        fetched = Fetched(queued=False)
    else:
        fields = block_fields(cover.grid, sampling.level, rendering.layers)
        left_s = max(0.0, until - time.monotonic())
        fetched = await state.blocks.fetch(cover, pieces.blocks, fields, wait_s=left_s, gone=waiting.gone)
    raise_failure(state, cover, fetched)
    missing = pieces.late + pieces.block_count - len(fetched.found)
    if whole and not fetched.queued:
        raise not_on_demand(cover, missing)
    try:
        with tracing.span("draw"):
            data = await state.draw(_compose, cover, extent, rendering, sampling, pieces, fetched)
    except BlockDamaged:
        await state.blocks.discard(cover, fetched.found)
        for scale, found in pieces.overviews.items():
            await state.overviews.discard(cover, scale, list(found))
        raise
    return Drawing(data=data, missing=missing, queued=fetched.queued, touches_scene=touches)


def _compose(
    cover: LandCover, extent: Extent, rendering: Rendering, sampling: Sampling, pieces: Pieces, fetched: Fetched
) -> bytes:
    level, layers = sampling.level, rendering.layers
    images = [
        sampling.assemble(
            [*pieces.parts(cover.grid, level, i), *block_parts(cover.grid, level, layers, i, fetched.found)]
        )
        for i in range(len(layers))
    ]
    pixels = images[-1]
    if rendering.only is not None:
        pixels = np.where(np.isin(images[0], rendering.only), pixels, 0).astype(np.uint8)
    if rendering.layer == "confidence":
        pixels = np.where(images[0] > 0, np.maximum(pixels, 1), 0).astype(np.uint8)
    colors = colors_of(rendering.layer, cover.model.contract.classes)
    return render(Picture(pixels=pixels, colors=colors, extent=extent), rendering.format)


def raise_failure(state: ApiState, cover: LandCover, *fetched: Fetched) -> None:
    """Raise the first reason why a block could not be made, if there is one.

    A worker that found another image than the one we know makes us look at it again.
    """
    for error in (error for each in fetched for error in each.failed.values()):
        if isinstance(error, SceneChanged):
            state.scenes.forget(cover.scene.id)
        raise error


def not_on_demand(cover: LandCover, missing: int) -> RequestTooLarge:
    """What to say of a request that waiting would not help."""
    return RequestTooLarge(
        f"{missing} blocks or more of this are not mapped yet; at most {cover.on_demand_blocks} are on demand. "
        "Ask for smaller parts."
    )


def refuse_too_many(state: ApiState, count: int) -> None:
    """Refuse what touches more blocks than are read for one request."""
    if count > state.settings.max_blocks:
        raise RequestTooLarge(
            f"This touches {count} blocks; at most {state.settings.max_blocks} are read for one request. Zoom in."
        )
