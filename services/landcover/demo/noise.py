"""Smooth random fields."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def value_noise(rng: np.random.Generator, height_px: int, width_px: int, cell_px: float) -> FloatArray:
    """Random values on a lattice of `cell_px`, interpolated: `(height, width)`, about -1..1, float32."""
    rows, row_weight = _lattice(height_px, cell_px)
    columns, column_weight = _lattice(width_px, cell_px)
    shape = (int(rows[-1]) + 2, int(columns[-1]) + 2)
    lattice = rng.uniform(-1, 1, shape).astype(np.float32)
    across: FloatArray = lattice[:, columns]
    across = across + (lattice[:, columns + 1] - across) * column_weight
    upper: FloatArray = across[rows]
    return upper + (across[rows + 1] - upper) * row_weight[:, None]


def fractal_noise(rng: np.random.Generator, height_px: int, width_px: int, cell_px: float, octaves: int) -> FloatArray:
    """`value_noise` summed over `octaves`, each half as large and half as strong; about -1..1."""
    total = np.zeros((height_px, width_px), dtype=np.float32)
    amplitude = 1.0
    for octave in range(octaves):
        total += np.float32(amplitude) * value_noise(rng, height_px, width_px, cell_px / 2**octave)
        amplitude /= 2
    return total / np.float32(2 - 2 * amplitude)


def _lattice(length_px: int, cell_px: float) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Left lattice node of every pixel, and the smoothed weight of the right one."""
    position = np.arange(length_px) / cell_px
    node = position.astype(np.intp)
    fraction = position - node
    return node, (fraction * fraction * (3 - 2 * fraction)).astype(np.float32)
