"""Blocks and overviews out of products against those that the same pixels give."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from landcover import block, overview
from landcover.errors import ProductUnreadable
from landcover.grid import BlockIndex, Grid
from landcover.products.register import ProductRecord
from landcover.products.source import ProductReader, covers
from landcover.products.spec import Confidence, Outputs
from landcover.products.spool import Spool
from landcover.products.write import write_products
from landcover.settings import ReadSettings
from overview_parts import MAX_VALUE, blobs, blocks_of, grid_of_size, overviews_of, padded, write_pyramid
from product_parts import drawn_map, fill_spool, spec_of
from s3_server import s3_server


def record_of(grid: Grid, classes: Path, confidence: Path, **changes: Any) -> ProductRecord:
    values: dict[str, Any] = {
        "id": "p", "scene": "s", "version": "v", "digest": "d", "decimation": 1, "row_px": 0, "col_px": 0,
        "height_px": grid.height_px, "width_px": grid.width_px, "classes": str(classes),
        "confidence": str(confidence), "made_at": time.time(),
    }  # fmt: skip
    return ProductRecord(**values | changes)


def read_overview(
    reader: ProductReader, record: ProductRecord, grid: Grid, scale: int, index: BlockIndex, max_value: int
) -> dict[str, bytes] | None:
    """Every level of both layers, if the product has them."""
    made: dict[str, bytes] = {}
    for level in range(grid.max_level + 1):
        fields = reader.overview(record, grid, scale, index, level=level, layers=overview.LAYERS, max_value=max_value)
        if fields is None:
            return None
        made |= fields
    return made


@pytest.fixture
def reader() -> ProductReader:
    return ProductReader(ReadSettings())


@pytest.mark.parametrize("window", [(0, 0, 300, 171), (64, 32, 200, 139)], ids=["whole", "a part"])
@pytest.mark.parametrize("banded", [False, True], ids=["two files", "two bands"])
def test_a_products_block_is_the_workers(
    tmp_path: Path, reader: ProductReader, window: tuple[int, int, int, int], banded: bool
) -> None:
    grid = grid_of_size(300, 171)
    classes, confidence = blobs(300, 171, seed=1)
    row, col, height, width = window
    part = np.s_[row : row + height, col : col + width]
    layers = [("class", classes[part]), ("confidence", confidence[part])]
    if banded:
        files = [write_pyramid(tmp_path / "both.tif", grid, layers, row=row, col=col)] * 2
    else:
        files = [write_pyramid(tmp_path / f"{each[0]}.tif", grid, [each], row=row, col=col) for each in layers]
    record = record_of(
        grid, *files, row_px=row, col_px=col, height_px=height, width_px=width, confidence_band=1 + banded
    )
    expected = blocks_of(grid, classes, confidence)
    covered = [index for index in grid.blocks() if covers(record, grid, index)]
    assert len(covered) == (grid.rows * grid.cols if window[0] == 0 else 12 * 9)
    for index in covered:
        assert reader.block(record, grid, index, MAX_VALUE) == expected[index]


@pytest.mark.parametrize("scale", [1, 2])
def test_a_products_overview_is_that_of_its_blocks(tmp_path: Path, reader: ProductReader, scale: int) -> None:
    grid = grid_of_size(300, 1100)
    classes, confidence = blobs(300, 1100, seed=2)
    files = [
        write_pyramid(tmp_path / f"{kind}.tif", grid, [(kind, data)])
        for kind, data in (("class", classes), ("confidence", confidence))
    ]
    record = record_of(grid, *files)
    assert record.covers_all(grid)
    for index, expected in overviews_of(grid, blocks_of(grid, classes, confidence), scale).items():
        assert covers(record, grid, index, scale)
        found = read_overview(reader, record, grid, scale, index, MAX_VALUE)
        assert found is not None
        assert set(found) == set(expected) - {"h"}
        deepest = 9  # of the file, whose shorter side is 300 px: one pixel of 512
        for name in found:
            if int(name[1:]) + 3 * scale <= deepest:
                assert found[name] == expected[name]


def test_a_part_gives_the_overviews_that_it_covers(tmp_path: Path, reader: ProductReader) -> None:
    """128 px hold an overview of scale 1; the product begins with the second and ends within the last column."""
    grid = grid_of_size(128 * 3, 128 * 4)
    classes, confidence = blobs(grid.height_px, grid.width_px, seed=3)
    part = np.s_[128:384, 128:448]
    files = [
        write_pyramid(tmp_path / f"{kind}.tif", grid, [(kind, data[part])], row=128, col=128)
        for kind, data in (("class", classes), ("confidence", confidence))
    ]
    record = record_of(grid, *files, row_px=128, col_px=128, height_px=256, width_px=320)
    top = overview.coarser(grid, 1)
    covered = [index for index in top.blocks() if covers(record, grid, index, 1)]
    assert covered == [BlockIndex(1, 1), BlockIndex(1, 2), BlockIndex(2, 1), BlockIndex(2, 2)]
    expected = overviews_of(grid, blocks_of(grid, classes, confidence), 1)
    for index in covered:
        found = read_overview(reader, record, grid, 1, index, MAX_VALUE)
        assert found == {name: data for name, data in expected[index].items() if name != "h"}
    hole = record.model_copy(update={"holes": ((15, 15),)})
    assert [index for index in top.blocks() if covers(hole, grid, index, 1)] == covered[1:]
    assert not covers(hole, grid, BlockIndex(15, 15))


@pytest.mark.parametrize(("row", "col"), [(4, 0), (0, 12)])
def test_a_product_between_the_overviews_pixels_gives_none(
    tmp_path: Path, reader: ProductReader, row: int, col: int
) -> None:
    grid = grid_of_size(300, 300)
    classes, confidence = blobs(300, 300, seed=4)
    files = [
        write_pyramid(tmp_path / f"{kind}.tif", grid, [(kind, data[row:, col:])], row=row, col=col)
        for kind, data in (("class", classes), ("confidence", confidence))
    ]
    record = record_of(grid, *files, row_px=row, col_px=col, height_px=300 - row, width_px=300 - col)
    assert covers(record, grid, BlockIndex(1, 1), 1)
    assert read_overview(reader, record, grid, 1, BlockIndex(1, 1), MAX_VALUE) is None
    assert (
        reader.block(record, grid, BlockIndex(3, 3), MAX_VALUE)
        == blocks_of(grid, classes, confidence)[BlockIndex(3, 3)]
    )


def test_overviews_that_end_early_are_continued(tmp_path: Path, reader: ProductReader) -> None:
    """Like a COG by GDAL, whose last overview is of some hundred pixels: levels 1 to 4 of its own, 5 to 7 made."""
    grid = grid_of_size(128, 128)
    classes, confidence = blobs(128, 128, seed=5)
    classes[:40], confidence[:40] = 3, 200
    record = record_of(grid, tmp_path / "c.tif", tmp_path / "q.tif")
    for path, data, resampling in (("c.tif", classes, "mode"), ("q.tif", confidence, "average")):
        with rasterio.open(
            tmp_path / path, "w", driver="COG", dtype="uint8", count=1, width=128, height=128, crs=grid.crs,
            transform=grid.transform, overview_resampling=resampling, overview_count=4,
        ) as image:  # fmt: skip
            image.write(data, 1)
    found = read_overview(reader, record, grid, 1, BlockIndex(0, 0), MAX_VALUE)
    assert found is not None
    assert set(found) == {f"{letter}{level}" for letter in "cq" for level in range(5)}
    expected = overviews_of(grid, blocks_of(grid, classes, confidence), 1)[BlockIndex(0, 0)]
    for level in range(5):
        side = 16 >> level
        assert (block.decode(found[f"c{level}"], side)[: side // 4] == 3).all()
        doubt = block.decode(found[f"q{level}"], side).astype(int) - block.decode(expected[f"q{level}"], side)
        assert np.abs(doubt).max() <= 3  # GDAL halves rounded halves
    with rasterio.open(tmp_path / "short.tif", "w", driver="COG", dtype="uint8", count=1, width=128, height=128,
                       crs=grid.crs, transform=grid.transform, overview_count=2) as image:  # fmt: skip
        image.write(classes, 1)
    short = record.model_copy(update={"classes": str(tmp_path / "short.tif")})
    assert read_overview(reader, short, grid, 1, BlockIndex(0, 0), MAX_VALUE) is None


@pytest.mark.parametrize(
    "damage", ["missing", "cut", "rubbish", "other size", "other place", "other classes", "no band", "other dtype"]
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, reader: ProductReader, damage: str) -> None:
    grid = grid_of_size(300, 300)
    classes, confidence = blobs(300, 300, seed=6)
    path = write_pyramid(tmp_path / "c.tif", grid, [("class", classes)])
    other = write_pyramid(tmp_path / "q.tif", grid, [("confidence", confidence)])
    record = record_of(grid, path, other)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    elif damage == "rubbish":
        path.write_bytes(b"no image at all")
    elif damage == "other size":
        write_pyramid(path, grid, [("class", classes[:-16])])
    elif damage == "other place":
        write_pyramid(path, grid, [("class", classes)], row=1)
    elif damage == "other classes":
        write_pyramid(path, grid, [("confidence", confidence)])
    elif damage == "no band":
        record = record.model_copy(update={"confidence": str(path), "confidence_band": 2})
    elif damage == "other dtype":
        with rasterio.open(path, "w", driver="GTiff", dtype="uint16", count=1, width=300, height=300, crs=grid.crs,
                           transform=grid.transform) as image:  # fmt: skip
            image.write(classes.astype(np.uint16), 1)
    with pytest.raises(ProductUnreadable, match="Product p"):
        for index in grid.blocks():
            reader.block(record, grid, index, MAX_VALUE)


def test_a_replaced_file_is_opened_anew(tmp_path: Path, reader: ProductReader) -> None:
    grid = grid_of_size(32, 32)
    first, second = blobs(32, 32, seed=7), blobs(32, 32, seed=8)
    record = record_of(grid, tmp_path / "c.tif", tmp_path / "q.tif")
    for classes, confidence in (first, second):
        for name, kind, data in (("c", "class", classes), ("q", "confidence", confidence)):
            write_pyramid(tmp_path / "new.tif", grid, [(kind, data)]).replace(tmp_path / f"{name}.tif")
        found = reader.block(record, grid, BlockIndex(0, 1), MAX_VALUE)
        assert found == blocks_of(grid, classes, confidence)[BlockIndex(0, 1)]


@pytest.mark.parametrize("layout", ["file", "band"])
def test_a_written_product_gives_what_its_blocks_give(
    tmp_path: Path, reader: ProductReader, layout: Confidence
) -> None:
    """At every level that is drawn, through the files that jobs write."""
    spec = spec_of(720, 1100, block_px=32)
    classes, confidence = drawn_map(720, 1100)
    with Spool(tmp_path / "map.spool", "test") as spool:
        fill_spool(spool, spec, classes, confidence, ())
        files = write_products(
            spec, spool, str(tmp_path / "map.tif"), Outputs(confidence=layout), holes={}, provenance={},
            work_folder=tmp_path, on_progress=lambda stage, share: None,
        )  # fmt: skip
    where = {file.role: Path(file.location) for file in files}
    band = layout == "band"
    record = record_of(
        spec.grid, where["classes"], where["classes" if band else "confidence"], confidence_band=1 + band
    )
    most = spec.model.contract.max_value
    side = 32 * 8**2
    majorities = block.majority_pyramid(padded(classes, side), most)
    means = block.mean_pyramid(padded(confidence, side))
    for scale in (1, 2):
        for index in overview.coarser(spec.grid, scale).blocks():
            found = read_overview(reader, record, spec.grid, scale, index, most)
            assert found is not None
            for level in range(3 * scale, overview.top_level(spec.grid) + 1):
                if level - 3 * scale > spec.grid.max_level:
                    break
                side = 32 >> (level - 3 * scale)
                place = np.s_[index.row * side : (index.row + 1) * side, index.col * side : (index.col + 1) * side]
                for letter, pyramid in (("c", majorities), ("q", means)):
                    layer = block.decode(found[f"{letter}{level - 3 * scale}"], side)
                    np.testing.assert_array_equal(layer, pyramid[level][place])
    index = BlockIndex(20, 30)
    place = np.s_[640:672, 960:992]
    assert reader.block(record, spec.grid, index, most) == block.encode(classes[place], confidence[place], most)


def test_a_product_in_a_bucket(tmp_path: Path, reader: ProductReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server runs in this process: were Python's lock held while GDAL waits for it, nothing would come."""
    grid = grid_of_size(300, 300)
    classes, confidence = blobs(300, 300, seed=10)
    with s3_server() as bucket:
        for name, kind, data in (("c", "class", classes), ("q", "confidence", confidence)):
            file = write_pyramid(tmp_path / f"{name}.tif", grid, [(kind, data)])
            bucket.objects[f"maps/{name}.tif"] = file.read_bytes()
        environment = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "somewhere"}
        for name, value in {**environment, "AWS_ENDPOINT_URL": bucket.url, "AWS_ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(name, value)
        places = {"classes": "s3://maps/c.tif", "confidence": "s3://maps/q.tif"}
        record = record_of(grid, tmp_path, tmp_path).model_copy(update=places)
        index = BlockIndex(3, 3)
        assert reader.block(record, grid, index, MAX_VALUE) == blocks_of(grid, classes, confidence)[index]
        found = read_overview(reader, record, grid, 1, BlockIndex(1, 1), MAX_VALUE)
        expected = overviews_of(grid, blocks_of(grid, classes, confidence), 1)[BlockIndex(1, 1)]
        assert found == {name: data for name, data in expected.items() if name != "h"}
        gone = record.model_copy(update={"classes": "s3://maps/none.tif", "id": "gone"})
        with pytest.raises(ProductUnreadable, match="Product gone"):
            reader.block(gone, grid, index, MAX_VALUE)
