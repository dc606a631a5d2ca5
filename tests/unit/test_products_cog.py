"""The class map and its confidence as COGs: pixel by pixel, at every overview, and as GDAL and rio-cogeo see them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.enums import ColorInterp
from rasterio.features import geometry_mask
from rio_cogeo import cog_validate

from landcover import block
from landcover.errors import DestinationUnwritable, InvalidRequest
from landcover.grid import BlockIndex
from landcover.products import cog_file
from landcover.products.area import ProductArea
from landcover.products.spec import Outputs, ProductSpec
from landcover.products.spool import Spool
from landcover.products.write import ProductFile, write_products
from landcover.statistics.region import Region
from product_parts import DIGEST, cut, drawn_map, fill_spool, spec_of

PROVENANCE = {"software": "landcover-tiles 1.2.3"}


def write(
    folder: Path,
    spec: ProductSpec,
    classes: np.ndarray,
    confidence: np.ndarray,
    outputs: Outputs | None = None,
    holes: tuple[BlockIndex, ...] = (),
) -> list[ProductFile]:
    """Spool whole-scene maps and write the product `folder/map.tif`."""
    with Spool(folder / "map.spool", "test") as spool:
        fill_spool(spool, spec, classes, confidence, holes)
        return write_products(
            spec,
            spool,
            str(folder / "map.tif"),
            outputs or Outputs(),
            holes=dict.fromkeys(holes, "the image ends here"),
            provenance=PROVENANCE,
            work_folder=folder,
            on_progress=lambda stage, share: None,
        )


def levels_in(path: Path) -> Iterator[tuple[int, Any]]:
    """Each level of a file, opened."""
    with rasterio.open(path) as image:
        yield 0, image
        count = len(image.overviews(1))
    for level in range(1, count + 1):
        with rasterio.open(path, overview_level=level - 1) as image:
            yield level, image


def squares(pixels: np.ndarray, side: int) -> np.ndarray:
    """`(rows, columns, side²)`: the pixels under each pixel of an overview, with unknown past the edge."""
    padded = np.pad(pixels, [(0, -length % side) for length in pixels.shape])
    rows, cols = padded.shape[0] // side, padded.shape[1] // side
    return padded.reshape(rows, side, cols, side).transpose(0, 2, 1, 3).reshape(rows, cols, side * side)


def majority(pixels: np.ndarray, side: int) -> np.ndarray:
    """The most frequent value of each square; of equals the lowest class, and any class before unknown."""
    parts = squares(pixels, side)
    best = np.zeros(parts.shape[:2], np.uint8)
    most = np.zeros(parts.shape[:2], int)
    for value in (*range(1, 9), 0):
        count = (parts == value).sum(axis=2)
        best, most = np.where(count > most, value, best), np.maximum(count, most)
    return best


def window(pixels: np.ndarray, area: ProductArea) -> np.ndarray:
    """The product's part of a whole-scene map, cut and clipped."""
    part = pixels[area.row_px : area.row_px + area.height_px, area.col_px : area.col_px + area.width_px].copy()
    if area.region is not None:
        corner = rasterio.Affine(1, 0, area.col_px, 0, -1, -area.row_px)
        part[geometry_mask([area.region.shape], part.shape, corner)] = 0
    return part


TRIANGLE = Region(shape=shapely.Polygon([(100, -50), (1010, -300), (333, -690)]), measure=lambda: 0.0)

AREAS = {
    "all of it": None,
    "a window off the blocks": ProductArea(row_px=37, col_px=411, height_px=555, width_px=601),
    "clipped": ProductArea(row_px=50, col_px=100, height_px=640, width_px=910, region=TRIANGLE),
    "one pixel": ProductArea(row_px=128, col_px=64, height_px=1, width_px=1),
    "one row": ProductArea(row_px=200, col_px=3, height_px=1, width_px=1000),
}


@pytest.mark.parametrize("block_px", [64, 512, 1024])
@pytest.mark.parametrize("area", AREAS.values(), ids=AREAS.keys())
def test_every_pixel_of_every_level(tmp_path: Path, area: ProductArea | None, block_px: int) -> None:
    spec = spec_of(720, 1100, block_px=block_px, area=area)
    classes, confidence = drawn_map(720, 1100)
    write(tmp_path, spec, classes, confidence)
    classes, confidence = window(classes, spec.area), window(confidence, spec.area)
    deepest = 0
    for level, image in levels_in(tmp_path / "map.tif"):
        np.testing.assert_array_equal(image.read(1), majority(classes, 2**level), err_msg=f"level {level}")
        deepest = level
    for level, image in levels_in(tmp_path / "map.confidence.tif"):
        mean = np.floor(squares(confidence, 2**level).mean(axis=2) + 0.5)
        np.testing.assert_array_equal(image.read(1), mean, err_msg=f"level {level}")
    longest = max(classes.shape)
    assert longest / 2**deepest <= 512
    assert 2**deepest >= min(block_px, longest)


def test_overviews_are_the_blocks_own(tmp_path: Path) -> None:
    spec = spec_of(256, 512, block_px=128)
    classes, confidence = drawn_map(256, 512)
    write(tmp_path, spec, classes, confidence)
    for layer, name in (("class", "map.tif"), ("confidence", "map.confidence.tif")):
        for level, image in levels_in(tmp_path / name):
            if level > spec.grid.max_level:
                break
            pixels, side = image.read(1), 128 >> level
            for index in spec.grid.blocks():
                place = cut(index, 128)
                fields = block.encode(classes[place], confidence[place], 8)
                expected = block.decode(fields[block.field(layer, level)], side)
                np.testing.assert_array_equal(pixels[cut(index, side)], expected)
        assert level >= spec.grid.max_level


@pytest.mark.parametrize("confidence", ["none", "file", "band"])
def test_a_valid_cog_with_colours_names_and_provenance(tmp_path: Path, confidence: Any) -> None:
    spec = spec_of(1300, 1700)
    drawn = drawn_map(1300, 1700)
    hole = BlockIndex(1, 2)
    files = write(tmp_path, spec, *drawn, Outputs(confidence=confidence), (hole,))
    cogs = [each.location for each in files if each.role in ("classes", "confidence")]
    assert len(cogs) == (2 if confidence == "file" else 1)
    for path in cogs:
        assert cog_validate(path, strict=True) == (True, [], [])
    expected = drawn[0].copy()
    expected[cut(hole, 512)] = 0
    with rasterio.open(tmp_path / "map.tif") as image:
        np.testing.assert_array_equal(image.read(1), expected)
        assert image.count == (2 if confidence == "band" else 1)
        assert image.colorinterp[0] == ColorInterp.palette
        assert {value: image.colormap(1)[value] for value in (0, 1, 8)} == {
            0: (0, 0, 0, 0),
            1: (128, 0, 0, 255),
            8: (222, 31, 7, 255),
        }
        assert image.nodata == 0
        assert image.profile["tiled"] and image.block_shapes[0] == (512, 512)
        assert image.compression.name == "deflate"
        assert image.descriptions[0] == "land cover class"
        assert rasterio.CRS.from_wkt(spec.grid.crs) == image.crs
        assert image.transform == spec.grid.transform
        tags = image.tags()
        assert image.tags(1)["CLASS_8"] == "building"
        if confidence == "band":
            drawn[1][cut(hole, 512)] = 0
            np.testing.assert_array_equal(image.read(2), drawn[1])
            assert image.descriptions[1] == "confidence"
            assert image.scales == (1.0, pytest.approx(1 / 255))
    assert tags["SCENE_ID"] == "field" and tags["SCENE_VERSION"] == "0123456789abcdef"
    assert tags["MODEL_DIGEST"] == DIGEST and tags["MODEL_NAME"] == "pixels"
    assert json.loads(tags["MODEL_CONTRACT"])["classes"][7]["name"] == "building"
    assert json.loads(tags["HOLES"]) == [[1, 2, "the image ends here"]]
    assert json.loads(tags["GRID_WINDOW"]) == [0, 0, 1300, 1700]
    assert tags["TIFFTAG_SOFTWARE"] == "landcover-tiles 1.2.3"
    assert tags["TIFFTAG_COPYRIGHT"] == "Someone"
    if confidence == "file":
        with rasterio.open(tmp_path / "map.confidence.tif") as image:
            assert image.scales == (pytest.approx(1 / 255),)
            assert (image.colorinterp, image.nodata) == ((ColorInterp.gray,), 0)


def test_gdal_reads_the_names_and_the_attribute_table(tmp_path: Path) -> None:
    spec = spec_of(100, 100)
    classes, confidence = drawn_map(100, 100)
    write(tmp_path, spec, classes, confidence)
    gdal = gdal_library()
    dataset = gdal.GDALOpen(str(tmp_path / "map.tif").encode(), 0)
    assert gdal.GDALGetFileList(dataset)[1] == str(tmp_path / "map.tif.aux.xml").encode()
    band = gdal.GDALGetRasterBand(dataset, 1)
    names = gdal.GDALGetRasterCategoryNames(band)
    assert [names[value] for value in (0, 1, 8)] == [b"unknown", b"bareland", b"building"]
    table = gdal.GDALGetDefaultRAT(band)
    assert gdal.GDALRATGetRowCount(table) == 8
    columns = [gdal.GDALRATGetNameOfCol(table, col) for col in range(gdal.GDALRATGetColumnCount(table))]
    assert columns == [b"Value", b"Class", b"Count", b"Red", b"Green", b"Blue", b"Alpha"]
    rows = [[gdal.GDALRATGetValueAsString(table, row, col).decode() for col in range(7)] for row in range(8)]
    assert rows[7][:2] == ["8", "building"] and rows[7][3:] == ["222", "31", "7", "255"]
    assert [float(row[2]) for row in rows] == np.bincount(classes.ravel(), minlength=9)[1:].tolist()
    assert gdal.GDALRATGetColOfUsage(table, 6) == 3
    gdal.GDALClose(dataset)


def test_a_file_too_large_for_a_tiff_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cog_file, "_CLASSIC_LIMIT", 100_000)
    spec = spec_of(1300, 1700)
    classes, confidence = drawn_map(1300, 1700)
    write(tmp_path, spec, classes, confidence, Outputs(confidence="band"))
    path = tmp_path / "map.tif"
    assert path.read_bytes()[:4] == b"II+\0"
    assert cog_validate(path, strict=True) == (True, [], [])
    for level, image in levels_in(path):
        np.testing.assert_array_equal(image.read(1), majority(classes, 2**level))
    with rasterio.open(path) as image:
        np.testing.assert_array_equal(image.read(2), confidence)


def test_surroundings_of_a_region_cost_nothing(tmp_path: Path) -> None:
    corner = Region(shape=shapely.box(0, -512, 512, 0), measure=lambda: 0.0)
    area = ProductArea(row_px=0, col_px=0, height_px=8192, width_px=8192, region=corner)
    spec = spec_of(8192, 8192, area=area)
    classes = np.zeros((8192, 8192), np.uint8)
    classes[:600, :600] = 5
    write(tmp_path, spec, classes, classes)
    path = tmp_path / "map.tif"
    assert path.stat().st_size < 40_000
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as image:
        pixels = image.read(1)
    assert pixels[:512, :512].all() and np.count_nonzero(pixels) == 512 * 512


def test_a_damaged_spool_is_named(tmp_path: Path) -> None:
    spec = spec_of(128, 128, block_px=64)
    classes, confidence = drawn_map(128, 128)
    with Spool(tmp_path / "map.spool", "test") as spool:
        fill_spool(spool, spec, classes, confidence)
        fields = block.encode(classes[:64, :64], confidence[:64, :64], 8) | {"c0": b"rubbish"}
        spool.put([(BlockIndex(0, 1), fields)])
        with pytest.raises(DestinationUnwritable, match=r"map\.spool is damaged at block 0/1; delete it"):
            write_products(
                spec, spool, str(tmp_path / "map.tif"), Outputs(), holes={}, provenance={}, work_folder=tmp_path,
                on_progress=lambda stage, share: None,
            )  # fmt: skip
    assert not (tmp_path / "map.tif").exists()


@pytest.mark.parametrize("destination", ["map.png", ".tif", "folder/", "s3:///map.tif", "s3://map.tif", ""])
def test_a_destination_that_is_no_tif(tmp_path: Path, destination: str) -> None:
    spec = spec_of(64, 64, block_px=64)
    with (
        Spool(tmp_path / "map.spool", "test") as spool,
        pytest.raises(InvalidRequest, match=r"give one that ends with NAME\.tif"),
    ):
        write_products(
            spec, spool, destination, Outputs(), holes={}, provenance={}, work_folder=tmp_path,
            on_progress=lambda stage, share: None,
        )  # fmt: skip


def gdal_library() -> Any:
    """The GDAL that rasterio brings: its Python does not reach attribute tables."""
    folder = Path(rasterio.__file__).parents[1] / "rasterio.libs"
    found = sorted(folder.glob("libgdal*"))
    if not found:
        pytest.skip("this rasterio brings no GDAL of its own")
    gdal = ctypes.CDLL(str(found[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("GDALOpen", pointer, [text, number]),
        ("GDALClose", None, [pointer]),
        ("GDALGetFileList", ctypes.POINTER(text), [pointer]),
        ("GDALGetRasterBand", pointer, [pointer, number]),
        ("GDALGetRasterCategoryNames", ctypes.POINTER(text), [pointer]),
        ("GDALGetDefaultRAT", pointer, [pointer]),
        ("GDALRATGetRowCount", number, [pointer]),
        ("GDALRATGetColumnCount", number, [pointer]),
        ("GDALRATGetNameOfCol", text, [pointer, number]),
        ("GDALRATGetValueAsString", text, [pointer, number, number]),
        ("GDALRATGetColOfUsage", number, [pointer, number]),
    ):
        function = getattr(gdal, name)
        function.restype, function.argtypes = result, arguments
    rasterio.Env().__enter__()  # registers the drivers
    return gdal
