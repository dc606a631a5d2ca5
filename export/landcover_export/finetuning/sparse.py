"""Annotations as sparse labels: polygons burnt onto the grid on which a model sees a scene, and places cut around them.

Every scene is cut by a lattice of square cells of a power of two of pixels, the grid's own blocks under another size.
A *place* is a cell with something annotated in it. So places never overlap, memory follows from what is annotated and
not from the scene, and the same annotations give the same places whatever else is drawn.

A pixel belongs to a polygon if its centre lies inside (edges run straight between vertices in the scene's CRS). Where
polygons overlap, the one that was created later wins: who corrects draws over what was there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import rasterio.features
import shapely
from affine import Affine

from landcover.annotations import Annotation
from landcover.annotations.geometry import Area
from landcover.classes import UNKNOWN
from landcover.contract import Contract
from landcover.geodesy import WGS84, transformer
from landcover.grid import BlockIndex, Grid, grid_for
from landcover.reading import SceneReader
from landcover.scene import Scene
from landcover_export.labelled import ByteArray, DataError, LabelledImage

MAX_PLACES = 4000
"""Of one round, each up to a megabyte of pixels and label in memory (512 px)."""

GAP_PX = 16
"""What is learnt from keeps so far from what is held out, in pixels of the grid."""

NO_DRAWING = -1


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """An annotation on a grid."""

    annotation: Annotation
    outline: Area
    """In pixels of the grid: x = column, y = row, whole numbers at the corners of pixels."""
    home: BlockIndex
    """The cell that holds a point inside it; decides whether it is learnt from or held out, as a whole."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedScene:
    """What is drawn on one scene, as one model's grid has it."""

    scene: Scene
    grid: Grid
    """Its `block_px` is the side of a cell."""
    drawings: tuple[Drawing, ...]
    """In the order in which they are burnt."""
    notes: tuple[str, ...]
    """A sentence for each annotation that is left out, clipped or hidden."""
    overwritten_px: int
    """Pixels that one annotation gave a class and a later one another."""

    @cached_property
    def reaching(self) -> dict[BlockIndex, tuple[int, ...]]:
        """The numbers of the drawings that reach each cell, cells row by row."""
        found: dict[BlockIndex, dict[int, None]] = {}
        for number, each in enumerate(self.drawings):
            for cell in cells_of(each.outline, self.grid):
                found.setdefault(cell, {})[number] = None  # once, though several parts may reach it
        return {cell: tuple(found[cell]) for cell in sorted(found)}

    def burn(self, cell: BlockIndex) -> tuple[npt.NDArray[np.int64], int]:
        """Which drawing each pixel of a cell belongs to, by number, `(side, side)`; `NO_DRAWING` where none is.

        Second, the number of pixels that were given another class by an earlier one.
        """
        return burn(self.drawings, self.reaching.get(cell, ()), cell, self.grid)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Labelled windows of scenes, and what is labelled in them."""

    images: tuple[LabelledImage, ...]
    """The label is 0 where nothing is annotated, where the scene has no data, and in the margin."""
    area_m2: dict[int, float]
    """True ground area of the labelled pixels, by class value."""
    withheld_px: int = 0
    """Annotated pixels whose label is not given: of drawings on the other side, or within the gap."""


def place_side_px(crop_px: int) -> int:
    """Side of a cell: the power of two that holds a crop."""
    return max(64, 1 << (crop_px - 1).bit_length())


def annotate(annotations: Iterable[Annotation], scene: Scene, contract: Contract, side_px: int) -> AnnotatedScene:
    """Put the annotations of `scene` onto the grid of `contract`'s model. No pixel is read.

    Raises:
        SceneTooCoarse: the scene's pixels are larger than the model's largest.
    """
    grid = replace(grid_for(scene, contract), block_px=side_px)
    drawings: list[Drawing] = []
    notes: list[str] = []
    for annotation in sorted(annotations, key=lambda each: (each.created, each.id)):
        outline, note = _on_grid(annotation, scene, grid)
        if note:
            notes.append(note)
        if outline is not None:
            drawings.append(Drawing(annotation=annotation, outline=outline, home=_home(outline, grid)))
    found = AnnotatedScene(scene=scene, grid=grid, drawings=tuple(drawings), notes=(), overwritten_px=0)
    visible = np.zeros(len(drawings), np.int64)
    overwritten = 0
    for cell in found.reaching:
        owner, hidden = found.burn(cell)
        overwritten += hidden
        visible += np.bincount(owner[owner != NO_DRAWING], minlength=len(drawings))
    for number in np.flatnonzero(visible == 0):
        notes.append(_unseen(drawings[number], scene, grid))
    kept = tuple(each for each, pixels in zip(drawings, visible, strict=True) if pixels)
    return replace(found, drawings=kept, notes=tuple(notes), overwritten_px=overwritten)


def cut_places(
    annotated: AnnotatedScene,
    cells: Collection[BlockIndex],
    wanted: Collection[str],
    reader: SceneReader,
    *,
    margin_px: int = 0,
    away_from: Collection[BlockIndex] = (),
) -> Places:
    """Read the places at `cells`, with the labels of some of the drawings.

    Args:
        annotated: the scene and what is drawn on it.
        cells: where; those in which nothing remains labelled are left out.
        wanted: ids of the annotations whose labels are given; the others' pixels are unlabelled even where a wanted
            polygon lies beneath, since a later annotation said otherwise.
        reader: of the scene.
        margin_px: context around each place, unlabelled: images are `(side + 2 margin)²`.
        away_from: cells of which labels keep `GAP_PX` away.

    Raises:
        SceneUnreadable, SceneTooSlow, SceneChanged: as `SceneReader.read`.
        DataError: there are more places than memory should hold.
    """
    if len(cells) > MAX_PLACES:
        raise DataError(
            f"The annotations of scene '{annotated.scene.id}' reach over {len(cells)} places of "
            f"{annotated.grid.block_px} px, at most {MAX_PLACES} are taken at once; annotate less, or in rounds."
        )
    values = np.array([each.annotation.class_value for each in annotated.drawings], np.uint8)
    given = np.array([each.annotation.id in wanted for each in annotated.drawings], bool)
    images: list[LabelledImage] = []
    area_m2: dict[int, float] = {}
    withheld = 0
    for cell in sorted(cells):
        owner, _ = annotated.burn(cell)
        drawn = owner != NO_DRAWING
        keep = drawn & given[owner] & ~_near(cell, away_from, annotated.grid.block_px)
        window = annotated_window(annotated, cell, reader, margin_px)
        keep &= window.valid
        withheld += int((drawn & window.valid & ~keep).sum())
        if not keep.any():
            continue
        label = np.where(keep, values[owner], UNKNOWN).astype(np.uint8)
        pixel_m2 = annotated.grid.pixel_area_m2(cell)
        for value, pixels in zip(*np.unique(label[keep], return_counts=True), strict=True):
            area_m2[int(value)] = area_m2.get(int(value), 0.0) + float(pixels) * pixel_m2
        images.append(
            LabelledImage(
                name=f"{annotated.scene.id} row {cell.row * annotated.grid.block_px} "
                f"col {cell.col * annotated.grid.block_px}",
                image=window.image,
                label=np.pad(label, margin_px),
                group=annotated.scene.id,
                gsd_m=annotated.grid.gsd_m,
            )
        )
    return Places(images=tuple(images), area_m2=area_m2, withheld_px=withheld)


@dataclass(frozen=True, kw_only=True)
class CellWindow:
    """The pixels of a cell."""

    image: ByteArray
    """`(side + 2 margin, side + 2 margin, 3)`; past the scene's edge it is mirrored."""
    valid: npt.NDArray[np.bool_]
    """`(side, side)`: where the scene has data."""


def annotated_window(annotated: AnnotatedScene, cell: BlockIndex, reader: SceneReader, margin_px: int) -> CellWindow:
    """Read one cell as workers read blocks: pixels and their decimation are the same as in serving."""
    read = reader.read(annotated.scene, annotated.grid, cell, margin_px)
    return CellWindow(image=np.ascontiguousarray(read.image), valid=read.valid)


def burn(
    drawings: Sequence[Drawing], numbers: Iterable[int], cell: BlockIndex, grid: Grid
) -> tuple[npt.NDArray[np.int64], int]:
    """`AnnotatedScene.burn` for those of `drawings` with `numbers`, in that order."""
    side = grid.block_px
    top, left = cell.row * side, cell.col * side
    owner = np.full((side, side), NO_DRAWING, np.int64)
    values = np.array([*(each.annotation.class_value for each in drawings), UNKNOWN])  # the last for NO_DRAWING
    overwritten = 0
    height, width = min(side, grid.height_px - top), min(side, grid.width_px - left)
    for number in numbers:
        each = drawings[number]
        west, north, east, south = each.outline.bounds
        rows = max(0, int(np.floor(north)) - top), min(height, int(np.ceil(south)) - top)
        cols = max(0, int(np.floor(west)) - left), min(width, int(np.ceil(east)) - left)
        if rows[0] >= rows[1] or cols[0] >= cols[1]:
            continue
        inside = rasterio.features.rasterize(
            [(each.outline, 1)],
            out_shape=(rows[1] - rows[0], cols[1] - cols[0]),
            transform=Affine.translation(left + cols[0], top + rows[0]),
            dtype=np.uint8,
        ).astype(bool)
        part = owner[rows[0] : rows[1], cols[0] : cols[1]]
        before = values[part[inside]]
        overwritten += int(((before != UNKNOWN) & (before != each.annotation.class_value)).sum())
        part[inside] = number
    return owner, overwritten


def cells_of(outline: Area, grid: Grid) -> Iterable[BlockIndex]:
    """The cells of the grid that the bounds of each part of an outline in pixels meet."""
    side = grid.block_px
    for part in shapely.get_parts(outline):
        west, north, east, south = part.bounds
        for row in range(max(0, int(north // side)), min(grid.rows - 1, int(south // side)) + 1):
            for col in range(max(0, int(west // side)), min(grid.cols - 1, int(east // side)) + 1):
                yield BlockIndex(row, col)


def _on_grid(annotation: Annotation, scene: Scene, grid: Grid) -> tuple[Area | None, str | None]:
    """The outline in pixels of the grid, and a sentence if it lies outside or reaches beyond."""
    to_scene, to_pixels = transformer(WGS84, scene.crs), ~grid.transform

    def project(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = to_scene.transform(points[:, 0], points[:, 1])
        return np.column_stack(to_pixels @ (np.asarray(x), np.asarray(y)))

    outline: Area = shapely.transform(annotation.geometry, project)
    bounds = outline.bounds
    if not np.isfinite(bounds).all() or not (
        bounds[0] < grid.width_px and bounds[1] < grid.height_px and bounds[2] > 0 and bounds[3] > 0
    ):
        return None, f"{_named(annotation)} lies outside scene '{scene.id}' and is left out; clip it to the image."
    beyond = max(-bounds[0], -bounds[1], bounds[2] - grid.width_px, bounds[3] - grid.height_px)
    if beyond > 1:
        return outline, (
            f"{_named(annotation)} reaches {beyond:.0f} px beyond scene '{scene.id}'; only what lies on it counts."
        )
    return outline, None


def _home(outline: Area, grid: Grid) -> BlockIndex:
    point = outline.representative_point() if outline.is_valid else shapely.centroid(outline)
    row = int(np.clip(point.y // grid.block_px, 0, grid.rows - 1))
    col = int(np.clip(point.x // grid.block_px, 0, grid.cols - 1))
    return BlockIndex(row, col)


def _unseen(drawing: Drawing, scene: Scene, grid: Grid) -> str:
    alone = sum(
        int((burn([drawing], [0], cell, grid)[0] != NO_DRAWING).sum()) for cell in cells_of(drawing.outline, grid)
    )
    if alone:
        return f"{_named(drawing.annotation)} is hidden under later ones and teaches nothing; delete it or them."
    return (
        f"{_named(drawing.annotation)} covers no pixel's centre in scene '{scene.id}' (a pixel is {grid.gsd_m:.2g} m) "
        "and is left out; draw it larger."
    )


def _named(annotation: Annotation) -> str:
    return f"Annotation {annotation.id} ({annotation.class_name})"


def _near(cell: BlockIndex, others: Collection[BlockIndex], side: int) -> npt.NDArray[np.bool_]:
    """Pixels of `cell` within `GAP_PX` of one of `others`, `(side, side)`."""
    near = np.zeros((side, side), bool)
    spans = {-1: slice(0, GAP_PX), 0: slice(0, side), 1: slice(side - GAP_PX, side)}
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            if BlockIndex(cell.row + down, cell.col + right) in others:
                near[spans[down], spans[right]] = True
    return near
