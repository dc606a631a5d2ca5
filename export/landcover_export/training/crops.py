"""Random crops for training and fixed ones for validation.

Every crop follows from (seed, epoch, number) alone, whichever process cuts it: a training that was killed and resumed
sees the same crops as one that was not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from landcover_export.labelled import LabelledImage, LabelledPair
from landcover_export.training.config import Augmentation

ByteArray = npt.NDArray[np.uint8]
IGNORED = -1
"""Target of a pixel without a label."""


class Croppable(Protocol):
    """What crops are cut from: a pair on disk, or one in memory."""

    @property
    def height_px(self) -> int:
        """Rows."""

    @property
    def width_px(self) -> int:
        """Columns."""

    def read_window(self, row_px: int, col_px: int, height_px: int, width_px: int) -> LabelledImage:
        """A window inside it."""


@dataclass(frozen=True)
class InMemory:
    """A labelled image that is in memory already."""

    whole: LabelledImage

    @property
    def name(self) -> str:
        """Of the image."""
        return self.whole.name

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.whole.label.shape[0])

    @property
    def width_px(self) -> int:
        """Columns."""
        return int(self.whole.label.shape[1])

    def read_window(self, row_px: int, col_px: int, height_px: int, width_px: int) -> LabelledImage:
        """A view, not a copy."""
        at = slice(row_px, row_px + height_px), slice(col_px, col_px + width_px)
        return LabelledImage(name=self.name, image=self.whole.image[at], label=self.whole.label[at])


IN_MEMORY_PX = 250_000_000
"""Sources of at most so many pixels are decoded once and kept, at four bytes each."""


def in_memory(pairs: Sequence[LabelledPair]) -> list[Croppable]:
    """The pairs, decoded if all of them fit into `IN_MEMORY_PX`."""
    if sum(pair.height_px * pair.width_px for pair in pairs) > IN_MEMORY_PX:
        return list(pairs)
    return [InMemory(pair.read()) for pair in pairs]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Images that crops are cut from in one way."""

    images: Sequence[Croppable]
    zoom: tuple[float, float]
    """Image pixels per crop pixel, drawn log-uniformly between."""
    share: float
    """Crops from here, relative to other pools."""
    zooms: Sequence[tuple[float, float]] | None = None
    """Of each image, where they differ in ground sample distance; None takes `zoom` for all."""

    def zoom_of(self, number: int) -> tuple[float, float]:
        """The zoom of one image, by its place in `images`."""
        return self.zoom if self.zooms is None else self.zooms[number]


class RandomCrops(Dataset[tuple[Tensor, Tensor]]):
    """The crops of one epoch: image uint8 `[side, side, 3]` and target int64 `[side, side]` of channel numbers.

    A pool by its share, an image by its area, a place uniformly; of `candidates` such crops the one with most classes.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        *,
        side_px: int,
        count: int,
        candidates: int,
        channel_values: Sequence[int],
        augmentation: Augmentation,
        seed: int,
        epoch: int,
    ) -> None:
        self._pools = list(pools)
        self._shares = np.cumsum([pool.share for pool in pools]) / sum(pool.share for pool in pools)
        self._areas = [_cumulated_areas(pool.images) for pool in pools]
        self._side_px = side_px
        self._count = count
        self._candidates = candidates
        self._target_of = target_table(channel_values)
        self._vary = make_augmentation(augmentation)
        self._seed = (seed, epoch)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        rng = np.random.default_rng((*self._seed, index))
        crops = [self._crop(rng) for _ in range(self._candidates)]
        image, label = max(crops, key=lambda crop: int(np.count_nonzero(np.bincount(crop[1].ravel())[1:])))
        self._vary.set_random_seed(int(rng.integers(2**31)))
        varied = self._vary(image=image, mask=label)
        return to_tensors(varied["image"], self._target_of[varied["mask"]])

    def _crop(self, rng: np.random.Generator) -> tuple[ByteArray, ByteArray]:
        chosen = int(np.searchsorted(self._shares, rng.random(), side="right"))
        pool = self._pools[chosen]
        number = int(np.searchsorted(self._areas[chosen], rng.random(), side="right"))
        source = pool.images[number]
        low, high = np.log(pool.zoom_of(number))
        side = round(self._side_px * float(np.exp(rng.uniform(low, high))))
        side = min(side, source.height_px, source.width_px)
        row, col = int(rng.integers(source.height_px - side + 1)), int(rng.integers(source.width_px - side + 1))
        window = source.read_window(row, col, side, side)
        return resized(window.image, self._side_px), resized_label(window.label, self._side_px)


class FixedCrops(Dataset[tuple[Tensor, Tensor]]):
    """Windows for a look after each epoch: `count` of those that tile the images, evenly spread, never varied.

    Windows without a label are passed over; what is held out has some.
    """

    def __init__(self, pools: Sequence[Pool], *, side_px: int, count: int, channel_values: Sequence[int]) -> None:
        places = [
            (image, row, col, side)
            for pool in pools
            for number, image in enumerate(pool.images)
            for row, col, side in _tiling(image, round(side_px * float(np.sqrt(np.prod(pool.zoom_of(number))))))
            if image.read_window(row, col, side, side).label.any()
        ]
        at = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
        self._places = [places[i] for i in at]
        self._side_px = side_px
        self._target_of = target_table(channel_values)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        source, row, col, side = self._places[index]
        window = source.read_window(row, col, side, side)
        label = resized_label(window.label, self._side_px)
        return to_tensors(resized(window.image, self._side_px), self._target_of[label])


def target_table(channel_values: Sequence[int]) -> npt.NDArray[np.int64]:
    """Class value → channel, `(256,)`; `IGNORED` for 0 and for values without a channel."""
    table = np.full(256, IGNORED, dtype=np.int64)
    for channel, value in enumerate(channel_values):
        if value:
            table[value] = channel
    return table


def resized(image: ByteArray, side_px: int) -> ByteArray:
    """`(side, side, 3)`: averaged when it shrinks, bilinear when it grows."""
    method = cv2.INTER_AREA if image.shape[0] > side_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side_px, side_px), interpolation=method), dtype=np.uint8)


def resized_label(label: ByteArray, side_px: int) -> ByteArray:
    """`(side, side)` by nearest neighbour: classes have no mean."""
    return np.asarray(cv2.resize(label, (side_px, side_px), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def to_tensors(image: ByteArray, target: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Image and target as tensors of their own memory."""
    return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(np.ascontiguousarray(target))


def make_augmentation(config: Augmentation) -> Any:
    """Albumentations' pipeline: place first, then light and sensor."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version otherwise
    import albumentations as A  # noqa: N812 - its documentation's name

    steps: list[Any] = [A.D4(p=1)]
    if config.rotate_degrees:
        steps.append(A.Rotate(limit=config.rotate_degrees, border_mode=cv2.BORDER_REFLECT_101, p=0.33))
    steps.append(
        A.ColorJitter(
            brightness=(1 - config.brightness, 1 + config.brightness),
            contrast=(1 - config.contrast, 1 + config.contrast),
            saturation=(1 - config.saturation, 1 + config.saturation),
            hue=(-config.hue, config.hue),
            p=0.8,
        )
    )
    if config.tint:
        span = (1 - config.tint, 1 + config.tint)
        steps.append(A.MultiplicativeNoise(multiplier=span, per_channel=True, elementwise=False, p=0.8))
    if config.gamma:
        limits = (100 * (1 - config.gamma), 100 / (1 - config.gamma))
        steps.append(A.RandomGamma(gamma_limit=limits, p=0.5))
    if config.noise:
        steps.append(A.GaussNoise(std_range=(0.0, config.noise), p=0.4))
    if config.blur:
        steps.append(
            A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 1.0)), A.ImageCompression(quality_range=(50, 90))], p=config.blur)
        )
    return A.Compose(steps)


def _cumulated_areas(images: Sequence[Croppable]) -> npt.NDArray[np.float64]:
    areas = np.array([image.height_px * image.width_px for image in images], dtype=np.float64)
    return np.asarray(np.cumsum(areas) / areas.sum())


def _tiling(image: Croppable, side_px: int) -> list[tuple[int, int, int]]:
    """(row, col, side) of squares that tile the image; one smaller square if it holds none."""
    side = min(side_px, image.height_px, image.width_px)
    return [
        (row, col, side)
        for row in range(0, image.height_px - side + 1, side)
        for col in range(0, image.width_px - side + 1, side)
    ]
