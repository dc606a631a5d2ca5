"""Which grid pixel each image pixel shows, against an exact transform of every pixel's centre."""

from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from landcover.grid import BlockIndex, Grid
from landcover_api.extents import tile_extent, tile_matrix_set
from landcover_api.sampling import Extent, Sampling, sample

PLACE = 139.77, 35.68  # longitude, latitude
BORDER_PX = 0.02
"""Coordinates nearer than this to a pixel's border may fall on either side of it."""


def grid_at_place(crs: str, step: Affine, *, width: int = 1500, height: int = 1100, block_px: int = 256) -> Grid:
    """A grid whose centre lies at `PLACE`; `step` says how a pixel lies."""
    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(*PLACE)
    dx, dy = step @ (width / 2, height / 2)
    return Grid(
        crs=crs,
        transform=Affine.translation(x - dx, y - dy) @ step,
        width_px=width,
        height_px=height,
        decimation=1,
        block_px=block_px,
        gsd_m=0.5,
    )


GRIDS = {
    "UTM": grid_at_place("EPSG:32654", Affine.scale(0.5, -0.5)),
    "Web Mercator": grid_at_place("EPSG:3857", Affine.scale(0.6, -0.6)),
    "degrees": grid_at_place("EPSG:4326", Affine.scale(5e-6, -5e-6)),
    "rotated": grid_at_place("EPSG:32654", Affine.rotation(30) @ Affine.scale(0.5, -0.5)),
    "south-up": grid_at_place("EPSG:6677", Affine.scale(0.5, 0.5)),
    "oblong pixels": grid_at_place("EPSG:32654", Affine.scale(0.4, -0.8)),
}


def exact_coordinates(grid: Grid, extent: Extent) -> tuple[np.ndarray, np.ndarray]:
    """(column, row) of the grid, as fractions, at every pixel's centre; not finite where the CRS has none."""
    x = extent.xmin + (np.arange(extent.width_px) + 0.5) * (extent.xmax - extent.xmin) / extent.width_px
    y = extent.ymax - (np.arange(extent.height_px) + 0.5) * (extent.ymax - extent.ymin) / extent.height_px
    transform = Transformer.from_crs(extent.crs, grid.crs, always_xy=True)
    xs, ys = transform.transform(*np.meshgrid(x, y))
    inverse = ~grid.transform
    with np.errstate(invalid="ignore"):
        return inverse.a * xs + inverse.b * ys + inverse.c, inverse.d * xs + inverse.e * ys + inverse.f


def check(grid: Grid, extent: Extent) -> Sampling:
    found = sample(grid, extent)
    col, row = exact_coordinates(grid, extent)
    with np.errstate(invalid="ignore"):
        inside = (col >= 0) & (row >= 0) & (col < grid.width_px) & (row < grid.height_px)
        side = 1 << found.level
        near = BORDER_PX / side
        clear = np.isfinite(col) & np.isfinite(row)
        for position in (col / side, row / side, col / grid.width_px, row / grid.height_px):
            clear &= np.abs(position - np.round(position)) > near
    assert np.array_equal(found.inside[clear], inside[clear])
    shown = clear & inside
    assert np.array_equal(found.col[shown], np.floor(col[shown] / side).astype(int))
    assert np.array_equal(found.row[shown], np.floor(row[shown] / side).astype(int))
    shown_blocks = {
        BlockIndex(int(r), int(c))
        for r, c in zip(row[shown] // grid.block_px, col[shown] // grid.block_px, strict=True)
    }
    blocks = found.squares(grid.block_px >> found.level)
    assert shown_blocks <= set(blocks)
    assert set(blocks) <= {BlockIndex(r, c) for r in range(grid.rows) for c in range(grid.cols)}
    assert list(blocks) == sorted(set(blocks))
    return found


@pytest.mark.parametrize(
    ("zoom", "tilesize", "level"), [(20, 256, 0), (18, 256, 0), (17, 512, 0), (17, 256, 1), (14, 256, 4)]
)
@pytest.mark.parametrize("name", GRIDS)
def test_mercator_tiles_show_the_nearest_pixel(name: str, zoom: int, tilesize: int, level: int) -> None:
    tms = tile_matrix_set("WebMercatorQuad")
    tile = tms.tile(*PLACE, zoom)
    found = check(GRIDS[name], tile_extent(tms, zoom, tile.x, tile.y, tilesize))
    assert found.inside.any()
    assert abs(found.level - level) <= 1  # to the level exactly: `test_any_grid_and_any_box_of_one_crs`
    if zoom == 17:
        check(GRIDS[name], tile_extent(tms, zoom, tile.x - 1, tile.y, tilesize))
        check(GRIDS[name], tile_extent(tms, zoom, tile.x, tile.y + 1, tilesize))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 3), (100, 101)], ids=str)
@pytest.mark.parametrize("name", GRIDS)
def test_boxes_of_odd_sizes(name: str, size: tuple[int, int]) -> None:
    lon, lat = PLACE
    extent = Extent(
        crs="OGC:CRS84", xmin=lon - 2e-3, ymin=lat - 2e-3, xmax=lon + 2e-3, ymax=lat + 2e-3,
        width_px=size[0], height_px=size[1],
    )  # fmt: skip
    assert check(GRIDS[name], extent).inside.any()


@given(
    st.floats(0.2, 4.0), st.floats(0.2, 4.0), st.floats(0, 360), st.floats(-400, 400), st.floats(-400, 400),
    st.floats(20, 3000), st.integers(1, 90), st.integers(1, 90),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_grid_and_any_box_of_one_crs(
    dx: float, dy: float, angle: float, east: float, north: float, side_m: float, width: int, height: int
) -> None:
    grid = grid_at_place(
        "EPSG:32654", Affine.rotation(angle) @ Affine.scale(dx, -dy), width=300, height=200, block_px=32
    )
    x, y = grid.transform @ (150, 100)
    extent = Extent(
        crs="EPSG:32654", xmin=x + east, ymin=y + north, xmax=x + east + side_m, ymax=y + north + side_m,
        width_px=width, height_px=height,
    )  # fmt: skip
    found = check(grid, extent)
    ratio = math.sqrt(side_m / width * side_m / height / (dx * dy))
    expected = min(max(math.floor(math.log2(ratio) + 0.5), 0), grid.max_level)
    if abs(math.log2(ratio) % 1 - 0.5) > 1e-6:
        assert found.level == expected


@pytest.mark.parametrize("zoom", [0, 1, 3])
@pytest.mark.parametrize("name", GRIDS)
def test_the_whole_world_shows_the_scene_nowhere_else(name: str, zoom: int) -> None:
    """Projections fold what is far from them: nothing of that may fall on the scene."""
    tms = tile_matrix_set("WebMercatorQuad")
    home = tms.tile(*PLACE, zoom)
    grid = GRIDS[name]
    for x in range(min(2**zoom, 8)):
        for y in range(min(2**zoom, 8)):
            found = sample(grid, tile_extent(tms, zoom, x, y, 64))
            assert found.inside.sum() <= (1 if (x, y) == (home.x, home.y) else 0)
            assert found.level <= grid.max_level


def test_a_tile_that_is_elsewhere_needs_no_block() -> None:
    tms = tile_matrix_set("WebMercatorQuad")
    found = sample(GRIDS["UTM"], tile_extent(tms, 17, 0, 0, 256))
    assert not found.inside.any()
    assert found.squares(1) == ()
    assert not found.assemble([]).any()


@pytest.mark.parametrize("level", [0, 1, 3])
def test_assemble_picks_from_the_mosaic(level: int) -> None:
    """Against a mosaic of the whole grid, with two blocks missing."""
    grid = GRIDS["rotated"]
    rng = np.random.default_rng(level)
    side = grid.block_px >> level
    mosaic = rng.integers(1, 9, (grid.rows * side, grid.cols * side), dtype=np.uint8)
    x, y = grid.transform @ (grid.width_px / 2, grid.height_px / 2)
    half = 128 * 0.5 * (1 << level)
    extent = Extent(
        crs=grid.crs, xmin=x - half, ymin=y - half, xmax=x + half, ymax=y + half, width_px=256, height_px=256
    )
    found = sample(grid, extent)
    assert found.level == level
    known = [index for i, index in enumerate(found.squares(side)) if i not in (0, 2)]
    parts = {
        index: mosaic[index.row * side : (index.row + 1) * side, index.col * side : (index.col + 1) * side]
        for index in known
    }
    expected = np.zeros((256, 256), np.uint8)
    for i, j in np.ndindex(256, 256):
        if found.inside[i, j] and BlockIndex(found.row[i, j] // side, found.col[i, j] // side) in parts:
            expected[i, j] = mosaic[found.row[i, j], found.col[i, j]]
    image = found.assemble([*parts.items()])
    assert np.array_equal(image, expected)
    assert 0 < (image == 0).sum() < image.size
    assert not found.assemble([]).any()


def test_assemble_takes_squares_of_any_size() -> None:
    """The same mosaic, partly as blocks and partly as what four of them are."""
    grid = GRIDS["UTM"]
    mosaic = np.random.default_rng(1).integers(1, 9, (6, 6), dtype=np.uint8).repeat(256, 0).repeat(256, 1)
    x, y = grid.transform @ (0, 0)
    extent = Extent(crs=grid.crs, xmin=x, ymin=y - 512, xmax=x + 512, ymax=y, width_px=1024, height_px=1024)
    found = sample(grid, extent)
    assert found.level == 0
    square = (BlockIndex(1, 0), mosaic[512:1024, :512])
    single = [(BlockIndex(0, col), mosaic[:256, col * 256 : (col + 1) * 256]) for col in range(3)]
    image = found.assemble([square, *single])
    assert np.array_equal(image[:256, :768], mosaic[:256, :768])
    assert np.array_equal(image[512:, :512], mosaic[512:1024, :512])
    assert not image[:256, 768:].any()
    assert not image[256:512].any()
