"""The review as GeoJSON: ranked windows as polygons of longitude and latitude, and what the ranking is about."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcover.contract import ModelFile
from landcover.geodesy import WGS84, outline, transformer
from landcover.grid import Grid
from landcover.review_survey import Contents, RankedWindow, ReviewRequest
from landcover.scene import Scene

MEDIA_TYPE = "application/geo+json"

_OUTLINE_SEGMENTS = 8
_DECIMALS = 7
"""Of a degree: about a centimetre."""
_MOST_CLASSES = 3

Bounds = tuple[float, float, float, float]
"""West, south, east, north, degrees. East is above 180 where a window lies across the antimeridian."""


@dataclass(frozen=True, kw_only=True)
class Review:
    """A finished ranking, and all that its document says of it."""

    scene: Scene
    model: ModelFile
    grid: Grid
    request: ReviewRequest
    against: ModelFile | None
    windows: Sequence[tuple[RankedWindow, Contents | None]]
    """In rank order; without contents if the window's block has left the cache meanwhile."""
    candidates: int
    """Windows of which doubt is known, chosen or not."""
    mapped: int
    """Blocks that were ranked."""
    note: str | None = None
    """A sentence on what is not in the ranking."""

    @property
    def total(self) -> int:
        """Blocks of the scene."""
        return self.grid.rows * self.grid.cols

    @property
    def complete(self) -> bool:
        """Whether every block was ranked."""
        return self.mapped == self.total


def document(review: Review, links: Callable[[Bounds], dict[str, str]] | None = None) -> dict[str, Any]:
    """The review as a GeoJSON FeatureCollection; `links` are the addresses for a window of these bounds."""
    grid, request, note = review.grid, review.request, review.note
    if review.complete and not review.candidates:
        note = _NOTHING_TO_RANK[request.by == "seams"]
    return {
        "type": "FeatureCollection",
        "scene": review.scene.id,
        "version": review.scene.version,
        "model": review.model.name,
        "model_digest": review.model.digest,
        "against": review.against.name if review.against else None,
        "against_digest": review.against.digest if review.against else None,
        "measure": request.by,
        "window_px": request.window_px,
        "spread": request.spread,
        "min_mapped": request.min_mapped,
        "gsd_m": grid.gsd_m,
        "blocks": {"total": review.total, "mapped": review.mapped},
        "windows": {"candidates": review.candidates, "ranked": len(review.windows)},
        "complete": review.complete,
        "note": note,
        "features": [
            _feature(review, rank, window, inside, links)
            for rank, (window, inside) in enumerate(review.windows, start=1)
        ],
    }


_NOTHING_TO_RANK = {
    False: "No window has enough mapped pixels to be ranked; a smaller min_mapped asks for less.",
    True: "No window meets a mapped block beyond its edge, so that there are no seams to look at; rank by another "
    "measure.",
}


def ring_of(grid: Grid, window: RankedWindow, side_px: int) -> npt.NDArray[np.float64]:
    """The outline of a window's part inside the scene, closed and counterclockwise: `(points, 2)`, degrees.

    Longitudes go on above 180 across the antimeridian, so that the ring stays in one piece.
    """
    top, left = window.row * side_px, window.col * side_px
    bottom, right = min(top + side_px, grid.height_px), min(left + side_px, grid.width_px)
    x, y = grid.transform @ tuple(outline(left, top, right, bottom, segments=_OUTLINE_SEGMENTS))
    lon, lat = transformer(grid.crs, WGS84).transform(x, y)
    if np.ptp(lon) > 180:
        lon = np.where(lon < 0, lon + 360, lon)
    if np.sum(lon * np.roll(lat, -1) - np.roll(lon, -1) * lat) < 0:
        lon, lat = lon[::-1], lat[::-1]
    ring = np.stack([lon, lat], axis=1).round(_DECIMALS)
    return np.concatenate([ring, ring[:1]])


def map_position(bounds: Bounds) -> tuple[float, float, float]:
    """Zoom, latitude and longitude at which the map page shows a window with some of its surroundings."""
    west, south, east, north = bounds
    zoom = math.log2(360 / max(east - west, 1e-9)) - 0.5  # MapLibre: 512 px for 360° at zoom 0
    return round(min(max(zoom, 0.0), 22.0), 2), round((south + north) / 2, 6), round((west + east) / 2, 6)


def _feature(
    review: Review,
    rank: int,
    window: RankedWindow,
    inside: Contents | None,
    links: Callable[[Bounds], dict[str, str]] | None,
) -> dict[str, Any]:
    side, grid, by = review.request.window_px, review.grid, review.request.by
    ring = ring_of(grid, window, side)
    west, south = ring.min(axis=0).tolist()
    east, north = ring.max(axis=0).tolist()
    row_px, col_px = window.row * side, window.col * side
    measures = {
        "doubt_confidence": inside and inside.confidence,
        "doubt_entropy": inside and inside.entropy,
        "doubt_disagreement": inside and inside.disagreement,
        "doubt_seams": None,
    } | {f"doubt_{by}": window.doubt}
    properties = {
        "rank": rank,
        "doubt": window.doubt,
        **measures,
        "row_px": row_px,
        "col_px": col_px,
        "height_px": min(side, grid.height_px - row_px),
        "width_px": min(side, grid.width_px - col_px),
        **_classes(review, inside),
    }
    bounds = (west, south, east, north)
    return {
        "type": "Feature",
        "id": rank,
        "bbox": list(bounds),
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
        "properties": properties | ({"links": links(bounds)} if links else {}),
    }


def _classes(review: Review, inside: Contents | None) -> dict[str, Any]:
    """The most frequent classes of a window, and how sure the model is of them."""
    if inside is None:
        return {"mean_confidence": None, "dominant_class": None, "classes": None}
    mapped = max(sum(inside.pixels[1:]), 1)
    named = sorted(review.model.contract.classes, key=lambda each: (-inside.pixels[each.value], each.value))
    frequent = [each for each in named[:_MOST_CLASSES] if inside.pixels[each.value]]
    return {
        "mean_confidence": 1 - inside.confidence,
        "dominant_class": frequent[0].name if frequent else None,
        "classes": [
            {"value": each.value, "name": each.name, "share": inside.pixels[each.value] / mapped} for each in frequent
        ],
    }
