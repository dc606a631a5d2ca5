"""From the painted canvas to an image: turned, bent, lit by the sun, and seen by a sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcover.demo.canvas import Canvas, Rect, make_crowns
from landcover.demo.noise import FloatArray, value_noise
from landcover.demo.plan import paint_plan

GSD_M = 0.5
"""Ground sample distance of a drawn scene."""

_STRIP_PX = 256
"""Rows rendered at a time, so that memory stays small."""


@dataclass(frozen=True, kw_only=True)
class _View:
    """How the canvas lies in the image, and the light."""

    height_px: int
    width_px: int
    turn: float
    """Radians."""
    bend_v: FloatArray
    bend_u: FloatArray
    margin_px: int
    sun_row: float
    """Direction to the sun in the image: south is positive."""
    sun_column: float
    """East is positive."""
    shadow_per_height: float
    """Length of a shadow, as a multiple of the height that casts it."""


def draw(seed: int, height_px: int, width_px: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a scene of `GSD_M` pixels.

    Returns the image, uint8 `(height, width, 3)`, red-green-blue, and the label, uint8 `(height, width)`, class
    values 1..8 of OpenEarthMap. A pixel in shadow has the class of the ground it falls on; a car has that of what
    it stands on. Sides of at least 1024 px have room for all eight classes.
    """
    rng = np.random.default_rng(seed)
    view = _make_view(rng, height_px, width_px)
    reach = (
        math.ceil(0.5 * (abs(math.cos(view.turn)) + abs(math.sin(view.turn))) * max(height_px, width_px))
        + view.margin_px
    )
    canvas = Canvas(2 * reach, 2 * reach)
    seen = Rect(
        v0=reach - height_px // 2, v1=reach + height_px // 2, u0=reach - width_px // 2, u1=reach + width_px // 2
    )
    cosine, sine = math.cos(view.turn), math.sin(view.turn)
    sun_vu = (cosine * view.sun_row + sine * view.sun_column, -sine * view.sun_row + cosine * view.sun_column)
    paint_plan(canvas, rng, make_crowns(rng, sun_vu), seen, town_share=float(rng.uniform(0.35, 0.6)))
    label, paint, height_dm, relief = _bent(canvas, view, reach)
    return _lit(canvas, view, rng, paint, height_dm, relief), label


def _make_view(rng: np.random.Generator, height_px: int, width_px: int) -> _View:
    azimuth = math.radians(float(rng.uniform(125, 215)))  # of the sun, from north over east
    elevation = math.radians(float(rng.uniform(38, 62)))
    cell = max(height_px, width_px, 800) / 3.2
    strength = cell * 0.085
    bend_v, bend_u = (strength * value_noise(rng, height_px, width_px, cell) for _ in range(2))
    return _View(
        height_px=height_px,
        width_px=width_px,
        turn=float(rng.uniform(-0.5, 0.5)),
        bend_v=bend_v,
        bend_u=bend_u,
        margin_px=math.ceil(strength) + 16,
        sun_row=-math.cos(azimuth),
        sun_column=math.sin(azimuth),
        shadow_per_height=1 / math.tan(elevation),
    )


def _bent(
    canvas: Canvas, view: _View, reach: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16], npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
    """Class, paint, height and relief in the image's pixels, `(height, width)`, by the nearest canvas pixel."""
    shape = (view.height_px, view.width_px)
    label = np.empty(shape, dtype=np.uint8)
    paint = np.empty(shape, dtype=np.uint16)
    height_dm = np.empty(shape, dtype=np.uint8)
    relief = np.empty(shape, dtype=np.int8)
    cosine, sine = np.float32(math.cos(view.turn)), np.float32(math.sin(view.turn))
    column = np.arange(view.width_px, dtype=np.float32) - np.float32(view.width_px / 2)
    stride = canvas.cover.shape[1]
    for first in range(0, view.height_px, _STRIP_PX):
        rows = slice(first, min(first + _STRIP_PX, view.height_px))
        row = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(view.height_px / 2)
        v = (cosine * row + sine * column + view.bend_v[rows] + np.float32(reach)).astype(np.intp)
        u = (-sine * row + cosine * column + view.bend_u[rows] + np.float32(reach)).astype(np.intp)
        at = v * stride + u
        label[rows] = canvas.cover.ravel()[at]
        paint[rows] = canvas.paint.ravel()[at]
        height_dm[rows] = canvas.height_dm.ravel()[at]
        relief[rows] = canvas.relief.ravel()[at]
    return label, paint, height_dm, relief


def _shadow(view: _View, height_dm: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels from which something higher hides the sun, bool `(height, width)`."""
    shadow = np.zeros(height_dm.shape, dtype=np.bool_)
    drop_dm_per_px = GSD_M * 10 / view.shadow_per_height
    steps = math.ceil(int(height_dm.max()) / drop_dm_per_px)
    for step in range(1, steps + 1):
        down, right = round(step * view.sun_row), round(step * view.sun_column)
        # What stands `step` pixels towards the sun, less what the ray has risen on the way.
        rise = min(math.ceil(step * drop_dm_per_px), 255)
        here = _moved(height_dm.shape, -down, -right)
        there = _moved(height_dm.shape, down, right)
        over = height_dm[there]
        shadow[here] |= (over > rise) & (over - np.minimum(over, rise) > height_dm[here])
    return shadow


def _moved(shape: tuple[int, ...], down: int, right: int) -> tuple[slice, slice]:
    """The part of an array that remains when it is moved by `(down, right)` against itself."""
    height, width = shape
    return (
        slice(max(down, 0), height + min(down, 0)),
        slice(max(right, 0), width + min(right, 0)),
    )


def _lit(
    canvas: Canvas,
    view: _View,
    rng: np.random.Generator,
    paint: npt.NDArray[np.uint16],
    height_dm: npt.NDArray[np.uint8],
    relief: npt.NDArray[np.int8],
) -> npt.NDArray[np.uint8]:
    """The image, uint8 `(height, width, 3)`."""
    height, width = paint.shape
    colours = np.array(canvas.paints.rgb, dtype=np.float32)
    grain = np.array(canvas.paints.grain, dtype=np.float32)
    mottle = np.array(canvas.paints.mottle, dtype=np.float32)
    shade = np.where(_shadow(view, height_dm), np.float32(1), np.float32(0))
    shade = _blurred(shade)
    # Patches come from one tile of noise repeated at two scales: cheap, and never seen to repeat under the plan.
    tile_px = 1024
    patches = value_noise(rng, tile_px, tile_px, 23) * 0.6 + value_noise(rng, tile_px, tile_px, 7) * 0.4
    sky = value_noise(rng, height, width, max(height, width) / 2) * np.float32(0.05)
    gain = (rng.uniform(0.9, 1.12) * (1 + rng.normal(0, 0.025, 3))).astype(np.float32)
    haze = rng.uniform(4, 18) * np.array([0.85, 1.0, 1.2], dtype=np.float32)
    dark = np.float32(rng.uniform(0.5, 0.64)) * np.array([1.1, 1.02, 0.88], dtype=np.float32)
    noise = float(rng.uniform(1.0, 2.6))
    column = np.arange(width) % tile_px
    column_coarse = (np.arange(width) // 5 + 331) % tile_px
    image = np.empty((height, width, 3), dtype=np.uint8)
    for first in range(0, height, _STRIP_PX):
        low, high = max(first - 1, 0), min(first + _STRIP_PX + 1, height)
        rows = slice(low, high)
        here = paint[rows]
        index = np.arange(low, high)
        patch = patches[index % tile_px][:, column] + patches[(index // 5 + 77) % tile_px][:, column_coarse]
        speckle = rng.standard_normal(here.shape, dtype=np.float32)
        factor = (1 + mottle[here] * patch + grain[here] * speckle + sky[rows]) * (1 + relief[rows] * np.float32(0.01))
        strip = colours[here] * factor[..., None]
        strip *= (1 - dark * shade[rows][..., None]) * gain
        strip += haze
        strip = _blurred(strip)
        strip += np.float32(noise) * rng.standard_normal(here.shape, dtype=np.float32)[..., None]
        keep = slice(first - low, first - low + min(_STRIP_PX, height - first))
        image[first : first + _STRIP_PX] = np.clip(strip[keep], 0, 255)
    return image


def _blurred(values: FloatArray) -> FloatArray:
    """Blur over 3×3 pixels of the first two axes, as a lens and a pixel's area do."""
    for axis in (0, 1):
        padded = np.concatenate([values.take([0], axis), values, values.take([-1], axis)], axis)
        length = values.shape[axis]
        before, after = (
            padded[tuple(slice(s, s + length) if a == axis else slice(None) for a in range(values.ndim))]
            for s in (0, 2)
        )
        values = values * np.float32(0.6) + (before + after) * np.float32(0.2)
    return values
