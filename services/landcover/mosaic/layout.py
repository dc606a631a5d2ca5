"""How the images of a mosaic share one grid.

The grid has the CRS and pixels of most images, and its pixels lie where those of the first of them do: images that fit
are read as they are, pixel by pixel, all others are warped onto the grid.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import calculate_default_transform

from landcover.errors import SceneUnsupported
from landcover.geodesy import apply, outline, transformer
from landcover.mosaic.entries import Placement

ALIGNED_PX = 0.05
"""How far an image's corners may lie from the grid's to count as the same: a twentieth of a pixel is never seen."""

MAX_SIDE_PX = 1 << 26
"""Of a mosaic; the equator in pixels of 0.6 m."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The grid, and where each image lies on it."""

    crs: str
    """As WKT."""
    transform: Affine
    """(column, row) of the mosaic → `crs`; its origin is the corner of all boxes."""
    width_px: int
    height_px: int
    boxes: npt.NDArray[np.int64]
    """`(images, 4)`: first row, past the last row, first column, past the last column."""
    aligned: npt.NDArray[np.bool_]
    """`(images,)`: True where the image's own pixels are the grid's."""

    def within(self, rows: tuple[int, int], cols: tuple[int, int]) -> npt.NDArray[np.intp]:
        """Numbers of the images whose boxes cross a window, in order.

        Comparing every box takes 0.7 ms for 10⁵ images, less than decoding one tile; a tree would bring a library.
        """
        top, bottom, left, right = self.boxes.T
        hit = (top < rows[1]) & (bottom > rows[0]) & (left < cols[1]) & (right > cols[0])
        return np.flatnonzero(hit)


def lay_out(
    placements: Sequence[Placement], names: Sequence[str], *, crs: str | None, resolution: float | None
) -> Layout:
    """The grid of a mosaic; `names` are what errors call the images by.

    With another `crs` (WKT) or `resolution` (units of the CRS) than the images have, all are warped, and pixels' edges
    are whole multiples of the resolution.

    Raises:
        SceneUnsupported: an image does not lie on the grid's part of the Earth, or the mosaic is too large.
    """
    kinds = [(_system(each.crs), *_rounded(each.transform)) for each in placements]
    if crs is None:
        (common, *_), _ = Counter(kinds).most_common(1)[0]
    else:
        common = _system(crs)
    alike = [i for i, kind in enumerate(kinds) if kind[0] == common]
    lattice, wkt = _lattice(placements, kinds, alike, crs, resolution)
    aligned = np.zeros(len(placements), np.bool_)
    boxes = np.zeros((len(placements), 4), np.int64)
    _place_aligned(lattice, placements, np.array(alike, np.intp), boxes, aligned)
    for i in np.flatnonzero(~aligned).tolist():
        boxes[i] = _box_of_warped(lattice, wkt, placements[i], names[i])
    top, left = boxes[:, 0].min(), boxes[:, 2].min()
    boxes -= [top, top, left, left]
    height, width = int(boxes[:, 1].max()), int(boxes[:, 3].max())
    if max(height, width) > MAX_SIDE_PX:
        raise SceneUnsupported(
            f"The images lie {width} × {height} px apart, at most {MAX_SIDE_PX} px a side are served; "
            "list those far away as a mosaic of their own, or set a coarser `resolution`."
        )
    return Layout(
        crs=wkt,
        transform=lattice @ Affine.translation(int(left), int(top)),
        width_px=width,
        height_px=height,
        boxes=boxes,
        aligned=aligned,
    )


def common_overviews(layout: Layout, overviews: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Decimations at which the images' own overviews are the mosaic's: all have them, and begin and end on them.

    Then the mosaic reads what one image of all would: its overview.
    """
    if not layout.aligned.all():
        return ()
    shared = set.intersection(*map(set, overviews))
    sides = layout.boxes
    return tuple(factor for factor in sorted(shared) if not (sides % factor).any())


def same_place(one: Placement, other: Placement) -> bool:
    """Whether two descriptions of an image's place agree, to within what counts as aligned."""
    if (one.width_px, one.height_px, _system(one.crs)) != (other.width_px, other.height_px, _system(other.crs)):
        return False
    between = ~Affine(*one.transform) @ Affine(*other.transform)
    corners = [(col, row) for col in (0, one.width_px) for row in (0, one.height_px)]
    return all(math.dist(between @ corner, corner) <= ALIGNED_PX for corner in corners)


def _lattice(
    placements: Sequence[Placement],
    kinds: Sequence[tuple[object, ...]],
    alike: Sequence[int],
    crs: str | None,
    resolution: float | None,
) -> tuple[Affine, str]:
    """A transform whose pixels are the mosaic's, wherever its origin is, and the CRS as WKT."""
    if alike:
        kind, _ = Counter(kinds[i] for i in alike).most_common(1)[0]
        first = placements[next(i for i in alike if kinds[i] == kind)]
        own = Affine(*first.transform)
        if resolution is None or math.isclose(math.sqrt(abs(own.determinant)), resolution, rel_tol=1e-9):
            return own, first.crs
        return Affine(resolution, 0, 0, 0, -resolution, 0), first.crs
    wkt = str(crs)
    if resolution is None:
        first = placements[0]
        west, south, east, north = _bounds(first)
        try:
            transform, _, _ = calculate_default_transform(
                CRS.from_wkt(first.crs), CRS.from_wkt(wkt), first.width_px, first.height_px, west, south, east, north
            )
        except CRSError as error:
            raise SceneUnsupported(f"The images' CRS cannot be brought into the mosaic's: {error}.") from error
        resolution = float(transform.a)
    return Affine(resolution, 0, 0, 0, -resolution, 0), wkt


def _place_aligned(
    lattice: Affine,
    placements: Sequence[Placement],
    alike: npt.NDArray[np.intp],
    boxes: npt.NDArray[np.int64],
    aligned: npt.NDArray[np.bool_],
) -> None:
    """Fill in the boxes of those of `alike` whose pixels are the lattice's."""
    if not alike.size:
        return
    transforms = np.array([placements[i].transform for i in alike])
    sizes = np.array([(placements[i].width_px, placements[i].height_px) for i in alike])
    inverse = ~lattice
    corners = []
    for across, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        cols, rows = across * sizes[:, 0], down * sizes[:, 1]
        x = transforms[:, 0] * cols + transforms[:, 1] * rows + transforms[:, 2]
        y = transforms[:, 3] * cols + transforms[:, 4] * rows + transforms[:, 5]
        corners.append(np.stack(apply(inverse, x, y), axis=1) - np.stack([cols, rows], axis=1))
    offsets = np.round(corners[0])
    fits = (np.abs(np.stack(corners) - offsets) <= ALIGNED_PX).all(axis=(0, 2))
    cols, rows = offsets[fits].astype(np.int64).T
    widths, heights = sizes[fits].T
    boxes[alike[fits]] = np.stack([rows, rows + heights, cols, cols + widths], axis=1)
    aligned[alike[fits]] = True


def _box_of_warped(lattice: Affine, crs: str, placement: Placement, name: str) -> tuple[int, int, int, int]:
    cols, rows = outline(0, 0, placement.width_px, placement.height_px, segments=21)
    x, y = apply(Affine(*placement.transform), cols, rows)
    try:
        x, y = transformer(placement.crs, crs).transform(x, y)
    except ProjError:
        x = y = np.array([np.inf])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise SceneUnsupported(f"{name} does not lie where the mosaic's CRS is defined; give the mosaic another `crs`.")
    cols, rows = apply(~lattice, np.asarray(x), np.asarray(y))
    return math.floor(rows.min()), math.ceil(rows.max()), math.floor(cols.min()), math.ceil(cols.max())


def _bounds(placement: Placement) -> tuple[float, float, float, float]:
    cols, rows = outline(0, 0, placement.width_px, placement.height_px, segments=1)
    x, y = apply(Affine(*placement.transform), cols, rows)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _rounded(transform: tuple[float, ...]) -> tuple[float, ...]:
    """The pixel's size and direction to nine digits."""
    return tuple(float(f"{transform[i]:.9g}") for i in (0, 1, 3, 4))


@lru_cache(maxsize=256)
def _system(wkt: str) -> str:
    """`EPSG:…` where it has a code, so that what differs in spelling only is the same."""
    crs = CRS.from_wkt(wkt)
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else wkt
