"""A finished block: class map, confidence, their overviews and histograms, and how they are stored.

A block is one hash in the cache, so that it is there as a whole or not at all, and a reader fetches only the
fields it needs: statistics the histogram, a zoomed-out tile one small overview.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zstandard

from landcover.errors import BlockDamaged

Layer = Literal["class", "confidence"]

HISTOGRAM_FIELD = "h"
JOINT_FIELD = "j"
_PREFIX: dict[Layer, str] = {"class": "c", "confidence": "q"}
_HISTOGRAM_DTYPE = np.dtype("<u8")
_JOINT_DTYPE = np.dtype("<u4")


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Pixels and summed confidence of each class value of a block, both `(values,)` uint64, index 0 = unknown."""

    pixels: npt.NDArray[np.uint64]
    confidence: npt.NDArray[np.uint64]
    """Sum over the pixels of a value of their confidence, 0..255 each."""


def field(layer: Layer, level: int) -> str:
    """Name of the hash field of a layer at an overview level; level 0 is full resolution."""
    return f"{_PREFIX[layer]}{level}"


def encode(classes: npt.NDArray[np.uint8], confidence: npt.NDArray[np.uint8], max_value: int) -> dict[str, bytes]:
    """A block's fields, ready for the cache.

    Args:
        classes: class values `(side, side)`, 0 = unknown; side is a power of two.
        confidence: top softmax probability × 255, `(side, side)`; 0 where unknown.
        max_value: the largest value the model's contract names.
    """
    joint = joint_histogram(classes, confidence, max_value)
    fields = {
        HISTOGRAM_FIELD: encode_histogram(_histogram(joint)),
        JOINT_FIELD: _compressed(joint.astype(_JOINT_DTYPE)),
    }
    for level, (class_map, doubt) in enumerate(
        zip(majority_pyramid(classes, max_value), mean_pyramid(confidence), strict=True)
    ):
        fields[field("class", level)] = encode_layer(class_map)
        fields[field("confidence", level)] = encode_layer(doubt)
    return fields


def encode_layer(layer: npt.NDArray[np.uint8]) -> bytes:
    """One layer at one level, `(side, side)`, as `decode` reads it."""
    return _compressed(layer)


def encode_histogram(counts: Histogram) -> bytes:
    """A histogram as `decode_histogram` reads it."""
    return np.stack([counts.pixels, counts.confidence]).astype(_HISTOGRAM_DTYPE).tobytes()


def decode(data: bytes, side: int) -> npt.NDArray[np.uint8]:
    """One layer at one level, `(side, side)`.

    Raises:
        BlockDamaged: the bytes are not what `encode` wrote.
    """
    try:
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=side * side)
        return np.frombuffer(raw, dtype=np.uint8).reshape(side, side)
    except (zstandard.ZstdError, ValueError) as error:
        raise BlockDamaged(f"A cached block is damaged ({error}); it is made again.") from error


def decode_histogram(data: bytes) -> Histogram:
    """The histogram that `encode` wrote.

    Raises:
        BlockDamaged: it did not.
    """
    try:
        table = np.frombuffer(data, dtype=_HISTOGRAM_DTYPE).reshape(2, -1)
    except ValueError as error:
        raise BlockDamaged(f"A cached block is damaged ({error}); it is made again.") from error
    return Histogram(pixels=table[0], confidence=table[1])


def decode_joint_histogram(data: bytes) -> npt.NDArray[np.uint32]:
    """The joint histogram that `encode` wrote, `(values, 256)`.

    Raises:
        BlockDamaged: it did not.
    """
    try:
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=256 * 256 * _JOINT_DTYPE.itemsize)
        return np.frombuffer(raw, dtype=_JOINT_DTYPE).reshape(-1, 256)
    except (zstandard.ZstdError, ValueError) as error:
        raise BlockDamaged(f"A cached block is damaged ({error}); it is made again.") from error


def histogram(classes: npt.NDArray[np.uint8], confidence: npt.NDArray[np.uint8], max_value: int) -> Histogram:
    """Count pixels and sum confidence by class value."""
    return _histogram(joint_histogram(classes, confidence, max_value))


def joint_histogram(
    classes: npt.NDArray[np.uint8], confidence: npt.NDArray[np.uint8], max_value: int
) -> npt.NDArray[np.int64]:
    """Count the pixels of each class value and confidence, `(values, 256)`."""
    both = (classes.astype(np.uint16) << 8) | confidence
    return np.bincount(both.ravel(), minlength=(max_value + 1) * 256).reshape(-1, 256)


def _histogram(joint: npt.NDArray[np.int64]) -> Histogram:
    return Histogram(
        pixels=joint.sum(axis=1).astype(np.uint64), confidence=(joint * np.arange(256)).sum(axis=1).astype(np.uint64)
    )


def majority_pyramid(classes: npt.NDArray[np.uint8], max_value: int) -> list[npt.NDArray[np.uint8]]:
    """Class maps at every power of two, level 0 first, one pixel last.

    Each pixel has the most frequent class of all the full-resolution pixels it covers (not of the level
    below, which would let a minority win); ties go to the lower value, and to a class before unknown.
    """
    values = np.roll(np.arange(max_value + 1, dtype=np.uint8), -1)  # 1, 2, …, 0: argmax takes the first of equals
    counts: npt.NDArray[np.unsignedinteger[Any]] = (classes == values[:, None, None]).view(np.uint8)
    levels = [classes]
    while counts.shape[-1] > 1:
        if len(levels) == 4:  # a pixel of level 3 covers 64, the next would overflow uint8
            counts = counts.astype(np.uint32)
        counts = counts[:, 0::2] + counts[:, 1::2]
        counts = counts[:, :, 0::2] + counts[:, :, 1::2]
        levels.append(values[counts.argmax(axis=0)])
    return levels


def mean_pyramid(confidence: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Mean confidence at every power of two, level 0 first, one pixel last."""
    sums = confidence.astype(np.uint32)
    levels = [confidence]
    area = 1
    while sums.shape[-1] > 1:
        sums = sums[0::2] + sums[1::2]
        sums = sums[:, 0::2] + sums[:, 1::2]
        area *= 4
        levels.append(((sums + area // 2) // area).astype(np.uint8))
    return levels


def _compressed(array: npt.NDArray[Any]) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(array.tobytes())
