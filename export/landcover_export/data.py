"""Labelled images and random crops of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from landcover.demo import draw
from landcover.errors import InvalidConfiguration

ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """An image and the class of each of its pixels."""

    name: str
    image: ByteArray
    """`(height, width, 3)`, red-green-blue."""
    label: ByteArray
    """`(height, width)`, class values; 0 is ignored."""


def read_tiles(root: Path, tiles: Sequence[int]) -> list[LabelledImage]:
    """Read `tileN/images/*.jpg` and the labels of the same names in `tileN/labels/*.png`.

    Raises:
        InvalidConfiguration: a folder, a label or an image is missing, or their sizes differ.
    """
    found = []
    for tile in tiles:
        folder = root / f"tile{tile}"
        paths = sorted((folder / "images").glob("*.jpg"))
        if not paths:
            raise InvalidConfiguration(f"There are no images in {folder / 'images'}; name the data's folder.")
        found += [_read_pair(path, folder / "labels" / f"{path.stem}.png") for path in paths]
    return found


def _read_pair(image_path: Path, label_path: Path) -> LabelledImage:
    if not label_path.is_file():
        raise InvalidConfiguration(f"{image_path} has no label; {label_path} is missing.")
    image = np.asarray(Image.open(image_path).convert("RGB"))
    label = np.asarray(Image.open(label_path))
    if label.shape != image.shape[:2] or label.dtype != np.uint8:
        raise InvalidConfiguration(
            f"{label_path} is {label.shape} {label.dtype}, its image {image.shape[:2]}; "
            "a label has the image's size and one byte a pixel."
        )
    return LabelledImage(name=image_path.stem, image=image, label=label)


def drawn_scenes(seeds: Sequence[int], side_px: int) -> Iterator[LabelledImage]:
    """Scenes of the demonstration's generator, `side_px` square, at its own 0.5 m."""
    for seed in seeds:
        image, label = draw(seed, side_px, side_px)
        yield LabelledImage(name=f"drawn-{seed}", image=image, label=label)


@dataclass(frozen=True, kw_only=True)
class CropSampler:
    """Random square crops, turned, mirrored, rescaled and recoloured."""

    side_px: int
    """Side of a crop as the network sees it."""
    zoom: tuple[float, float]
    """Smallest and largest number of image pixels per crop pixel, drawn log-uniformly."""

    def sample(self, images: Sequence[LabelledImage], rng: np.random.Generator) -> tuple[ByteArray, ByteArray]:
        """A crop `(side, side, 3)` and its label `(side, side)`; of two candidates the one with more classes."""
        first, second = (self._crop(images[int(rng.integers(len(images)))], rng) for _ in range(2))
        image, label = max(first, second, key=lambda crop: np.count_nonzero(np.bincount(crop[1].ravel())[1:]))
        turns = int(rng.integers(4))
        image, label = np.rot90(image, turns), np.rot90(label, turns)
        if rng.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        return recoloured(image, rng), np.ascontiguousarray(label)

    def _crop(self, source: LabelledImage, rng: np.random.Generator) -> tuple[ByteArray, ByteArray]:
        low, high = np.log(self.zoom)
        height, width = source.label.shape
        side = min(round(self.side_px * float(np.exp(rng.uniform(low, high)))), height, width)
        row, column = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        at = slice(row, row + side), slice(column, column + side)
        size = (self.side_px, self.side_px)
        image = Image.fromarray(source.image[at]).resize(size, Image.Resampling.BILINEAR)  # averages when reducing
        label = Image.fromarray(source.label[at]).resize(size, Image.Resampling.NEAREST)
        return np.asarray(image), np.asarray(label)


def recoloured(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """The image `(height, width, 3)` under another light and sensor: gain, gamma, saturation, tint, noise."""
    pixels = image.astype(np.float32) * np.float32(1 / 255)
    pixels **= np.float32(np.exp(rng.normal(0, 0.2)))
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0.5, 1.3))
    gain = rng.uniform(0.8, 1.2) * rng.normal(1, 0.05, 3)
    pixels = pixels * gain.astype(np.float32) + np.float32(rng.normal(0, 0.04))
    if rng.random() < 0.5:
        strength = np.float32(rng.uniform(0, 0.03))
        pixels += strength * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(pixels, 0, 1) * 255, dtype=np.uint8)
