"""Means of k × k pixels, of which only those with data count: how every kind of scene is brought to a grid's pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def mean_of_valid(
    pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], k: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Means of k × k pixels, and which of them have data: those of which at least half has.

    Where a part has none, only the rest counts: the colour of nodata must not bleed into the scene's edge. Where
    nothing has, one pixel stands for all.
    """
    if k == 1:
        return pixels, mask
    if mask.all():
        means = _mean(pixels, k)
        return means, np.ones(means.shape[:2], np.bool_)
    weights = _sums(mask[..., np.newaxis].view(np.uint8), k)
    sums = _sums(pixels * mask[..., np.newaxis], k)
    means = np.where(weights, (sums + weights // 2) // np.maximum(weights, 1), pixels[::k, ::k]).astype(np.uint8)
    return means, 2 * weights[..., 0] >= k * k


def _mean(pixels: npt.NDArray[np.uint8], k: int) -> npt.NDArray[np.uint8]:
    means: npt.NDArray[np.uint8] = ((_sums(pixels, k) + k * k // 2) // (k * k)).astype(np.uint8)
    return means


def _sums(pixels: npt.NDArray[np.uint8], k: int) -> npt.NDArray[np.uint32]:
    """Sums of k × k pixels of a `(height, width, bands)` array; at the far edges the last row and column repeat."""
    height, width, bands = pixels.shape
    padded = np.pad(pixels, ((0, -height % k), (0, -width % k), (0, 0)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // k, k, padded.shape[1] // k, k, bands)
    sums: npt.NDArray[np.uint32] = blocks.sum(axis=(1, 3), dtype=np.uint32)
    return sums
