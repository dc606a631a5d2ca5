"""A grid pixel's value is the same whatever window it is read in; what has no data is said to have none."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from landcover.errors import SceneChanged, SceneUnreadable, SceneUnsupported
from landcover.grid import BlockIndex, Grid
from landcover.reading import SceneReader
from landcover.scene import Scene
from landcover.settings import ReadSettings
from rasters import grid_of, noise, scene_of, write_tif

HEIGHT, WIDTH = 203, 331


def read_all(scene: Scene, grid: Grid, halo_px: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The whole grid, block by block: pixels `(height, width, 3)` and validity `(height, width)`."""
    reader = SceneReader(ReadSettings())
    side = grid.block_px
    pixels = np.zeros((grid.rows * side, grid.cols * side, 3), np.uint8)
    valid = np.zeros(pixels.shape[:2], bool)
    for index in grid.blocks():
        window = reader.read(scene, grid, index, halo_px)
        assert window.image.shape == (side + 2 * halo_px, side + 2 * halo_px, 3)
        assert window.valid.shape == (side, side)
        place = slice(index.row * side, (index.row + 1) * side), slice(index.col * side, (index.col + 1) * side)
        pixels[place] = window.image[halo_px : halo_px + side, halo_px : halo_px + side]
        valid[place] = window.valid
    assert not valid[grid.height_px :].any()
    assert not valid[:, grid.width_px :].any()
    return pixels[: grid.height_px, : grid.width_px], valid[: grid.height_px, : grid.width_px]


def mean_of_cells(pixels: np.ndarray, k: int) -> np.ndarray:
    """Means of k × k cells; those at the far edges repeat their last row and column."""
    height, width = -(-pixels.shape[0] // k), -(-pixels.shape[1] // k)
    rows = np.minimum(np.arange(height * k), pixels.shape[0] - 1)
    cols = np.minimum(np.arange(width * k), pixels.shape[1] - 1)
    cells = pixels[rows][:, cols].reshape(height, k, width, k, -1).astype(float)
    return np.floor(cells.mean(axis=(1, 3)) + 0.5)


@pytest.mark.parametrize("decimation", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("overviews", [(), (2,), (2, 4), (3,)], ids=str)
def test_every_window_shows_the_same_pixels(tmp_path: Path, decimation: int, overviews: tuple[int, ...]) -> None:
    pixels = noise(HEIGHT, WIDTH)
    path = write_tif(tmp_path / "a.tif", pixels, overviews=overviews)
    scene = scene_of(path)
    found, valid = read_all(scene, grid_of(scene, decimation=decimation, block_px=32), halo_px=16)
    for block_px, halo_px in ((64, 0), (16, 32), (512, 40)):
        again, _ = read_all(scene, grid_of(scene, decimation=decimation, block_px=block_px), halo_px)
        assert np.array_equal(again, found)
    assert valid.all()
    factor = max([1, *(each for each in overviews if decimation % each == 0)])
    if factor > 1:  # the oracle is what GDAL wrote as overview
        with rasterio.open(path, overview_level=overviews.index(factor)) as image:
            pixels = np.moveaxis(image.read(), 0, -1)
    assert np.array_equal(found, mean_of_cells(pixels, decimation // factor))


@pytest.mark.parametrize("decimation", [1, 2, 3])
def test_beyond_the_edge_it_is_mirrored_never_black(tmp_path: Path, decimation: int) -> None:
    pixels = noise(HEIGHT, WIDTH, low=100)
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels))
    grid = grid_of(scene, decimation=decimation)
    whole = mean_of_cells(pixels, decimation).astype(np.uint8)
    reader = SceneReader(ReadSettings())
    for index in grid.blocks():
        window = reader.read(scene, grid, index, 16)
        assert window.image.min() >= 100
        rows = np.arange(-16, 80) + index.row * 64
        cols = np.arange(-16, 80) + index.col * 64
        near = [
            (i, j)
            for i, j in itertools.product(range(0, 96, 5), range(0, 96, 5))
            if rows[i] < grid.height_px + 16 and cols[j] < grid.width_px + 16
        ]
        for i, j in near:
            row = mirrored(rows[i], grid.height_px)
            col = mirrored(cols[j], grid.width_px)
            assert window.image[i, j].tolist() == whole[row, col].tolist()


def mirrored(position: int, size: int) -> int:
    """The edge pixel itself is the mirror."""
    if position < 0:
        return -position
    return position if position < size else 2 * (size - 1) - position


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 3), (15, 15), (64, 64)], ids=lambda size: f"{size} px"
)
@pytest.mark.parametrize("decimation", [1, 3])
def test_scenes_smaller_than_the_halo(tmp_path: Path, height: int, width: int, decimation: int) -> None:
    pixels = noise(height, width, low=50)
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels))
    grid = grid_of(scene, decimation=decimation)
    found, valid = read_all(scene, grid, halo_px=32)
    assert np.array_equal(found, mean_of_cells(pixels, decimation))
    assert valid.all()
    window = SceneReader(ReadSettings()).read(scene, grid, BlockIndex(0, 0), 32)
    assert window.image.min() >= 50
    assert window.valid.sum() == grid.height_px * grid.width_px


HOLE = np.ones((HEIGHT, WIDTH), bool)
HOLE[20:90, 30:200] = False


def with_hole(pixels: np.ndarray, value: float) -> np.ndarray:
    return np.where(HOLE[..., None], pixels, np.array(value, pixels.dtype))


NO_DATA: list[Any] = [
    pytest.param(noise(HEIGHT, WIDTH), {"mask": HOLE}, {}, id="internal mask"),
    pytest.param(with_hole(noise(HEIGHT, WIDTH), 0), {"nodata": 0}, {}, id="nodata"),
    pytest.param(
        np.dstack([noise(HEIGHT, WIDTH), np.where(HOLE, 255, 0).astype(np.uint8)]), {"alpha": "yes"}, {}, id="alpha"
    ),
    pytest.param(
        with_hole(noise(HEIGHT, WIDTH).astype(np.float32), np.nan), {}, {"rescale": (0, 255)}, id="NaN"
    ),
    pytest.param(
        with_hole(noise(HEIGHT, WIDTH).astype(np.uint16), 65535), {"nodata": 65535}, {"rescale": (0, 255)},
        id="uint16 with nodata",
    ),
    pytest.param(
        with_hole(noise(HEIGHT, WIDTH, bands=5), 0), {"nodata": 0, "photometric": "MINISBLACK"}, {"bands": (5, 2, 1)},
        id="chosen bands",
    ),
]  # fmt: skip


@pytest.mark.parametrize("decimation", [1, 2, 4])
@pytest.mark.parametrize(("pixels", "profile", "source"), NO_DATA)
def test_what_has_no_data(
    tmp_path: Path, pixels: np.ndarray, profile: dict[str, Any], source: dict[str, Any], decimation: int
) -> None:
    """A decimated pixel has data where at least half of it has; the hole's edges lie on even pixels."""
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels, **profile), **source)
    found, valid = read_all(scene, grid_of(scene, decimation=decimation))
    expected = mean_of_cells(HOLE[..., None].astype(float) * 100, decimation)[..., 0] >= 50
    assert np.array_equal(valid, expected)
    if decimation == 1:
        bands = [band - 1 for band in source.get("bands", (1, 2, 3))]
        assert np.array_equal(found[HOLE], pixels[HOLE][:, bands])


@pytest.mark.parametrize(
    ("cell", "holes", "expected", "valid"),
    [
        pytest.param([100, 100, 100, 0], [3], 100, True, id="one hole"),
        pytest.param([101, 100, 0, 0], [2, 3], 101, True, id="half, rounded up"),
        pytest.param([90, 7, 7, 7], [1, 2, 3], 90, False, id="mostly holes"),
        pytest.param([1, 2, 3, 4], [], 3, True, id="none"),
        pytest.param([8, 8, 8, 8], [0, 1, 2, 3], 8, False, id="nothing else"),
    ],
)
def test_the_colour_of_nodata_is_not_averaged_in(
    tmp_path: Path, cell: list[int], holes: list[int], expected: int, valid: bool
) -> None:
    """A cell of 2 × 2 px beside one that is whole, which must not change."""
    pixels = np.full((2, 4, 3), 50, np.uint8)
    pixels[:, :2] = np.reshape(cell, (2, 2, 1))
    mask = np.ones((2, 4), bool)
    for hole in holes:
        mask[hole // 2, hole % 2] = False
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels, mask=mask))
    found, known = read_all(scene, grid_of(scene, decimation=2))
    assert found[0].tolist() == [[expected] * 3, [50] * 3]
    assert known.tolist() == [[valid, True]]


def test_a_black_pixel_is_no_hole_when_one_band_has_data(tmp_path: Path) -> None:
    """GDAL's rule for nodata in RGB: invalid only where every band has it."""
    pixels = np.array([[[0, 0, 0], [0, 0, 1], [5, 0, 0], [9, 9, 9]]], np.uint8)
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels, nodata=0))
    _, valid = read_all(scene, grid_of(scene))
    assert valid.tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_one_band_that_is_no_number_makes_a_hole(tmp_path: Path, value: float) -> None:
    pixels = np.full((2, 2, 3), 7, np.float32)
    pixels[0, 1, 2] = value
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels), rescale=(0, 255))
    _, valid = read_all(scene, grid_of(scene))
    assert valid.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("dtype", "rescale", "values", "expected"),
    [
        pytest.param("uint16", (1000, 3000), [0, 1000, 2000, 3000, 65535], [0, 0, 128, 255, 255], id="uint16"),
        pytest.param("int16", (-100, 100), [-200, -100, 0, 50, 200], [0, 0, 128, 191, 255], id="int16"),
        pytest.param("float32", (0, 1), [-1, 0, 0.25, 1, 9], [0, 0, 64, 255, 255], id="float32"),
        pytest.param("uint8", (0, 51), [0, 1, 10, 51, 200], [0, 5, 50, 255, 255], id="uint8, stretched"),
    ],
)
def test_rescale(tmp_path: Path, dtype: str, rescale: Any, values: list[float], expected: list[int]) -> None:
    pixels = np.repeat(np.array(values, dtype)[None, :, None], 3, axis=2)
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels, photometric="MINISBLACK"), rescale=rescale, bands=(1, 2, 3))
    found, valid = read_all(scene, grid_of(scene))
    assert valid.all()
    assert np.abs(found[0, :, 0].astype(int) - expected).max() <= 1  # 127.5 may go either way
    assert np.array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param({"tiled": False, "blockysize": 16}, id="strips"),
        pytest.param({"tiled": False, "blockysize": 208, "compress": "deflate"}, id="one strip"),
        pytest.param({"interleave": "band", "compress": "lzw"}, id="by band"),
        pytest.param({"transform": Affine(0.5, 0, 415_000, 0, 0.5, 4_000_000)}, id="south-up"),
        pytest.param({"transform": Affine(0.3, 0.4, 415_000, 0.4, -0.3, 4_000_000)}, id="rotated"),
    ],
)
def test_layouts_of_plain_tiffs(tmp_path: Path, profile: dict[str, Any]) -> None:
    pixels = noise(HEIGHT, WIDTH)
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels, **profile))
    found, _ = read_all(scene, grid_of(scene), halo_px=8)
    assert np.array_equal(found, pixels)


def test_sidecar_overviews_and_mask(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(HEIGHT, WIDTH))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False, TIFF_USE_OVR=True):
        with rasterio.open(path, "r+") as image:
            image.write_mask(HOLE)
        with rasterio.open(path, "r+") as image:
            image.build_overviews([2])
    assert (tmp_path / "a.tif.ovr").exists()
    assert (tmp_path / "a.tif.msk").exists()
    scene = scene_of(path)
    assert scene.overviews == (2,)
    found, valid = read_all(scene, grid_of(scene, decimation=2))
    with rasterio.open(path, overview_level=0) as image:
        assert np.array_equal(found, np.moveaxis(image.read(), 0, -1))
    assert not valid[20:40, 30:90].any()
    assert valid[50:].all()


def test_overviews_that_are_not_whole_multiples_are_not_used(tmp_path: Path) -> None:
    """203 / 2 rounded down: GDAL calls it factor 2, but its pixels lie elsewhere."""
    pixels = noise(HEIGHT, WIDTH)
    path = write_tif(tmp_path / "a.tif", pixels)
    small = noise(HEIGHT // 2, WIDTH // 2, seed=1)
    write_tif(tmp_path / "small.tif", small).rename(tmp_path / "a.tif.ovr")
    scene = scene_of(path)
    assert scene.overviews == (2,)
    found, _ = read_all(scene, grid_of(scene, decimation=2))
    assert np.array_equal(found, mean_of_cells(pixels, 2))


def test_an_overview_with_huge_tiles_is_refused(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(512, 512))
    write_tif(tmp_path / "b.tif", noise(256, 256), blockxsize=2048, blockysize=2048).rename(tmp_path / "a.tif.ovr")
    scene = scene_of(path)
    settings = ReadSettings(max_block_bytes=2048 * 2048)
    with pytest.raises(SceneUnsupported, match="2048 × 2048 px"):
        SceneReader(settings).read(scene, grid_of(scene, decimation=2), BlockIndex(0, 0), 0)


@pytest.mark.parametrize(("compress", "decimation"), [("none", 1), ("deflate", 1), ("jpeg", 1), ("deflate", 2)])
def test_a_truncated_file_is_an_error_and_read_anew_when_whole(tmp_path: Path, compress: str, decimation: int) -> None:
    pixels = noise(600, 600)
    path = write_tif(tmp_path / "a.tif", pixels, compress=compress, overviews=(2,))
    whole = path.read_bytes()
    scene = scene_of(path)
    grid = grid_of(scene, decimation=decimation, block_px=128)
    expected, _ = read_all(scene, grid)
    reader = SceneReader(ReadSettings())
    path.write_bytes(whole[: len(whole) // 3])
    failures = 0
    broken = scene_of(path)
    for index in grid.blocks():
        try:
            window = reader.read(broken, grid, index, 0)
        except SceneUnreadable as error:
            assert "truncated or corrupt" in str(error)
            failures += 1
        else:
            place = slice(index.row * 128, index.row * 128 + 128), slice(index.col * 128, index.col * 128 + 128)
            height, width = grid.block_shape(index)
            assert np.array_equal(window.image[:height, :width], expected[place])
    assert failures > 0
    path.write_bytes(whole)
    repaired, valid = read_all(scene_of(path), grid)
    assert np.array_equal(repaired, expected)
    assert valid.all()


@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd", "jpeg", "webp", "lerc"])
def test_a_damaged_tile_is_an_error(tmp_path: Path, compress: str) -> None:
    """The first bytes of a tile; what lies further inside some codecs cannot tell from data."""
    path = write_tif(tmp_path / "a.tif", noise(256, 256), compress=compress)
    with rasterio.open(path) as image:
        offset = int(image.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", 1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 64] = bytes(64)
    path.write_bytes(data)
    scene = scene_of(path)
    reader = SceneReader(ReadSettings())
    assert reader.read(scene, grid_of(scene), BlockIndex(0, 0), 0).valid.all()
    for _ in range(2):
        with pytest.raises(SceneUnreadable, match="truncated or corrupt"):
            reader.read(scene, grid_of(scene), BlockIndex(1, 1), 0)


def test_a_replaced_file_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(100, 100, seed=1))
    scene = scene_of(path)
    reader = SceneReader(ReadSettings())
    reader.read(scene, grid_of(scene), BlockIndex(0, 0), 0)
    pixels = noise(100, 100, seed=2)
    write_tif(tmp_path / "b.tif", pixels).replace(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(SceneChanged, match="was replaced"):
        reader.read(scene, grid_of(scene), BlockIndex(0, 0), 0)
    new = scene_of(path)
    assert np.array_equal(reader.read(new, grid_of(new), BlockIndex(0, 0), 0).image, pixels[:64, :64])


def test_threads_share_a_reader(tmp_path: Path) -> None:
    """More scenes than files are kept open, from more threads than cores."""
    images = [noise(130, 130, seed=seed) for seed in range(12)]
    scenes = [scene_of(write_tif(tmp_path / f"{i}.tif", image, compress="deflate")) for i, image in enumerate(images)]
    reader = SceneReader(ReadSettings())

    def check(job: int) -> bool:
        i = job % len(scenes)
        window = reader.read(scenes[i], grid_of(scenes[i]), BlockIndex(1, 1), 0)
        return np.array_equal(window.image, images[i][64:128, 64:128])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(240)))


def test_real_scenes_agree_with_rasterio(data: Path) -> None:
    """Every file of the sample set that can be served: the middle block against a plain read of the same window."""
    read = 0
    for path in sorted((data / "scenes").glob("*.tif")):
        try:
            scene = scene_of(path)
        except SceneUnsupported:
            continue
        grid = grid_of(scene, block_px=256)
        index = BlockIndex((grid.rows - 1) // 2, (grid.cols - 1) // 2)
        window = SceneReader(ReadSettings()).read(scene, grid, index, 0)
        height, width = grid.block_shape(index)
        with rasterio.open(path) as image:
            place = rasterio.windows.Window(index.col * 256, index.row * 256, width, height)
            assert np.array_equal(
                window.image[:height, :width], np.moveaxis(image.read([1, 2, 3], window=place), 0, -1)
            )
            assert np.array_equal(window.valid[:height, :width], image.dataset_mask(window=place) > 0)
        read += 1
    assert read >= 5
