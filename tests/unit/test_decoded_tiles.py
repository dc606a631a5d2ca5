"""Windows put together of shared tiles are what GDAL reads at once, and nothing of a failed read is kept."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from image_server import image_server
from landcover.errors import SceneTooSlow, SceneUnreadable
from landcover.geotiff.tiles import DecodedTiles, Layout, Part, Span
from landcover.geotiff.windows import GeoTiffWindows
from landcover.scene import Scene, SceneSource, current_version, describe
from landcover.settings import ReadSettings
from rasters import noise, scene_of, write_tif

HEIGHT, WIDTH = 517, 743
HOLE = np.ones((HEIGHT, WIDTH), bool)
HOLE[100:260, 90:401] = False
LAYOUT = Layout(image_px=(HEIGHT, WIDTH), tile_px=(64, 64))
DIRECT = ReadSettings(tile_cache_bytes=0)


def random_windows(height: int, width: int, count: int, seed: int = 0) -> Iterator[tuple[Span, Span]]:
    """Of any size, some a pixel wide; a third of them reach the right or bottom edge."""
    chance = random.Random(seed)
    for _ in range(count):
        rows = sorted(chance.sample(range(height + 1), 2))
        cols = sorted(chance.sample(range(width + 1), 2))
        if chance.random() < 1 / 3:
            rows[1], cols[1] = height, width
        yield (rows[0], rows[1]), (cols[0], cols[1])


LAYOUTS: list[Any] = [
    pytest.param({"compress": "jpeg"}, {}, id="jpeg"),
    pytest.param({"blockxsize": 128, "blockysize": 256, "compress": "deflate"}, {}, id="oblong tiles"),
    pytest.param({"blockxsize": 16, "blockysize": 16}, {}, id="small tiles"),
    pytest.param({"blockxsize": 1024, "blockysize": 1024, "compress": "deflate"}, {}, id="one tile"),
    pytest.param({"tiled": False, "blockysize": 16}, {}, id="strips"),
    pytest.param({"tiled": False, "blockysize": 128}, {}, id="high strips"),
    pytest.param({"interleave": "band", "compress": "lzw"}, {}, id="by band"),
    pytest.param({"nodata": 0}, {}, id="nodata"),
    pytest.param({"mask": HOLE}, {}, id="mask"),
    pytest.param({"alpha": "yes"}, {}, id="alpha"),
    pytest.param({"dtype": "uint16", "nodata": 0}, {"rescale": (0, 300)}, id="uint16"),
    pytest.param({"dtype": "float32"}, {"rescale": (0, 200)}, id="NaN"),
]


@pytest.mark.parametrize("decimation", [1, 2, 3, 4])
@pytest.mark.parametrize(("profile", "source"), LAYOUTS)
def test_every_window_from_many_threads_is_what_is_read_at_once(
    tmp_path: Path, profile: dict[str, Any], source: dict[str, Any], decimation: int
) -> None:
    """The cache is smaller than the image, so that tiles go and come again."""
    profile = dict(profile)
    pixels = noise(HEIGHT, WIDTH) * HOLE[..., np.newaxis]
    if "alpha" in profile:
        pixels = np.dstack([pixels, HOLE.astype(np.uint8) * 255])
    elif dtype := profile.pop("dtype", None):
        pixels = pixels.astype(dtype)
        if dtype == "float32":
            pixels[~HOLE] = np.nan
    scene = scene_of(write_tif(tmp_path / "a.tif", pixels, overviews=(2,), **profile), **source)
    whole = GeoTiffWindows(DIRECT).read(scene, decimation, (0, -(-HEIGHT // decimation)), (0, -(-WIDTH // decimation)))
    if decimation == 1 and not source and profile.get("compress") != "jpeg":
        assert np.array_equal(whole[0][HOLE], pixels[HOLE][:, :3])
    windows = GeoTiffWindows(ReadSettings(tile_cache_bytes=600_000))

    def check(window: tuple[Span, Span]) -> None:
        rows, cols = window
        part = windows.read(scene, decimation, rows, cols)
        for found, expected in zip(part, whole, strict=True):
            assert np.array_equal(found, expected[slice(*rows), slice(*cols)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, random_windows(*whole[1].shape, count=30)))


class Decoder:
    """An image of noise that counts how often each of its pixels is decoded, and fails where it is told."""

    def __init__(self) -> None:
        self.pixels = noise(HEIGHT, WIDTH)
        self.decoded = np.zeros((HEIGHT, WIDTH), int)
        self.damaged: Span | None = None
        self._lock = threading.Lock()

    def __call__(self, rows: Span, cols: Span) -> Part:
        place = slice(*rows), slice(*cols)
        with self._lock:
            self.decoded[place] += 1
        if self.damaged and rows[0] <= self.damaged[0] < rows[1] and cols[0] <= self.damaged[1] < cols[1]:
            raise SceneUnreadable("damaged")
        return self.pixels[place], HOLE[place]


def test_each_tile_is_decoded_once_whoever_wants_it() -> None:
    tiles, decoder = DecodedTiles(8 << 20), Decoder()

    def check(window: tuple[Span, Span]) -> None:
        pixels, valid = tiles.window("image", LAYOUT, *window, decoder)
        place = slice(*window[0]), slice(*window[1])
        assert np.array_equal(pixels, decoder.pixels[place])
        assert np.array_equal(valid, HOLE[place])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, random_windows(HEIGHT, WIDTH, 200)))
    assert decoder.decoded.max() == 1


def test_what_is_missing_is_read_at_once_and_no_more_than_that() -> None:
    tiles, reads = DecodedTiles(8 << 20), []
    decoder = Decoder()

    def read(rows: Span, cols: Span) -> Part:
        reads.append((rows, cols))
        return decoder(rows, cols)

    tiles.window("image", LAYOUT, (70, 200), (70, 200), read)
    assert reads == [((64, 256), (64, 256))]
    tiles.window("image", LAYOUT, (100, 260), (130, 300), read)
    assert reads[1:] == [((64, 320), (256, 320)), ((256, 320), (128, 256))]
    tiles.window("image", LAYOUT, (500, HEIGHT), (700, WIDTH), read)
    assert reads[3:] == [((448, HEIGHT), (640, WIDTH))]
    tiles.window("another", LAYOUT, (70, 200), (70, 200), read)
    assert len(reads) == 5


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    """A tile of 64 px and its mask are 16 KiB; without holes 12."""
    tiles, decoder = DecodedTiles(20 * 64 * 64 * 4), Decoder()
    for row in range(8):
        for col in range(11):
            tiles.window("image", LAYOUT, (row * 64, row * 64 + 64), (col * 64, col * 64 + 64), decoder)
            held = [future.result() for future in tiles._tiles.values()]
            assert sum(tile.nbytes for tile in held if tile) == tiles._nbytes <= 20 * 64 * 64 * 4
    assert 20 <= len(tiles._tiles) <= 27
    tiles.window("image", LAYOUT, (448, 512), (640, 704), decoder)
    assert decoder.decoded[448:512, 640:704].max() == 1
    tiles.window("image", LAYOUT, (0, 64), (0, 64), decoder)
    assert decoder.decoded[0, 0] == 2


def two_windows(tiles: DecodedTiles, decoder: Decoder, fail: Exception) -> tuple[Future[Part], Future[Part]]:
    """One that fails, of the tiles 0 and 1, and one of 1 and 2, which was promised 1 by the other before it failed."""
    begun, promised = threading.Event(), threading.Event()

    def failing(rows: Span, cols: Span) -> Part:
        begun.set()
        assert promised.wait(10)
        raise fail

    def sound(rows: Span, cols: Span) -> Part:
        promised.set()
        return decoder(rows, cols)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(tiles.window, "image", LAYOUT, (0, 64), (0, 128), failing)
        assert begun.wait(10)
        return first, pool.submit(tiles.window, "image", LAYOUT, (0, 64), (64, 192), sound)


def test_a_failed_read_leaves_nothing_and_harms_nobody_else() -> None:
    tiles, decoder = DecodedTiles(8 << 20), Decoder()
    failed, sound = two_windows(tiles, decoder, SceneUnreadable("damaged"))
    with pytest.raises(SceneUnreadable, match="damaged"):
        failed.result()
    assert np.array_equal(sound.result()[0], decoder.pixels[:64, 64:192])
    assert [place for _, place in tiles._tiles] == [(0, 2)]
    decoder.damaged = 10, 10
    with pytest.raises(SceneUnreadable):
        tiles.window("image", LAYOUT, (0, 64), (0, 192), decoder)
    decoder.damaged = None
    assert np.array_equal(tiles.window("image", LAYOUT, (0, 64), (0, 192), decoder)[0], decoder.pixels[:64, :192])


def test_who_waits_for_a_silent_server_does_not_wait_twice() -> None:
    tiles, decoder = DecodedTiles(8 << 20), Decoder()
    for each in two_windows(tiles, decoder, SceneTooSlow("silent")):
        with pytest.raises(SceneTooSlow, match="silent"):
            each.result()
    assert decoder.decoded[:64, :128].max() == 0
    assert [place for _, place in tiles._tiles] == [(0, 2)]


def test_a_replaced_file_and_other_bands_have_tiles_of_their_own(tmp_path: Path) -> None:
    windows = GeoTiffWindows(ReadSettings())
    old, new = noise(200, 200, seed=1), noise(200, 200, seed=2)
    path = write_tif(tmp_path / "a.tif", old)
    assert np.array_equal(windows.read(scene_of(path), 1, (0, 200), (0, 200))[0], old)
    swapped = scene_of(path, bands=(3, 2, 1))
    assert np.array_equal(windows.read(swapped, 1, (0, 200), (0, 200))[0], old[..., ::-1])
    write_tif(tmp_path / "b.tif", new).replace(path)
    os.utime(path, ns=(1, 1))
    assert np.array_equal(windows.read(scene_of(path), 1, (0, 200), (0, 200))[0], new)


def test_what_is_forgotten_is_decoded_anew_even_in_a_read_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is overwritten under an open dataset, found replaced, and returns under its old version."""
    path = write_tif(tmp_path / "a.tif", noise(200, 200, seed=1))
    scene = scene_of(path)
    windows = GeoTiffWindows(ReadSettings())
    decode = windows._decode

    def forget_meanwhile(*args: Any) -> Part:
        windows.forget(scene)
        return np.zeros((200, 200, 3), np.uint8), np.ones((200, 200), bool)

    monkeypatch.setattr(windows, "_decode", forget_meanwhile)
    assert not windows.read(scene, 1, (0, 200), (0, 200))[0].any()
    monkeypatch.setattr(windows, "_decode", decode)
    assert windows.read(scene, 1, (0, 200), (0, 200))[0].all()


def test_after_a_servers_failure_all_is_fetched_again(tmp_path: Path) -> None:
    """What came of the image before is not believed: as a file that failed is closed, with what GDAL kept of it."""
    settings = ReadSettings(timeout_s=1.5)
    with image_server() as server:
        pixels = noise(600, 600)
        server.files["/a.tif"] = write_tif(tmp_path / "a.tif", pixels).read_bytes(), '"1"'
        source = SceneSource(id="a", location=f"{server.url}/a.tif")
        scene: Scene = describe(source, current_version(source, settings), settings)
        windows = GeoTiffWindows(settings)
        for _ in range(2):
            assert np.array_equal(windows.read(scene, 1, (0, 64), (0, 64))[0], pixels[:64, :64])
        server.fault = "status 500"
        with pytest.raises(SceneUnreadable):
            windows.read(scene, 1, (400, 600), (0, 600))
        with pytest.raises(SceneUnreadable):
            windows.read(scene, 1, (0, 64), (0, 64))
        server.fault = None
        assert np.array_equal(windows.read(scene, 1, (0, 600), (0, 600))[0], pixels)


def test_threads_share_tiles_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each opens the file for itself, and a tile is decoded by one of them."""
    scene = scene_of(write_tif(tmp_path / "a.tif", noise(HEIGHT, WIDTH), compress="deflate"))
    windows = GeoTiffWindows(ReadSettings())
    decoded: list[int] = []
    decode = windows._decode

    def count(scene: Scene, level: int | None, image: Any, rows: Span, cols: Span) -> Part:
        assert isinstance(image, rasterio.DatasetReader)
        decoded.append((rows[1] - rows[0]) * (cols[1] - cols[0]))
        return decode(scene, level, image, rows, cols)

    monkeypatch.setattr(windows, "_decode", count)
    with ThreadPoolExecutor(8) as pool:
        parts = random_windows(HEIGHT, WIDTH, 60)
        list(pool.map(lambda part: windows.read(scene, 1, *part), [*parts, ((0, HEIGHT), (0, WIDTH))]))
    assert sum(decoded) == HEIGHT * WIDTH
