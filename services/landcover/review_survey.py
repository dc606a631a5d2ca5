"""A scene's windows, block by block: what is asked for, the doubt of each window, and what one window holds.

Blocks come one at a time and none is kept, so that a scene of thousands costs little memory. The service feeds it
from its cache, `landcover review FILE` from the network; both rank by the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landcover import review
from landcover.block import Histogram
from landcover.contract import Contract
from landcover.errors import InvalidRequest, RequestTooLarge
from landcover.grid import BlockIndex, Grid
from landcover.review import EDGE_LINES, ByteArray, FloatArray, Measure

DEFAULT_MEASURE: Measure = "confidence"
"""As good as entropy on labelled scenes (docs/review.md), and of whole blocks it is known without decoding them."""

DEFAULT_MIN_MAPPED = 0.5
"""Slivers at a scene's edge are often doubtful throughout, but cost a visit and hold few errors (docs/review.md)."""

DEFAULT_SPREAD = 1.0
DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
MAX_WINDOWS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class ReviewRequest:
    """What a review is asked for."""

    by: Measure = DEFAULT_MEASURE
    window_px: int
    """Side of a window: a power of two, at most the block's."""
    limit: int = DEFAULT_LIMIT
    spread: float = DEFAULT_SPREAD
    """Radius in windows within which a chosen window lessens the others' doubt; 0 for the plain ranking."""
    min_mapped: float = DEFAULT_MIN_MAPPED
    """Share of a window's square that must be mapped."""


def check_request(request: ReviewRequest, grid: Grid, *, against: Grid | None) -> None:
    """Refuse what cannot be ranked on `grid`; `against` is the second model's grid.

    Raises:
        InvalidRequest: the window does not divide blocks, or there is no second map of the same pixels.
        RequestTooLarge: the scene has too many such windows.
    """
    side, block = request.window_px, grid.block_px
    if side < 1 or side > block or side & (side - 1):
        raise InvalidRequest(
            f"window must be a power of two of at most {block} px, the side of this model's blocks (got {side})."
        )
    if (count := grid.rows * grid.cols * (block // side) ** 2) > MAX_WINDOWS:
        raise RequestTooLarge(
            f"This scene has {count} windows of {side} px; at most {MAX_WINDOWS} are ranked. Ask for a larger window."
        )
    if request.by == "disagreement" and against is None:
        raise InvalidRequest("Disagreement needs a second model: name it with against; GET /models lists them.")
    if against and (against.decimation, against.block_px) != (grid.decimation, block):
        raise InvalidRequest(
            f"The two models see other pixels: one blocks of {block} px at 1/{grid.decimation} of the scene's "
            f"resolution, the other of {against.block_px} px at 1/{against.decimation}. Compare models that were "
            "exported with the same window, halo and range of ground sample distances."
        )


class Survey:
    """The doubt of every window by one measure, filled in block by block in any order."""

    def __init__(self, request: ReviewRequest, grid: Grid, contract: Contract) -> None:
        self._request = request
        self._grid = grid
        self._class_count = len(contract.classes)
        per_block = grid.block_px // request.window_px
        self._doubt = np.full((grid.rows * per_block, grid.cols * per_block), np.nan)
        self._edges = self._no_edges() if request.by == "seams" else None
        self._mapped: set[BlockIndex] = set()

    @property
    def mapped(self) -> int:
        """How many blocks were added."""
        return len(self._mapped)

    @property
    def needs_maps(self) -> bool:
        """Whether blocks must be added with `add`; else their histograms are enough."""
        return self._request.by != "confidence" or self._request.window_px != self._grid.block_px

    def add(
        self, index: BlockIndex, classes: ByteArray, confidence: ByteArray, others: ByteArray | None = None
    ) -> None:
        """Add a block's maps `(block, block)`; `others` is the second model's class map."""
        by, side, least = self._request.by, self._request.window_px, self._request.min_mapped
        self._mapped.add(index)
        if self._edges is not None:
            rows, cols = self._edges
            block = self._grid.block_px
            rows[index.row, :, index.col * block : (index.col + 1) * block] = classes[EDGE_LINES, :]
            cols[index.col, :, index.row * block : (index.row + 1) * block] = classes[:, EDGE_LINES].T
            # until `doubt` knows the neighbours: which windows have enough pixels
            self._put(index, np.where(review.mapped_share(classes, side) >= least, 0.0, np.nan))
        elif by == "confidence":
            self._put(index, review.confidence_doubt(classes, confidence, side, min_mapped=least))
        elif by == "entropy":
            self._put(index, review.entropy_doubt(classes, confidence, side, self._class_count, min_mapped=least))
        elif others is None:
            raise ValueError("disagreement needs the other model's map")
        else:
            self._put(index, review.disagreement_doubt(classes, others, side, min_mapped=least))

    def add_histogram(self, index: BlockIndex, histogram: Histogram) -> None:
        """Add a block by its histogram alone, where `needs_maps` is False."""
        self._mapped.add(index)
        pixels, confidence = (each[1:].sum(keepdims=True)[None] for each in (histogram.pixels, histogram.confidence))
        side = self._request.window_px
        self._put(index, review.mean_doubt(pixels, confidence, side, min_mapped=self._request.min_mapped))

    def doubt(self) -> FloatArray:
        """The doubt of every window `(rows, cols)`; NaN where there is none to be told."""
        if self._edges is None:
            return self._doubt
        side, block, least = self._request.window_px, self._grid.block_px, self._request.min_mapped
        return self._doubt + review.seams_from_edges(*self._edges, side, block, min_mapped=least)

    def _put(self, index: BlockIndex, doubt: FloatArray) -> None:
        rows, cols = doubt.shape
        self._doubt[index.row * rows : (index.row + 1) * rows, index.col * cols : (index.col + 1) * cols] = doubt

    def _no_edges(self) -> tuple[ByteArray, ByteArray]:
        grid, lines = self._grid, len(EDGE_LINES)
        return (
            np.zeros((grid.rows, lines, grid.cols * grid.block_px), np.uint8),
            np.zeros((grid.cols, lines, grid.rows * grid.block_px), np.uint8),
        )


@dataclass(frozen=True, kw_only=True)
class RankedWindow:
    """A window that was chosen, in rank order."""

    row: int
    col: int
    """Counted in windows from the scene's origin."""
    doubt: float

    def block(self, request: ReviewRequest, grid: Grid) -> BlockIndex:
        """The block that holds it."""
        per_block = grid.block_px // request.window_px
        return BlockIndex(self.row // per_block, self.col // per_block)


def rank(doubt: FloatArray, request: ReviewRequest) -> list[RankedWindow]:
    """The windows to look at, worst first."""
    order = review.spread_order(doubt, radius=request.spread, limit=request.limit)
    return [RankedWindow(row=row, col=col, doubt=float(doubt[row, col])) for row, col in order]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What one window holds."""

    pixels: Sequence[int]
    """Pixels of each class value, index 0 = unknown."""
    confidence: float
    """Mean of 1 - p; the names are those of `Measure`."""
    entropy: float
    disagreement: float | None


def contents(
    window: RankedWindow,
    request: ReviewRequest,
    contract: Contract,
    classes: ByteArray,
    confidence: ByteArray,
    others: ByteArray | None = None,
) -> Contents:
    """What `window` holds, from the maps `(block, block)` of its block."""
    side = request.window_px
    per_block = len(classes) // side
    top, left = window.row % per_block * side, window.col % per_block * side
    at = slice(top, top + side), slice(left, left + side)
    inside, sure = classes[at], confidence[at]
    least = request.min_mapped
    disagreement = None
    if others is not None:
        share = float(review.disagreement_doubt(inside, others[at], side, min_mapped=least)[0, 0])
        disagreement = None if np.isnan(share) else share
    return Contents(
        pixels=np.bincount(inside.ravel(), minlength=contract.max_value + 1).tolist(),
        confidence=float(review.confidence_doubt(inside, sure, side, min_mapped=least)[0, 0]),
        entropy=float(review.entropy_doubt(inside, sure, side, len(contract.classes), min_mapped=least)[0, 0]),
        disagreement=disagreement,
    )
