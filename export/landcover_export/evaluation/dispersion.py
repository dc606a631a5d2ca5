"""How much errors within one place go together, by the place's size: the design effects of a contract.

A window of M labelled pixels, m_i of them mapped as class i, truly holds N_j of class j, where the pooled confusion
matrix lets Σ_i m_i p_ij be expected. The variance of the difference over windows, divided by Σ_i m_i p_ij (1 - p_ij),
that of independent pixels, is the dispersion of a quasi-multinomial model; `landcover.statistics.adjusted` uses it.

It is measured for windows of growing size, because errors are alike over a few metres (a roof), over a field, and over
a whole scene (its haze): on drawn scenes it grows with about the square root of a window's pixels and does not stop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcover.contract import DesignEffects
from landcover_export.evaluation.metrics import FloatArray, IntArray

SIDES_PX = tuple(32 << level for level in range(10))
"""Sides of the windows, 32 to 16384 px. A smaller image is one window by itself."""

FEWEST_WINDOWS = 10
"""Of one size, for a variance between them to be worth keeping: its standard error is then about half of itself."""


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Sums over the windows of each size, from which their differences from any expectation follow."""

    windows: IntArray
    """Labelled windows by size, `(sizes,)`."""
    products: FloatArray
    """`(sizes, 2 classes, 2 classes)`: Σ z zᵀ with z the reference pixels of each class, then the mapped ones."""

    def __add__(self, other: Scatter) -> Scatter:
        return Scatter(windows=self.windows + other.windows, products=self.products + other.products)

    @classmethod
    def none(cls, classes: int) -> Scatter:
        """Of no image."""
        sizes = len(SIDES_PX)
        return cls(windows=np.zeros(sizes, dtype=np.int64), products=np.zeros((sizes, 2 * classes, 2 * classes)))


def scatter_of(label: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8], classes: npt.ArrayLike) -> Scatter:
    """One image's.

    Args:
        label: class values `(height, width)`; pixels labelled 0 are left out.
        found: the map, of the same shape.
        classes: the class values, in the order of the matrix.
    """
    cells = _cells(label, found, np.asarray(classes))
    windows, products = [], []
    for side_px in SIDES_PX:
        sums = cells
        for axis in (0, 1):
            parts = max(1, round(label.shape[axis] / side_px))
            starts = np.round(np.arange(parts) * cells.shape[axis] / parts).astype(int)
            sums = np.add.reduceat(sums, starts, axis=axis)
        flat = sums.reshape(-1, cells.shape[2])
        windows.append(np.count_nonzero(flat.any(axis=1)))
        products.append(flat.T @ flat)
    return Scatter(windows=np.array(windows, dtype=np.int64), products=np.stack(products))


def design_effects(confusion: IntArray, scatter: Scatter) -> tuple[DesignEffects, ...]:
    """By growing size of window, for the sizes of which there are enough; 1 for a class without any error.

    Args:
        confusion: pooled pixels, `(classes, classes)`, `[reference][predicted]`.
        scatter: of the same images.
    """
    classes = len(confusion)
    mapped = confusion.sum(axis=0)
    proportions = confusion.T / np.maximum(mapped, 1)[:, None]  # [mapped][reference]
    independent = mapped @ (proportions * (1 - proportions))
    differences = np.concatenate([np.eye(classes), -proportions])  # times z: reference pixels less expected ones
    found: list[DesignEffects] = []
    for windows, products in zip(scatter.windows, scatter.products, strict=True):
        if windows < FEWEST_WINDOWS:
            break
        place_px = round(float(products[:classes, :classes].sum() / confusion.sum()), 1)
        if found and place_px <= found[-1].place_px:
            break  # every image is one window already
        squares = np.einsum("aj,ab,bj->j", differences, products, differences) * windows / (windows - 1)
        effects = np.maximum(np.divide(squares, independent, out=np.ones(classes), where=independent > 0), 1.0)
        found.append(DesignEffects(place_px=place_px, classes=tuple(effects.round(2).tolist())))
    return tuple(found)


def _cells(label: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8], classes: npt.NDArray[np.int64]) -> FloatArray:
    """Reference and mapped pixels of each class in cells of the smallest size, `(rows, columns, 2 classes)`."""
    height, width = label.shape
    rows, columns = (max(1, round(length / SIDES_PX[0])) for length in (height, width))
    rank = np.zeros(256, dtype=np.intp)
    rank[classes] = np.arange(len(classes))
    tops = np.round(np.linspace(0, height, rows + 1)).astype(int)
    column = np.repeat(np.arange(columns), np.diff(np.round(np.linspace(0, width, columns + 1)).astype(int)))
    cells = np.empty((rows, columns, 2 * len(classes)))
    for row in range(rows):
        strip = slice(tops[row], tops[row + 1])
        counted = label[strip] != 0
        first = np.broadcast_to(column * len(classes), counted.shape)[counted]
        for start, values in ((0, label), (len(classes), found)):
            counts = np.bincount(first + rank[values[strip][counted]], minlength=columns * len(classes))
            cells[row, :, start : start + len(classes)] = counts.reshape(columns, -1)
    return cells
