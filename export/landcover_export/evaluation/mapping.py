"""The class map of a whole image, block by block as in serving; nothing else in this package walks over blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

ByteArray = npt.NDArray[np.uint8]
Runner = Callable[[ByteArray], tuple[ByteArray, ByteArray]]
"""One window, uint8 `(side, side, 3)` → classes and confidence, uint8 `(side, side)`."""
OnBlock = Callable[[float], None]
"""Called after each block with the share of the image that it covers: all of them sum to 1."""

WINDOW_PX, HALO_PX = 896, 192
"""The demonstration model's: a block of 512 px, chosen by the curve in docs/seams.md."""


def map_image(
    run: Runner,
    image: ByteArray,
    *,
    window_px: int = WINDOW_PX,
    halo_px: int = HALO_PX,
    on_block: OnBlock | None = None,
) -> tuple[ByteArray, ByteArray]:
    """Classes and confidence of `image` `(height, width, 3)`, both `(height, width)`, block by block.

    Blocks lie as in serving, from the upper left corner, and what lies beyond the image's edge is mirrored within
    the window, as `landcover.reading` does, so that the map is the one that is served.

    Args:
        run: takes a window of `window_px`.
        image: any size.
        window_px: side of the block and its halos.
        halo_px: context on each side, cropped from the output.
        on_block: for a progress bar.
    """
    block_px = window_px - 2 * halo_px
    height, width = image.shape[:2]
    classes = np.empty((height, width), dtype=np.uint8)
    confidence = np.empty_like(classes)
    for row in range(0, height, block_px):
        for column in range(0, width, block_px):
            found = run(_window(image, row - halo_px, column - halo_px, window_px))
            at = slice(row, row + block_px), slice(column, column + block_px)
            inside = tuple(slice(halo_px, halo_px + size) for size in classes[at].shape)
            classes[at], confidence[at] = (each[inside] for each in found)
            if on_block is not None:
                on_block(classes[at].size / classes.size)
    return classes, confidence


def _window(image: ByteArray, top: int, left: int, side_px: int) -> ByteArray:
    """The square at `(top, left)`, which may reach beyond the image: there it is mirrored about the edge pixels."""
    height, width = image.shape[:2]
    rows = max(0, top), min(height, top + side_px)
    columns = max(0, left), min(width, left + side_px)
    beyond = (rows[0] - top, top + side_px - rows[1]), (columns[0] - left, left + side_px - columns[1])
    inside = image[rows[0] : rows[1], columns[0] : columns[1]]
    return np.ascontiguousarray(np.pad(inside, (*beyond, (0, 0)), mode="reflect"))
