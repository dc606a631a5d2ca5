"""Areas by class: from blocks, against exactextract over the whole class map and pyproj's geodesics."""

from __future__ import annotations

import math
from dataclasses import replace

import morecantile
import numpy as np
import pytest
import shapely
from affine import Affine
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from shapely import MultiPolygon, Polygon

from landcover import block
from landcover.grid import BlockIndex, Grid
from landcover.statistics import cells, tally
from landcover.statistics.cells import Square
from landcover.statistics.region import Region, box_region, polygon_region
from landcover_api.extents import tile_matrix_set, tms_crs

MAX_VALUE = 8
PLACE = 139.77, 35.68
MERCATOR = tile_matrix_set("WebMercatorQuad")


def grid_at_place(
    crs: str,
    step: Affine,
    *,
    width: int = 300,
    height: int = 230,
    place: tuple[float, float] = PLACE,
    block_px: int = 64,
) -> Grid:
    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(*place)
    dx, dy = step @ (width / 2, height / 2)
    transform = Affine.translation(x - dx, y - dy) @ step
    return Grid(
        crs=crs, transform=transform, width_px=width, height_px=height, decimation=1, block_px=block_px, gsd_m=0.5
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


def leaves(grid: Grid, square: Square) -> list[Square]:
    return [square] if square.level == 0 else [leaf for child in square.children(grid) for leaf in leaves(grid, child)]


def counted(grid: Grid, region: Region, classes: np.ndarray, confidence: np.ndarray, least: int = 0) -> np.ndarray:
    """What the API counts, with every block at hand: pixels, confidence and area of each value."""
    side = grid.block_px
    padded = np.zeros((2, grid.rows * side, grid.cols * side), np.uint8)
    padded[:, : grid.height_px, : grid.width_px] = classes, confidence
    table = tally.empty_table(MAX_VALUE)
    found = cells.cover(grid, region)
    whole = [leaf.block for square in found.whole for leaf in leaves(grid, square)]
    assert len({*whole, *found.edge}) == len(whole) + len(found.edge)
    for index in (*whole, *found.edge):
        part = padded[:, index.row * side : (index.row + 1) * side, index.col * side : (index.col + 1) * side]
        if index in found.edge:
            share, areas = cells.shares(grid, region, index), tally.pixel_areas_m2(grid, index)
            table += tally.edge_table(share, areas, part[0], part[1], least, MAX_VALUE)
        else:
            fields = block.encode(part[0], part[1], MAX_VALUE)
            table += tally.whole_table(grid, index, fields[tally.whole_field(least)], least)
    return table


def exact_pixels(grid: Grid, shape: np.ndarray | Polygon, classes: np.ndarray) -> np.ndarray:
    """(Fractional) pixels of each value inside a ring or polygon of grid coordinates, by exactextract in one go."""
    source = NumPyRasterSource(classes, xmin=0, ymin=-grid.height_px, xmax=grid.width_px, ymax=0, name="classes")
    polygon = shapely.transform(shape if isinstance(shape, Polygon) else Polygon(shape), lambda p: p * (1, -1))
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(polygon)}
    (answer,) = exact_extract(source, feature, ["unique", "frac", "count"])
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
    total = 0.0
    for x, y in ((tile.x, tile.y), (tile.x + 1, tile.y), (tile.x, tile.y - 1)):
        bounds = tuple(MERCATOR.xy_bounds(morecantile.Tile(x, y, zoom)))
        region = box_region(grid, tms_crs("WebMercatorQuad"), bounds)
        pixels = counted(grid, region, classes, confidence)[0]
        ring, area_m2 = exact_ring(grid, "EPSG:3857", bounds)
        expected = exact_pixels(grid, ring, classes)
        assert pixels[1:] == pytest.approx(expected[1:], abs=0.02)
        assert region.area_m2 == pytest.approx(area_m2, rel=1e-6)
        total += pixels.sum()
    assert total > 0


@pytest.mark.parametrize("name", GRIDS)
def test_the_whole_scene_has_its_true_area(name: str) -> None:
    grid = GRIDS[name]
    classes = np.full((grid.height_px, grid.width_px), 3, np.uint8)
    bounds = tuple(MERCATOR.xy_bounds(*MERCATOR.tiles(*PLACE, *PLACE, zooms=10)))
    region = box_region(grid, tms_crs("WebMercatorQuad"), bounds)
    pixels, _, area_m2 = counted(grid, region, classes, classes)
    t = np.linspace(0, 1, 500)
    outline = [(t, 0 * t), (1 + 0 * t, t), (1 - t, 1 + 0 * t), (0 * t, 1 - t)]
    cols = np.concatenate([side[0] for side in outline]) * grid.width_px
    rows = np.concatenate([side[1] for side in outline]) * grid.height_px
    lon, lat = Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True).transform(*(grid.transform @ (cols, rows)))
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    assert pixels[3] == pytest.approx(grid.width_px * grid.height_px)
    assert area_m2[3] == pytest.approx(abs(area), rel=1e-7)


@pytest.mark.parametrize("zoom", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("name", GRIDS)
def test_the_zooms_of_the_whole_world(name: str, zoom: int) -> None:
    """The grid's CRS reaches no corner of such a tile, and half the Earth's outline has two insides."""
    grid = GRIDS[name]
    tile = MERCATOR.tile(*PLACE, zoom)
    bounds = MERCATOR.xy_bounds(tile)
    region = box_region(grid, tms_crs("WebMercatorQuad"), tuple(bounds))
    found = cells.cover(grid, region)
    assert not found.edge
    assert sum(len(leaves(grid, square)) for square in found.whole) == grid.rows * grid.cols
    box = MERCATOR.bounds(tile)
    assert region.area_m2 == pytest.approx(band_area_m2(box.bottom, box.top, box.right - box.left), rel=1e-4)
    if zoom:
        elsewhere = MERCATOR.xy_bounds(morecantile.Tile(0, tile.y, zoom))
        far = box_region(grid, tms_crs("WebMercatorQuad"), tuple(elsewhere))
        assert cells.cover(grid, far) == cells.Cover(whole=(), edge=())


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
    pixels, sums, _ = counted(grid, box_region(grid, grid.crs, (x0, y0, x1, y1)), classes, confidence)
    cols, rows = np.arange(grid.width_px), np.arange(grid.height_px)
    across = np.clip(np.minimum(cols + 1, left + width) - np.maximum(cols, left), 0, 1)
    down = np.clip(np.minimum(rows + 1, top + height) - np.maximum(rows, top), 0, 1)
    share = np.outer(down, across)
    for value in range(MAX_VALUE + 1):
        chosen = classes == value
        assert pixels[value] == pytest.approx(share[chosen].sum(), abs=0.01)
        assert sums[value] == pytest.approx((share * confidence)[chosen].sum(), abs=2.0)


def star(rng: np.random.Generator, x: float, y: float, radius: float, points: int, holes: int) -> Polygon:
    """A concave polygon around a point, with small holes in it."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False) + rng.uniform(0, 2 * np.pi / points)
    reach = rng.uniform(0.35, 1, points) * radius
    shell = Polygon(np.column_stack([x + reach * np.cos(angles), y + reach * np.sin(angles)]))
    for turn in range(holes):
        at = 0.15 * radius * np.array([np.cos(2.1 * turn), np.sin(2.1 * turn)])
        shell = shell.difference(Polygon(np.array([x, y]) + at + 0.1 * radius * np.array([[0, 0], [1, 0.2], [0.3, 1]])))
    return shell


@given(
    st.integers(0, 10_000), st.floats(-60, 360), st.floats(-60, 290), st.sampled_from([0.02, 0.7, 9, 60, 250]),
    st.integers(3, 40), st.integers(0, 3), st.sampled_from([32, 64, 128, 512]), st.sampled_from(sorted(GRIDS)),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_polygon_is_what_exactextract_says_of_the_whole_map(
    seed: int, col: float, row: float, radius: float, points: int, holes: int, block_px: int, name: str
) -> None:
    grid = replace(GRIDS[name], block_px=block_px)
    classes, confidence = random_map(grid, seed)
    drawn = star(np.random.default_rng(seed), col + 0.01234567, row + 0.0765432, radius, points, holes)
    there = shapely.transform(drawn, lambda points: np.column_stack(grid.transform @ tuple(points.T)))
    pixels, sums, area_m2 = counted(grid, polygon_region(grid, grid.crs, there), classes, confidence)
    expected = exact_pixels(grid, drawn, classes)
    rounding = 1.2e-7 + 3e-9 * drawn.length  # two shares to single precision, coordinates of millions of metres
    assert pixels[1:] == pytest.approx(expected[1:], rel=1e-9, abs=rounding)
    inside = shapely.intersection(drawn, shapely.box(0, 0, grid.width_px, grid.height_px))
    assert pixels.sum() == pytest.approx(inside.area, rel=1e-8, abs=1e-6)
    for threshold in (100, 255):
        sure = np.where(confidence >= threshold, classes, 0)
        kept = counted(grid, polygon_region(grid, grid.crs, there), classes, confidence, threshold)
        assert kept[0][1:] == pytest.approx(exact_pixels(grid, drawn, sure)[1:], rel=1e-9, abs=rounding)
        assert kept[0].sum() == pytest.approx(pixels.sum())
    assert (sums <= 255 * pixels + 1e-6).all() and (area_m2 > 0).tolist() == (pixels > 0).tolist()


@pytest.mark.parametrize("name", GRIDS)
def test_what_four_tiles_hold_is_what_their_parent_holds(name: str) -> None:
    grid = GRIDS[name]
    classes, confidence = random_map(grid)
    for zoom in (12, 15, 17, 18, 20):
        parent = MERCATOR.tile(*PLACE, zoom)

        def table(tile: morecantile.Tile) -> np.ndarray:
            region = box_region(grid, tms_crs("WebMercatorQuad"), tuple(MERCATOR.xy_bounds(tile)))
            return counted(grid, region, classes, confidence)

        children = sum(table(tile) for tile in MERCATOR.children(parent))
        whole = table(parent)
        assert children[:2] == pytest.approx(whole[:2], rel=1e-8, abs=1e-5)
        assert children[2] == pytest.approx(whole[2], rel=1e-6)  # whole blocks have one area for all their pixels


NATIONAL = {
    "Web Mercator": ("EPSG:3857", 1.0),
    "degrees": ("EPSG:4326", 1e-5),
    "UTM 31N": ("EPSG:32631", 1.0),
    "Lambert, Europe": ("EPSG:3035", 1.0),
    "Dutch grid": ("EPSG:28992", 1.0),
    "Swedish grid": ("EPSG:3006", 1.0),
    "Lambert-93, France": ("EPSG:2154", 1.0),
}


@pytest.mark.parametrize(
    ("name", "latitude"),
    [
        *((name, latitude) for name in ("Web Mercator", "degrees", "UTM 31N") for latitude in (0.01, 23, -47, 60, 70)),
        ("Lambert, Europe", 38), ("Lambert, Europe", 70), ("Dutch grid", 52.2), ("Swedish grid", 68),
        ("Lambert-93, France", 45),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 20])
def test_areas_are_those_of_the_ground(name: str, latitude: float, size: int) -> None:
    """Against pyproj's geodesic area of the polygon itself, also with pixels of 20 m and blocks of 10 km."""
    crs, pixel = NATIONAL[name]
    place = (17.0 if name == "Swedish grid" else 4.9, latitude)
    grid = grid_at_place(
        crs, Affine.scale(pixel * size, -pixel * size), width=700, height=650, place=place, block_px=512
    )
    classes = np.full((650, 700), 5, np.uint8)
    radius = 250 * pixel * size * (111_000 if crs == "EPSG:4326" else 1)
    radius *= math.cos(math.radians(latitude)) if crs in ("EPSG:3857", "EPSG:4326") else 1
    there = star(np.random.default_rng(3), 0, 0, radius, 17, 1)
    across = 111_320 * math.cos(math.radians(latitude))
    polygon = shapely.transform(
        there, lambda p: np.column_stack([place[0] + p[:, 0] / across, latitude + p[:, 1] / 111_320])
    )
    geodesic = abs(Geod(ellps="WGS84").geometry_area_perimeter(polygon)[0])
    region = polygon_region(grid, "OGC:CRS84", polygon)
    _, _, area_m2 = counted(grid, region, classes, classes)
    assert region.area_m2 == pytest.approx(geodesic, rel=5e-4)
    assert area_m2[5] == pytest.approx(geodesic, rel=5e-4)


def test_a_polygon_across_the_antimeridian() -> None:
    """In two parts as RFC 7946 has it, and in one that goes on beyond 180 degrees, in either direction."""
    for crs, step in (("EPSG:32601", Affine.scale(1, -1)), ("EPSG:4326", Affine.scale(1e-5, -1e-5))):
        grid = grid_at_place(crs, step, place=(180.0, 52.0))
        classes = np.full((grid.height_px, grid.width_px), 2, np.uint8)
        east, west = shapely.box(179.9992, 51.9995, 180, 52.0006), shapely.box(-180, 51.9995, -179.9994, 52.0006)
        forms = [
            MultiPolygon([east, west]),
            shapely.box(179.9992, 51.9995, 180.0006, 52.0006),
            shapely.box(-180.0008, 51.9995, -179.9994, 52.0006),
        ]
        geodesic = sum(abs(Geod(ellps="WGS84").geometry_area_perimeter(part)[0]) for part in (east, west))
        for form in forms:
            region = polygon_region(grid, "OGC:CRS84", form)
            assert region.area_m2 == pytest.approx(geodesic, rel=1e-6)
            assert counted(grid, region, classes, classes)[2][2] == pytest.approx(geodesic, rel=1e-4)


def test_a_polygon_of_a_hundred_thousand_vertices_and_one_of_the_whole_world() -> None:
    grid = GRIDS["Web Mercator"]
    classes, confidence = random_map(grid)
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    reach = 100 + 3 * np.sin(angles * 5000)
    drawn = Polygon(np.column_stack([150 + reach * np.cos(angles), 115 + reach * np.sin(angles)]))
    there = shapely.transform(drawn, lambda points: np.column_stack(grid.transform @ tuple(points.T)))
    pixels = counted(grid, polygon_region(grid, grid.crs, there), classes, confidence)[0]
    assert pixels == pytest.approx(exact_pixels(grid, drawn, classes), rel=1e-8, abs=1e-5)  # inside altogether
    world = polygon_region(grid, "OGC:CRS84", shapely.box(-180, -90, 180, 90))
    assert world.area_m2 == pytest.approx(510_065_621_724_088, rel=1e-6)
    assert counted(grid, world, classes, confidence)[0] == pytest.approx(np.bincount(classes.ravel(), minlength=9))


def test_an_edge_through_the_corner_of_a_pixel() -> None:
    """exactextract 0.3 takes this hole for ground at one pixel: its edge passes the pixel's corner within rounding."""
    grid = GRIDS["UTM"]
    hole = [(15, 1.2000000000000002), (10.8, 6), (9, 0)]
    shape = shapely.transform(Polygon([(-19, 12), (-11, -18), (44, -28), (17, 26)], [hole]), lambda p: p * (1, -1))
    share = cells.shares(grid, Region(shape=shape, measure=lambda: 1.0), BlockIndex(0, 0))
    expected = shapely.intersection(shape, shapely.box(0, -64, 64, 0)).area
    assert share.sum() == pytest.approx(expected, abs=1e-5)
    plain = exact_pixels(grid, shapely.transform(shape, lambda p: p * (1, -1)), np.ones((230, 300), np.uint8))
    assert plain.sum() == pytest.approx(expected + 1, abs=1e-5)  # when this fails, exactextract is right here


def test_large_regions_are_few_squares() -> None:
    """The number of things to read grows with the perimeter: 16 times the area, 4 times as many."""
    grid = replace(GRIDS["UTM"], width_px=64 * 900, height_px=64 * 900)
    sizes = []
    for radius in (100, 400):
        angles = np.linspace(0, 2 * np.pi, 300)
        ring = 450.3 * 64 + radius * 64 * np.column_stack([np.cos(angles), np.sin(angles)])
        x, y = grid.transform @ tuple(ring.T)
        found = cells.cover(grid, polygon_region(grid, grid.crs, Polygon(np.column_stack([x, y]))))
        blocks = sum(cells.FANOUT ** (2 * square.level) for square in found.whole) + len(found.edge)
        assert blocks == pytest.approx(math.pi * radius**2, rel=0.05)
        sizes.append((len(found.whole), len(found.edge)))
    (whole_small, edge_small), (whole_large, edge_large) = sizes
    assert edge_large / edge_small == pytest.approx(4, rel=0.1)
    assert whole_large / whole_small == pytest.approx(4, rel=0.2)


def test_a_region_that_ends_where_blocks_end_does_not_ask_for_their_neighbours() -> None:
    grid = GRIDS["UTM"]
    x0, y0 = grid.transform @ (64, 64)
    x1, y1 = grid.transform @ (192, 128)
    found = cells.cover(grid, polygon_region(grid, grid.crs, shapely.box(x0, y1, x1, y0)))
    assert found == cells.Cover(whole=(Square(0, 1, 1), Square(0, 1, 2)), edge=())
