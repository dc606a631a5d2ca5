"""Areas by class: from blocks, against exactextract over the whole class map and pyproj's geodesics."""

from __future__ import annotations

import math

import morecantile
import numpy as np
import pytest
from affine import Affine
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from landcover import block
from landcover.classes import OPENEARTHMAP
from landcover.grid import Grid
from landcover_api import statistics
from landcover_api.extents import tile_matrix_set, tms_crs

MAX_VALUE = 8
PLACE = 139.77, 35.68
MERCATOR = tile_matrix_set("WebMercatorQuad")


def grid_at_place(crs: str, step: Affine, *, width: int = 300, height: int = 230) -> Grid:
    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(*PLACE)
    dx, dy = step @ (width / 2, height / 2)
    transform = Affine.translation(x - dx, y - dy) @ step
    return Grid(
        crs=crs, transform=transform, width_px=width, height_px=height, decimation=1, block_px=64, gsd_m=0.5
    )  # fmt: skip


GRIDS = {
    "UTM": grid_at_place("EPSG:32654", Affine.scale(0.5, -0.5)),
    "Web Mercator": grid_at_place("EPSG:3857", Affine.scale(0.6, -0.6)),
    "degrees": grid_at_place("EPSG:4326", Affine.scale(5e-6, -5e-6)),
    "rotated": grid_at_place("EPSG:32654", Affine.rotation(30) @ Affine.scale(0.5, -0.5)),
    "south-up": grid_at_place("EPSG:6677", Affine.scale(0.5, 0.5)),
}


def random_map(grid: Grid, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class map and confidence of the whole grid, in patches, some unknown."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, MAX_VALUE + 1, (-(-grid.height_px // 7), -(-grid.width_px // 7)), dtype=np.uint8)
    classes = patches.repeat(7, axis=0).repeat(7, axis=1)[: grid.height_px, : grid.width_px]
    confidence = np.where(classes > 0, rng.integers(1, 256, classes.shape), 0).astype(np.uint8)
    return classes, confidence


def tally_of(grid: Grid, region: statistics.Region, classes: np.ndarray, confidence: np.ndarray) -> statistics.Tally:
    """What the API does, with every block at hand."""
    padded = np.zeros((2, grid.rows * 64, grid.cols * 64), np.uint8)
    padded[:, : grid.height_px, : grid.width_px] = classes, confidence
    tally = statistics.Tally(MAX_VALUE)
    touched = statistics.coverage(grid, region)
    assert not set(touched.whole) & set(touched.partial)
    for index in (*touched.whole, *touched.partial):
        part = padded[:, index.row * 64 : index.row * 64 + 64, index.col * 64 : index.col * 64 + 64]
        if index in touched.whole:
            fields = block.encode(part[0], part[1], MAX_VALUE)
            statistics.add_whole(tally, grid, index, block.decode_histogram(fields[block.HISTOGRAM_FIELD]))
        else:
            statistics.add_partial(tally, grid, region, index, part[0], part[1])
    return tally


def exact_pixels(grid: Grid, ring: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(Fractional) pixels of each value inside a ring of grid coordinates, by exactextract in one go."""
    source = NumPyRasterSource(classes, xmin=0, ymin=-grid.height_px, xmax=grid.width_px, ymax=0, name="classes")
    polygon = {"type": "Polygon", "coordinates": [[[float(x), -float(y)] for x, y in ring]]}
    (answer,) = exact_extract(
        source, {"type": "Feature", "properties": {}, "geometry": polygon}, ["unique", "frac", "count"]
    )
    found = answer["properties"]
    pixels = np.zeros(MAX_VALUE + 1)
    if found["count"]:
        pixels[np.asarray(found["unique"], int)] = np.asarray(found["frac"]) * found["count"]
    return pixels


def exact_ring(grid: Grid, crs: str, bounds: tuple[float, float, float, float]) -> tuple[np.ndarray, float]:
    """A rectangle's outline in grid coordinates and its area, with many more points than ours."""
    xmin, ymin, xmax, ymax = bounds
    t = np.linspace(0, 1, 2000, endpoint=False)
    x = np.concatenate([xmin + t * (xmax - xmin), np.full(2000, xmax), xmax - t * (xmax - xmin), np.full(2000, xmin)])
    y = np.concatenate([np.full(2000, ymin), ymin + t * (ymax - ymin), np.full(2000, ymax), ymax - t * (ymax - ymin)])
    lon, lat = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(x, y)
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    cols, rows = ~grid.transform @ Transformer.from_crs(crs, grid.crs, always_xy=True).transform(x, y)
    ring = np.stack([cols, rows], axis=1)
    return np.vstack([ring, ring[:1]]), abs(area)


@pytest.mark.parametrize("zoom", [14, 17, 18, 19, 21])
@pytest.mark.parametrize("name", GRIDS)
def test_tiles_count_what_exactextract_counts(name: str, zoom: int) -> None:
    grid = GRIDS[name]
    classes, confidence = random_map(grid)
    tile = MERCATOR.tile(*PLACE, zoom)
    counted = 0.0
    for x, y in ((tile.x, tile.y), (tile.x + 1, tile.y), (tile.x, tile.y - 1)):
        bounds = tuple(MERCATOR.xy_bounds(morecantile.Tile(x, y, zoom)))
        region = statistics.rectangle_region(grid, tms_crs("WebMercatorQuad"), bounds)
        tally = tally_of(grid, region, classes, confidence)
        ring, area_m2 = exact_ring(grid, "EPSG:3857", bounds)
        expected = exact_pixels(grid, ring, classes)
        assert tally.pixels == pytest.approx(expected, abs=0.02)
        assert region.area_m2 == pytest.approx(area_m2, rel=1e-6)
        counted += tally.pixels.sum()
    assert counted > 0


@pytest.mark.parametrize("name", GRIDS)
def test_the_whole_scene_has_its_true_area(name: str) -> None:
    grid = GRIDS[name]
    classes = np.full((grid.height_px, grid.width_px), 3, np.uint8)
    bounds = tuple(MERCATOR.xy_bounds(*MERCATOR.tiles(*PLACE, *PLACE, zooms=10)))
    region = statistics.rectangle_region(grid, tms_crs("WebMercatorQuad"), bounds)
    tally = tally_of(grid, region, classes, classes)
    t = np.linspace(0, 1, 500)
    outline = [(t, 0 * t), (1 + 0 * t, t), (1 - t, 1 + 0 * t), (0 * t, 1 - t)]
    cols = np.concatenate([side[0] for side in outline]) * grid.width_px
    rows = np.concatenate([side[1] for side in outline]) * grid.height_px
    lon, lat = Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True).transform(*(grid.transform @ (cols, rows)))
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    assert tally.pixels[3] == pytest.approx(grid.width_px * grid.height_px)
    assert tally.area_m2[3] == pytest.approx(abs(area), rel=1e-7)


@pytest.mark.parametrize("zoom", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("name", GRIDS)
def test_the_zooms_of_the_whole_world(name: str, zoom: int) -> None:
    """The grid's CRS reaches no corner of such a tile, and half the Earth's outline has two insides."""
    grid = GRIDS[name]
    tile = MERCATOR.tile(*PLACE, zoom)
    bounds = MERCATOR.xy_bounds(tile)
    region = statistics.rectangle_region(grid, tms_crs("WebMercatorQuad"), tuple(bounds))
    touched = statistics.coverage(grid, region)
    assert len(touched.whole) + len(touched.partial) == grid.rows * grid.cols
    assert len(touched.whole) == (grid.height_px // 64) * (grid.width_px // 64)
    box = MERCATOR.bounds(tile)
    assert region.area_m2 == pytest.approx(band_area_m2(box.bottom, box.top, box.right - box.left), rel=1e-4)
    if zoom:
        elsewhere = MERCATOR.xy_bounds(morecantile.Tile(0, tile.y, zoom))
        far = statistics.rectangle_region(grid, tms_crs("WebMercatorQuad"), tuple(elsewhere))
        assert statistics.coverage(grid, far) == statistics.Coverage(whole=(), partial=())


def band_area_m2(south: float, north: float, degrees: float) -> float:
    """Area between two parallels and two meridians of WGS 84 (Snyder 1987, eq. 3-12)."""
    a, f = 6378137.0, 1 / 298.257223563
    e = math.sqrt(f * (2 - f))

    def q(latitude: float) -> float:
        s = math.sin(math.radians(latitude))
        return (1 - e * e) * (s / (1 - (e * s) ** 2) - math.log((1 - e * s) / (1 + e * s)) / (2 * e))

    return a * a / 2 * math.radians(degrees) * (q(north) - q(south))


@given(st.floats(-50, 350), st.floats(-50, 280), st.floats(0.01, 400), st.floats(0.01, 400), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_any_box_in_the_grids_own_crs(left: float, top: float, width: float, height: float, seed: int) -> None:
    """Shares by plain arithmetic: each pixel counts by the product of its overlaps."""
    grid = GRIDS["UTM"]
    classes, confidence = random_map(grid, seed)
    x0, y1 = grid.transform @ (left, top)
    x1, y0 = grid.transform @ (left + width, top + height)
    tally = tally_of(grid, statistics.rectangle_region(grid, grid.crs, (x0, y0, x1, y1)), classes, confidence)
    cols, rows = np.arange(grid.width_px), np.arange(grid.height_px)
    across = np.clip(np.minimum(cols + 1, left + width) - np.maximum(cols, left), 0, 1)
    down = np.clip(np.minimum(rows + 1, top + height) - np.maximum(rows, top), 0, 1)
    share = np.outer(down, across)
    for value in range(MAX_VALUE + 1):
        chosen = classes == value
        assert tally.pixels[value] == pytest.approx(share[chosen].sum(), abs=0.01)
        assert tally.confidence[value] == pytest.approx((share * confidence)[chosen].sum(), abs=2.0)


def test_the_document_by_hand() -> None:
    """Two square metres a pixel: 3 roads of confidence 255, 1 tree of 51, 4 unknown; a region of 20 m²."""
    tally = statistics.Tally(MAX_VALUE)
    pixels, confidence = np.zeros(9), np.zeros(9)
    pixels[[0, 4, 5]] = 4, 3, 1
    confidence[[4, 5]] = 3 * 255, 51
    tally.add(pixels, confidence, 2.0)
    document = statistics.summary(tally, OPENEARTHMAP, 20.0)
    assert document["total_area_m2"] == 20.0
    assert document["mapped_area_m2"] == 8.0
    assert document["coverage"] == pytest.approx(0.4)
    classes = {each["name"]: each for each in document["classes"]}
    assert [each["value"] for each in document["classes"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert classes["road"] == {
        "value": 4, "name": "road", "color": "#ffffff", "pixels": 3.0, "area_m2": 6.0, "share": 0.75,
        "mean_confidence": 1.0, "adjusted_area_m2": None, "adjusted_ci95_m2": None,
    }  # fmt: skip
    assert classes["tree"]["mean_confidence"] == pytest.approx(0.2)
    assert classes["water"]["pixels"] == classes["water"]["share"] == classes["water"]["mean_confidence"] == 0.0


@pytest.mark.parametrize("total_area_m2", [0.0, 100.0])
def test_a_document_of_nothing(total_area_m2: float) -> None:
    document = statistics.summary(statistics.Tally(MAX_VALUE), OPENEARTHMAP, total_area_m2)
    assert document["coverage"] == document["mapped_area_m2"] == 0.0
    assert all(each["share"] == 0.0 for each in document["classes"])
