"""What the network sees where a mosaic has no image: the image beside it, mirrored, as at a scene's edge."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def fill_gaps(pixels: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """`pixels` `(height, width, bands)` with colours in place of what is not `valid` `(height, width)`.

    Each row is continued from its nearest pixel with data, mirrored there as far as there is data to mirror; rows
    without any are continued from the rows beside them. Nothing with data is changed.
    """
    if valid.all() or not valid.any():
        return pixels
    filled = _along_rows(pixels, valid)
    rows: npt.NDArray[np.bool_] = np.logical_or.reduce(valid, axis=1)
    if not rows.all():
        columns = np.repeat(rows[np.newaxis], pixels.shape[1], axis=0)
        filled = np.ascontiguousarray(_along_rows(filled.swapaxes(0, 1), columns).swapaxes(0, 1))
    return filled


def _along_rows(pixels: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    height, width = valid.shape
    here = np.broadcast_to(np.arange(width), (height, width))
    before = np.maximum.accumulate(np.where(valid, here, -1), axis=1)
    after = np.minimum.accumulate(np.where(valid, here, 2 * width)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.where((here - before <= after - here) & (before >= 0), before, np.minimum(after, width - 1))
    mirrored = np.clip(2 * nearest - here, 0, width - 1)
    rows = np.arange(height)[:, np.newaxis]
    source = np.where(valid[rows, mirrored], mirrored, nearest)
    result: npt.NDArray[np.uint8] = pixels[rows, np.where(valid, here, source)]
    return result
