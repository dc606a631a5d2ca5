"""The drawn map as PMTiles, read back with the format's own reader and compared with the class map."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from pmtiles.reader import MmapSource, Reader, all_tiles
from pmtiles.tile import Compression, TileType, tileid_to_zxy, zxy_to_tileid
from pyproj import Transformer

from landcover.classes import OPENEARTHMAP, palette
from landcover.products.area import ProductArea
from landcover.products.pmtiles import native_zoom
from landcover.products.spec import Outputs, ProductSpec
from landcover.products.spool import Spool
from landcover.products.write import write_products
from product_parts import drawn_map, fill_spool, spec_of

WORLD_M = 2 * 20037508.342789244
ZOOM = 17
PIXEL_M = WORLD_M / (256 << ZOOM)
COL, ROW = 116_500, 51_400
"""A tile of zoom 17 in Japan, at whose corner the map begins."""
MERCATOR = Affine(PIXEL_M, 0, COL * 256 * PIXEL_M - WORLD_M / 2, 0, -PIXEL_M, WORLD_M / 2 - ROW * 256 * PIXEL_M)
COLORS = palette(OPENEARTHMAP)


def write(
    folder: Path,
    spec: ProductSpec,
    classes: np.ndarray,
    told: Callable[[str, float], None] = lambda stage, share: None,
) -> Path:
    """Make the product's PMTiles."""
    with Spool(folder / "map.spool", "test") as spool:
        fill_spool(spool, spec, classes, classes)
        write_products(
            spec, spool, str(folder / "map.tif"), Outputs(confidence="none", pmtiles=True), holes={},
            provenance={"software": "landcover-tiles 1"}, work_folder=folder, on_progress=told,
        )  # fmt: skip
    return folder / "map.pmtiles"


def tiles_of(path: Path) -> dict[tuple[int, int, int], np.ndarray]:
    """(zoom, column, row) → RGBA `(256, 256, 4)` of every tile."""
    with path.open("rb") as file:
        return {
            place: np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
            for place, data in all_tiles(MmapSource(file))
        }


def reader_of(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and metadata."""
    with path.open("rb") as file:
        reader = Reader(MmapSource(file))
        return reader.header(), reader.metadata()


def on_tiles(height: int, width: int, area: ProductArea | None = None) -> ProductSpec:
    """A map whose pixels are those of zoom 17's tiles."""
    return spec_of(height, width, block_px=128, transform=MERCATOR, crs="EPSG:3857", area=area)


def test_on_the_tiles_own_grid_every_pixel_is_the_maps(tmp_path: Path) -> None:
    spec = on_tiles(600, 900)
    classes, _ = drawn_map(600, 900)
    assert native_zoom(spec) == ZOOM
    tiles = tiles_of(write(tmp_path, spec, classes))
    padded = np.pad(classes, ((0, 168), (0, 124)))
    native = {place: tile for place, tile in tiles.items() if place[0] == ZOOM}
    assert set(native) == {(ZOOM, COL + col, ROW + row) for row in range(3) for col in range(4)}
    for (_, col, row), tile in native.items():
        top, left = (row - ROW) * 256, (col - COL) * 256
        np.testing.assert_array_equal(tile, COLORS[padded[top : top + 256, left : left + 256]])


def test_zoomed_out_it_is_the_majority(tmp_path: Path) -> None:
    spec = on_tiles(512, 1024)
    classes = np.full((512, 1024), 5, np.uint8)
    classes[::2, ::2] = 1  # a quarter of the pixels, and all that picking every second one would find
    classes[:, 512:] = 8
    tiles = tiles_of(write(tmp_path, spec, classes))
    for zoom in range(ZOOM - 1, ZOOM - 4, -1):
        factor = 2 ** (ZOOM - zoom)
        tile = tiles[zoom, COL // factor, ROW // factor]
        top, left = (ROW % factor) * 256 // factor, (COL % factor) * 256 // factor
        part = tile[top : top + 512 // factor, left : left + 1024 // factor][:, :256]
        half = 512 // factor
        assert (part[:, :half] == COLORS[5]).all()
        assert (part[:, half:] == COLORS[8]).all()


def test_header_metadata_and_what_is_left_out(tmp_path: Path) -> None:
    area = ProductArea(row_px=0, col_px=0, height_px=1024, width_px=2048)
    spec = on_tiles(1024, 2048, area)
    classes = np.zeros((1024, 2048), np.uint8)
    classes[300:310, 300:310] = 4
    path = write(tmp_path, spec, classes)
    header, metadata = reader_of(path)
    assert (header["tile_type"], header["tile_compression"]) == (TileType.PNG, Compression.NONE)
    assert (header["min_zoom"], header["max_zoom"], header["clustered"]) == (0, ZOOM, True)
    to_degrees = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    west, north = to_degrees.transform(*(MERCATOR @ (0, 0)))
    east, south = to_degrees.transform(*(MERCATOR @ (2048, 1024)))
    found = [header[f"{name}_e7"] / 1e7 for name in ("min_lon", "min_lat", "max_lon", "max_lat")]
    assert found == pytest.approx([west, south, east, north], abs=1e-6)
    assert metadata["format"] == "png" and metadata["attribution"] == "Someone"
    assert [each["name"] for each in metadata["classes"]][-1] == "building"
    tiles = tiles_of(path)
    assert [place for place in tiles if place[0] == ZOOM] == [(ZOOM, COL + 1, ROW + 1)]
    assert (tiles[ZOOM, COL + 1, ROW + 1][44:54, 44:54] == COLORS[4]).all()
    assert (tiles[ZOOM, COL + 1, ROW + 1][..., 3] > 0).sum() == 100


def test_in_another_crs_each_pixel_is_the_one_under_it(tmp_path: Path) -> None:
    spec = spec_of(700, 800, block_px=128)
    classes, _ = drawn_map(700, 800)
    tiles = tiles_of(write(tmp_path, spec, classes))
    zoom = max(place[0] for place in tiles)
    # At 36° N a pixel of 0.5 m is 0.62 m of Web Mercator, between those of zoom 17 and 18.
    assert zoom == 18
    to_map = Transformer.from_crs("EPSG:3857", "EPSG:32654", always_xy=True)
    pixel = WORLD_M / (256 << zoom)
    right, compared = 0, 0
    for (_, col, row), tile in ((place, tile) for place, tile in tiles.items() if place[0] == zoom):
        x = (col * 256 + np.arange(256) + 0.5) * pixel - WORLD_M / 2
        y = WORLD_M / 2 - (row * 256 + np.arange(256) + 0.5) * pixel
        cols, rows = ~spec.grid.transform @ to_map.transform(*np.meshgrid(x, y))
        cols, rows = np.floor(cols).astype(int), np.floor(rows).astype(int)
        inside = (cols >= 0) & (rows >= 0) & (cols < 800) & (rows < 700)
        expected = COLORS[np.where(inside, classes[rows.clip(0, 699), cols.clip(0, 799)], 0)]
        right += (expected == tile).all(axis=-1).sum()
        compared += 256 * 256
    assert right / compared > 0.97  # GDAL finds the place to an eighth of a pixel
    for zoom in range(11, 18):  # further out a map of 400 m is less than a pixel
        assert any(place[0] == zoom for place in tiles)


def test_a_map_across_the_antimeridian(tmp_path: Path) -> None:
    transform = Affine(PIXEL_M, 0, WORLD_M / 2 - 300 * PIXEL_M, 0, -PIXEL_M, 0)
    spec = spec_of(256, 512, block_px=128, transform=transform, crs="EPSG:3857")
    classes = np.full((256, 512), 3, np.uint8)
    places = {place[:2] for place in tiles_of(write(tmp_path, spec, classes)) if place[0] == ZOOM}
    assert (ZOOM, (1 << ZOOM) - 1) in places


def test_nothing_mapped_is_one_empty_tile(tmp_path: Path) -> None:
    path = write(tmp_path, on_tiles(300, 300), np.zeros((300, 300), np.uint8))
    ((place, tile),) = tiles_of(path).items()
    assert place == (0, 0, 0) and not tile.any()


def test_progress_goes_up_to_the_end_and_ends_the_drawing(tmp_path: Path) -> None:
    shares: list[float] = []
    classes, _ = drawn_map(300, 300)
    write(
        tmp_path, on_tiles(300, 300), classes, lambda stage, share: shares.append(share) if "tiles" in stage else None
    )
    assert shares == sorted(shares) and shares[-1] == 1.0

    def stop(stage: str, share: float) -> None:
        if "tiles" in stage and share > 0.5:
            raise KeyboardInterrupt

    before = (tmp_path / "map.pmtiles").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, on_tiles(300, 300), classes, stop)
    assert (tmp_path / "map.pmtiles").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_ids_are_those_of_the_format() -> None:
    assert tileid_to_zxy(zxy_to_tileid(ZOOM, COL, ROW)) == (ZOOM, COL, ROW)
