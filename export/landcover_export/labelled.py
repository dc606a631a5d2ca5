"""Labelled images on disk: which there are, what their labels mean, and reading them whole or in windows.

One layout serves OpenEarthMap and plain folders: a folder that holds `images/` and `labels/` with files of the same
stem, or folders (OpenEarthMap's regions) that each hold such a pair. No pixel is kept in memory here but those of the
few images that were read last.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image, UnidentifiedImageError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from landcover.errors import LandcoverError
from landcover.geodesy import ground_sample_distance_m

ByteArray = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png")
LABEL_SUFFIXES = (".tif", ".tiff", ".png")
_TIFF = (".tif", ".tiff")
_NO_CLASS = -1
_IMAGES_IN_MEMORY = 32


class DataError(LandcoverError):
    """Labelled data that cannot be learnt from or measured on; the message names the file and the remedy."""


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """An image and the class of each of its pixels, in memory."""

    name: str
    image: ByteArray
    """`(height, width, 3)`, red-green-blue."""
    label: ByteArray
    """`(height, width)`, class values; 0 is ignored."""
    group: str = ""
    """The region or scene it belongs to: what overlaps on the ground shares a group and is never split."""
    gsd_m: float | None = None
    """Ground sample distance in metres, where it is known."""


@dataclass(frozen=True, kw_only=True)
class LabelledPair:
    """An image file and its label file."""

    name: str
    group: str
    image_path: Path
    label_path: Path
    gsd_m: float | None
    height_px: int
    width_px: int
    classes: tuple[tuple[int, int], ...] | None = None
    """(label value, class value) pairs; None takes label values as class values."""

    def read(self) -> LabelledImage:
        """The whole pair.

        Raises:
            DataError: it cannot be read, or a label value has no class.
        """
        return self.read_window(0, 0, self.height_px, self.width_px)

    def read_window(self, row_px: int, col_px: int, height_px: int, width_px: int) -> LabelledImage:
        """A window that lies inside the pair.

        Raises:
            DataError: it cannot be read, or a label value has no class.
        """
        window = (row_px, col_px, height_px, width_px)
        return LabelledImage(
            name=self.name,
            image=_read_image(self.image_path, window),
            label=self._mapped(_read_label(self.label_path, window)),
            group=self.group,
            gsd_m=self.gsd_m,
        )

    def read_label(self) -> ByteArray:
        """The class values alone, `(height, width)`.

        Raises:
            DataError: it cannot be read, or a label value has no class.
        """
        return self._mapped(_read_label(self.label_path, (0, 0, self.height_px, self.width_px)))

    def _mapped(self, label: ByteArray) -> ByteArray:
        if self.classes is None:
            return label
        table = _lookup(self.classes)
        if (strange := np.flatnonzero((np.bincount(label.ravel(), minlength=256) > 0) & (table == _NO_CLASS))).size:
            raise DataError(
                f"{self.label_path} holds the label values {', '.join(map(str, strange))}, which the class mapping "
                "does not name; add them to it (0 leaves pixels out)."
            )
        return table[label].astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """The pairs that were found, and the names of a split list that were not."""

    pairs: tuple[LabelledPair, ...]
    missing: tuple[str, ...] = field(default=())
    """Entries of the split list without files: OpenEarthMap's xBD images have to be fetched apart."""


def find_pairs(
    root: Path,
    *,
    groups: Sequence[str] | None = None,
    split: Path | None = None,
    classes: Mapping[int, int] | None = None,
    gsd_m: float | None = None,
) -> list[LabelledPair]:
    """`find_set` without its report of what is missing."""
    return list(find_set(root, groups=groups, split=split, classes=classes, gsd_m=gsd_m).pairs)


def find_set(
    root: Path,
    *,
    groups: Sequence[str] | None = None,
    split: Path | None = None,
    classes: Mapping[int, int] | None = None,
    gsd_m: float | None = None,
) -> LabelledSet:
    """The labelled pairs under `root`, by group and name. Only headers are read.

    Args:
        root: holds `images/` and `labels/`, or folders that do.
        groups: names of such folders to take; all by default.
        split: a text file with a name a line (`aachen_1.tif`, with or without suffix) of the images to take.
        classes: label value → class value; 0 on the right leaves pixels out. None takes labels as they are.
        gsd_m: ground sample distance of images that carry no georeference.

    Raises:
        DataError: nothing is found, a label is missing, sizes differ, or split list and files have nothing in common.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}; name one that holds images/ and labels/, or regions with them.")
    folders = {each.parent.name if each.parent != root else "": each.parent for each in _image_folders(root)}
    if not folders:
        raise DataError(f"{root} holds no images/ folder, and none of its folders does; see `landcover train --help`.")
    if groups is not None:
        if unknown := sorted(set(groups) - set(folders)):
            raise DataError(
                f"{root} has no group {', '.join(unknown)}; it has {', '.join(sorted(folders)) or 'no groups'}."
            )
        folders = {name: folders[name] for name in groups}
    listed = () if split is None else read_split(split)
    wanted = None if split is None else set(listed)
    found: dict[str, tuple[str, Path, Path]] = {}
    for group, folder in sorted(folders.items()):
        for image_path in sorted(each for each in (folder / "images").iterdir() if _is_image(each)):
            if wanted is None or {image_path.stem, f"{group}/{image_path.stem}"} & wanted:
                found[f"{group}/{image_path.stem}"] = (group, image_path, _label_of(image_path))
    if not found:
        reason = f"none of the {len(listed)} names in {split} is there" if listed else "their images/ are empty"
        raise DataError(f"There is nothing to read in {root}: {reason}.")
    there = {path.stem for _, path, _ in found.values()} | set(found)
    mapping = None if classes is None else tuple(sorted({0: 0, **classes}.items()))
    return LabelledSet(
        pairs=tuple(_open_pair(group, image, label, mapping, gsd_m) for group, image, label in found.values()),
        missing=tuple(name for name in listed if name not in there),
    )


def open_pair(image_path: Path, label_path: Path, *, classes: Mapping[int, int] | None = None) -> LabelledPair:
    """An image and its label wherever they lie. Only headers are read.

    Args:
        image_path: also names the pair.
        label_path: of the same size.
        classes: label value → class value; 0 on the right leaves pixels out. None takes labels as they are.

    Raises:
        DataError: one of them is missing or cannot be read, or their sizes differ.
    """
    for path in (image_path, label_path):
        if not path.is_file():
            raise DataError(f"There is no file {path}.")
    mapping = None if classes is None else tuple(sorted({0: 0, **classes}.items()))
    return _open_pair("", image_path, label_path, mapping, None)


def read_split(path: Path) -> tuple[str, ...]:
    """The images that a split list names, without suffix: `aachen_1`, or with its folder `aachen/aachen_1`.

    Raises:
        DataError: it is missing or empty.
    """
    if not path.is_file():
        raise DataError(f"There is no split list {path}.")
    names = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    stems = tuple(_without_suffix(name) for name in names if name)
    if not stems:
        raise DataError(f"The split list {path} is empty; it names an image a line.")
    return stems


def count_classes(pairs: Iterable[LabelledPair], values: Sequence[int]) -> npt.NDArray[np.int64]:
    """Pixels of each class value over all labels, `(256,)`; index 0 is unlabelled.

    Raises:
        DataError: a label cannot be read or holds a value that is neither 0 nor in `values`: named with its file.
    """
    total = np.zeros(256, dtype=np.int64)
    known = np.zeros(256, dtype=bool)
    known[[0, *values]] = True
    for pair in pairs:
        count = np.bincount(pair.read_label().ravel(), minlength=256)
        if (strange := np.flatnonzero((count > 0) & ~known)).size:
            raise DataError(
                f"{pair.label_path} holds the label values {', '.join(map(str, strange))}, which are no classes "
                f"({', '.join(map(str, sorted(values)))}); say with a class mapping what they are."
            )
        total += count
    return total


def _image_folders(root: Path) -> Iterator[Path]:
    for folder in (root, *sorted(each for each in root.iterdir() if each.is_dir())):
        if (folder / "images").is_dir():
            yield folder / "images"


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _label_of(image_path: Path) -> Path:
    folder = image_path.parent.parent / "labels"
    for suffix in LABEL_SUFFIXES:
        if (path := folder / f"{image_path.stem}{suffix}").is_file():
            return path
    raise DataError(
        f"{image_path} has no label; {folder / image_path.stem}.tif or .png is missing. Add it, or move the image away."
    )


def _without_suffix(name: str) -> str:
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name


def _open_pair(
    group: str,
    image_path: Path,
    label_path: Path,
    classes: tuple[tuple[int, int], ...] | None,
    gsd_m: float | None,
) -> LabelledPair:
    height, width, own_gsd_m = _header(image_path, bands=3)
    label_height, label_width, _ = _header(label_path, bands=1)
    if (height, width) != (label_height, label_width):
        raise DataError(
            f"{image_path} is {width} × {height} px, but its label {label_path} is {label_width} × {label_height} px; "
            "make them the same size (labels by nearest neighbour)."
        )
    return LabelledPair(
        name=image_path.stem,
        group=group,
        image_path=image_path,
        label_path=label_path,
        gsd_m=own_gsd_m or gsd_m,
        height_px=height,
        width_px=width,
        classes=classes,
    )


def _header(path: Path, *, bands: int) -> tuple[int, int, float | None]:
    """Height, width, and the ground sample distance where the file is georeferenced.

    Raises:
        DataError: it is no image of at least `bands` bands of uint8.
    """
    try:
        if path.suffix.lower() not in _TIFF:
            with Image.open(path) as image:
                return image.height, image.width, None
        with _open_tiff(path) as dataset:
            _check_bands(path, dataset, bands)
            located = dataset.crs is not None and not dataset.transform.is_identity
            gsd_m = (
                ground_sample_distance_m(dataset.crs.to_wkt(), dataset.transform, dataset.width, dataset.height)
                if located
                else None
            )
            return dataset.height, dataset.width, gsd_m
    except (UnidentifiedImageError, RasterioError, OSError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _read_image(path: Path, window: tuple[int, int, int, int]) -> ByteArray:
    if path.suffix.lower() not in _TIFF:
        row, col, height, width = window
        return np.ascontiguousarray(_decoded(path, "RGB")[row : row + height, col : col + width])
    bands = _read_tiff(path, window, (1, 2, 3))
    return np.ascontiguousarray(np.moveaxis(bands, 0, -1))


def _read_label(path: Path, window: tuple[int, int, int, int]) -> ByteArray:
    if path.suffix.lower() not in _TIFF:
        row, col, height, width = window
        return np.ascontiguousarray(_decoded(path, "L")[row : row + height, col : col + width])
    label: ByteArray = _read_tiff(path, window, (1,))[0]
    return label


def _read_tiff(path: Path, window: tuple[int, int, int, int], bands: tuple[int, ...]) -> ByteArray:
    row, col, height, width = window
    try:
        with _open_tiff(path) as dataset:
            _check_bands(path, dataset, len(bands))
            pixels: ByteArray = dataset.read(bands, window=Window(col, row, width, height))
            return pixels
    except RasterioError as error:
        raise _unreadable(path, error) from error


@contextmanager
def _open_tiff(path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # labels and plain images need no place
        with rasterio.open(path) as dataset:
            yield dataset


def _check_bands(path: Path, dataset: Any, bands: int) -> None:
    if dataset.count < bands or dataset.dtypes[0] != "uint8":
        raise DataError(
            f"{path} has {dataset.count} band(s) of {dataset.dtypes[0]}; {bands} of uint8 are needed "
            "(gdal_translate -ot Byte -scale)."
        )


@lru_cache(maxsize=_IMAGES_IN_MEMORY)
def _decoded(path: Path, mode: str) -> ByteArray:
    """A whole JPEG or PNG, which cannot be read in parts; the last few are kept."""
    try:
        with Image.open(path) as image:
            if mode == "L" and image.mode not in ("L", "P"):
                raise DataError(
                    f"{path} is a label of mode {image.mode}; one byte a pixel with class values is needed."
                )
            pixels = np.asarray(image if mode == "L" else image.convert(mode))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    return pixels


@lru_cache(maxsize=64)
def _lookup(classes: tuple[tuple[int, int], ...]) -> npt.NDArray[np.int16]:
    table = np.full(256, _NO_CLASS, dtype=np.int16)
    for value, target in classes:
        table[value] = target
    return table


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read ({error}); replace it (large ones by tiled GeoTIFFs), or move it and its partner away."
    )
