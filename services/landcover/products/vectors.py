"""A class map as a file of polygons, FlatGeobuf or GeoParquet, written chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio.raw
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from landcover.classes import LandCoverClass
from landcover.errors import DestinationUnwritable
from landcover.geodesy import WGS84, apply, geodesic_area_m2, transformer
from landcover.geoparquet import BBOX, GEOMETRY, geo_metadata
from landcover.products.polygons import Polygons, trace

CHUNK_PX = 2048
"""Side of what is traced at once; polygons end at its edges."""

TOLERANCE_PX = 1.5
"""Smooths the stairs of slanted lines, keeps the corners of a building of a few pixels."""

MEDIA_TYPES = {"flatgeobuf": "application/vnd.flatgeobuf", "geoparquet": "application/vnd.apache.parquet"}
SUFFIXES = {"flatgeobuf": ".fgb", "geoparquet": ".parquet"}

_ROW_GROUP = 20_000
"""Polygons that are written together."""

_COLUMNS = (
    pa.field("class", pa.int32(), nullable=False),
    pa.field("name", pa.string(), nullable=False),
    pa.field("color", pa.string(), nullable=False),
    pa.field("area_m2", pa.float64(), nullable=False),
    pa.field("mean_confidence", pa.float64()),
)
_BOUNDS = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Where the maps to be traced are."""

    classes: Path
    """The class map, its first band."""
    confidence: Path | None
    confidence_band: int = 1


def write_vectors(
    path: Path,
    layers: Layers,
    classes: tuple[LandCoverClass, ...],
    on_progress: Callable[[float], None],
    *,
    tolerance_px: float = TOLERANCE_PX,
) -> None:
    """Write the polygons of a class map to `path`, as its suffix says, in the map's CRS.

    Columns: `class` (value), `name`, `color` (`#rrggbb`), `area_m2` (geodesic), `mean_confidence` (0..1, or nothing)
    and the geometry; in GeoParquet also `bbox`, by which readers skip what they need not read.

    Args:
        path: `X.fgb` or `X.parquet`.
        layers: the finished maps.
        classes: of the model's contract.
        on_progress: told the share that is done; what it raises ends the writing.
        tolerance_px: as in `polygons.trace`.

    Raises:
        DestinationUnwritable: no room, or no permission.
    """
    chunks = _Chunks(layers, classes, tolerance_px, on_progress)
    try:
        if path.suffix == ".fgb":
            _write_flatgeobuf(path, chunks)
        else:
            _write_geoparquet(path, chunks)
    except (RuntimeError, pa.ArrowException) as error:  # pyogrio's are RuntimeErrors
        if chunks.error is not None:
            raise chunks.error from None  # Arrow's streams carry text only
        raise DestinationUnwritable(f"{path.name} cannot be written ({error}); make room and ask again.") from error


class _Chunks:
    """The polygons of a map as Arrow's record batches, made when they are asked for."""

    def __init__(
        self,
        layers: Layers,
        classes: tuple[LandCoverClass, ...],
        tolerance_px: float,
        on_progress: Callable[[float], None],
    ) -> None:
        self._layers = layers
        self._classes = {each.value: each for each in classes}
        self._tolerance_px = tolerance_px
        self._on_progress = on_progress
        self.error: BaseException | None = None
        """What ended the making of batches."""
        with rasterio.open(layers.classes) as image:
            self.crs: str = image.crs.to_wkt()
            self.bounds: tuple[float, float, float, float] = tuple(image.bounds)

    def batches(self, *, covered: bool) -> Iterator[pa.RecordBatch]:
        """One for each chunk; `covered` adds the column `BBOX`."""
        try:
            yield from self._batches(covered=covered)
        except BaseException as error:
            self.error = error
            raise

    def _batches(self, *, covered: bool) -> Iterator[pa.RecordBatch]:
        with rasterio.open(self._layers.classes) as image:
            windows = [
                Window(left, top, min(CHUNK_PX, image.width - left), min(CHUNK_PX, image.height - top))
                for top in range(0, image.height, CHUNK_PX)
                for left in range(0, image.width, CHUNK_PX)
            ]
            for number, window in enumerate(windows):
                self._on_progress(number / len(windows))
                pixels = _surrounded(image, window)
                if pixels[1:-1, 1:-1].any():
                    polygons = trace(pixels, self._confidence(window), self._tolerance_px)
                    yield self._batch(polygons, image.window_transform(window), covered=covered)
            self._on_progress(1.0)

    def _confidence(self, window: Window) -> npt.NDArray[np.uint8] | None:
        if self._layers.confidence is None:
            return None
        with rasterio.open(self._layers.confidence) as image:
            pixels: npt.NDArray[np.uint8] = image.read(self._layers.confidence_band, window=window)
        return pixels

    def _batch(self, polygons: Polygons, transform: Affine, *, covered: bool) -> pa.RecordBatch:
        shapes = shapely.transform(
            polygons.shapes, lambda points: np.column_stack(apply(transform, points[:, 0], points[:, 1]))
        )
        shapes = shapely.orient_polygons(shapes)
        classes = [self._classes[value] for value in polygons.classes.tolist()]
        arrays = [
            pa.array(polygons.classes.astype(np.int32)),
            pa.array([each.name for each in classes], pa.string()),
            pa.array([each.color for each in classes], pa.string()),
            pa.array(_areas_m2(shapes, self.crs)),
            pa.array(polygons.mean_confidence, from_pandas=True),
        ]
        if covered:
            sides = shapely.bounds(shapes).T
            arrays.append(pa.StructArray.from_arrays(list(map(pa.array, sides)), fields=list(_BOUNDS)))
        arrays.append(pa.array(shapely.to_wkb(shapes), pa.binary()))
        return pa.record_batch(arrays, schema=schema(covered=covered))


def schema(*, covered: bool) -> pa.Schema:
    """The columns of a file of polygons."""
    bounds = [pa.field(BBOX, _BOUNDS, nullable=False)] if covered else []
    return pa.schema([*_COLUMNS, *bounds, pa.field(GEOMETRY, pa.binary(), nullable=False)])


def _write_flatgeobuf(path: Path, chunks: _Chunks) -> None:
    layout = schema(covered=False)
    known = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": json.dumps({})}
    layout = layout.set(len(layout) - 1, layout.field(GEOMETRY).with_metadata(known))
    reader = pa.RecordBatchReader.from_batches(layout, (batch.cast(layout) for batch in chunks.batches(covered=False)))
    pyogrio.raw.write_arrow(
        reader,
        str(path),
        layer=path.stem,
        driver="FlatGeobuf",
        geometry_name=GEOMETRY,
        geometry_type="Polygon",
        crs=chunks.crs,
    )


def _write_geoparquet(path: Path, chunks: _Chunks) -> None:
    metadata = geo_metadata(chunks.crs, ["Polygon"], chunks.bounds, covered=True)
    layout = schema(covered=True).with_metadata(metadata)
    with pq.ParquetWriter(path, layout, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in chunks.batches(covered=True):
            waiting.append(batch)
            if sum(map(len, waiting)) >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(waiting).cast(layout))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting).cast(layout))


def _surrounded(image: Any, window: Window) -> npt.NDArray[np.uint8]:
    """Classes of a window and one pixel around it, 0 beyond the map."""
    pixels = np.zeros((window.height + 2, window.width + 2), np.uint8)
    top, left = max(window.row_off - 1, 0), max(window.col_off - 1, 0)
    bottom = min(window.row_off + window.height + 1, image.height)
    right = min(window.col_off + window.width + 1, image.width)
    row, col = top - (window.row_off - 1), left - (window.col_off - 1)
    found = image.read(1, window=Window(left, top, right - left, bottom - top))
    pixels[row : row + found.shape[0], col : col + found.shape[1]] = found
    return pixels


def _areas_m2(shapes: npt.NDArray[np.object_], crs: str) -> npt.NDArray[np.float64]:
    """Geodesic area of each polygon: of its shell less its holes."""
    rings, polygon = shapely.get_rings(shapes, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    lon, lat = transformer(crs, WGS84).transform(points[:, 0], points[:, 1])
    ends = np.flatnonzero(np.diff(ring, append=-1)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    areas = np.array(
        [geodesic_area_m2(lon[a : b - 1], lat[a : b - 1]) for a, b in zip(starts, ends, strict=True)], np.float64
    )
    shells = np.diff(polygon, prepend=-1) > 0
    totals: npt.NDArray[np.float64] = np.bincount(polygon, weights=np.where(shells, areas, -areas)).astype(np.float64)
    return totals
