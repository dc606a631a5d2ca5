"""An XYZ service is read as the picture it was cut from; each tile once, and never more at a time than allowed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from landcover.catalog import expand_scenes
from landcover.errors import SceneUnsupported
from landcover.geodesy import transformer
from landcover.grid import BlockIndex, Grid
from landcover.reading import SceneReader
from landcover.scene import Scene, current_version, describe
from landcover.settings import OriginSettings, ReadSettings
from rasters import grid_of, noise, scene_of, write_tif
from tile_server import Answer, TileServer, corner_lonlat, encode, tile_server


def settings(**origin: Any) -> ReadSettings:
    return ReadSettings(timeout_s=5, origin=OriginSettings(**origin))


def xyz_scene(server: TileServer, **options: Any) -> Scene:
    """The scene of everything that the server has."""
    (source,) = expand_scenes(server.template + server.fragment + "&max_rps=1000")
    assert source.xyz is not None
    source = source.model_copy(update={"xyz": source.xyz.model_copy(update=options)})
    return describe(source, current_version(source, ReadSettings()), ReadSettings())


def raster_of(server: TileServer, path: Path) -> Scene:
    """The same picture as a GeoTIFF on the same ground, placed by PROJ rather than by our own arithmetic."""
    zoom, col, row = server.corner
    x, y = transformer("EPSG:4326", "EPSG:3857").transform(*corner_lonlat(zoom, col, row))
    right, _ = transformer("EPSG:4326", "EPSG:3857").transform(*corner_lonlat(zoom, col + 1, row))
    side = (right - x) / server.side
    transform = rasterio.transform.from_origin(x, y, side, side)
    return scene_of(write_tif(path, server.pixels, crs="EPSG:3857", transform=transform))


def read_all(scene: Scene, grid: Grid, halo_px: int, reader: SceneReader) -> list[Any]:
    return [reader.read(scene, grid, index, halo_px) for index in grid.blocks()]


@pytest.mark.parametrize("side", [256, 512])
@pytest.mark.parametrize("decimation", [1, 2, 3])
def test_blocks_are_those_of_the_picture_it_was_cut_from(tmp_path: Path, side: int, decimation: int) -> None:
    """Halos across tiles' borders, mirrored edges and decimation included."""
    with tile_server(noise(2 * side, 3 * side), side=side) as server:
        scene = xyz_scene(server, tilesize=side)
        expected = raster_of(server, tmp_path / "a.tif")
        assert (scene.width_px, scene.height_px) == (expected.width_px, expected.height_px)
        assert np.allclose(scene.transform, expected.transform, rtol=1e-9, atol=1e-6)
        assert scene.gsd_m == pytest.approx(expected.gsd_m, rel=1e-9)
        assert scene.bounds_wgs84 == pytest.approx(expected.bounds_wgs84, abs=1e-9)
        assert scene.crs_name == expected.crs_name == "EPSG:3857"
        reader = SceneReader(settings())
        for block_px, halo_px in ((128, 40), (512, 96)):
            grid = grid_of(scene, decimation=decimation, block_px=block_px)
            windows = read_all(scene, grid, halo_px, reader)
            twins = read_all(expected, grid_of(expected, decimation=decimation, block_px=block_px), halo_px, reader)
            for window, twin in zip(windows, twins, strict=True):
                assert np.array_equal(window.image, twin.image)
                assert np.array_equal(window.valid, twin.valid)


def test_each_tile_is_asked_for_once_whatever_neighbours_share(tmp_path: Path) -> None:
    """By one reader after another, and by many threads at once."""
    with tile_server(noise(1024, 1024)) as server:
        server.delay_s = 0.02
        scene = xyz_scene(server, max_connections=3)
        grid = grid_of(scene, block_px=128)
        common = settings(memory_bytes=64 << 20)
        readers = [SceneReader(common), SceneReader(common)]
        with ThreadPoolExecutor(12) as pool:
            jobs = [(readers[i % 2], index) for i, index in enumerate(grid.blocks())]
            windows = list(pool.map(lambda job: job[0].read(scene, grid, job[1], 64), jobs))
        assert all(window.valid.all() for window in windows)
        assert len(server.requests) == 16
        assert set(server.requests.values()) == {1}
        assert server.most_at_once <= 3


def test_what_memory_does_not_hold_is_asked_for_anew() -> None:
    with tile_server(noise(256, 512)) as server:
        scene = xyz_scene(server)
        grid = grid_of(scene, block_px=256)
        reader = SceneReader(settings(memory_bytes=256 * 256 * 3))  # one tile
        for col in (0, 1, 0, 1):
            reader.read(scene, grid, BlockIndex(0, col), 0)
        assert set(server.requests.values()) == {2}


@pytest.mark.parametrize("status", [404, 204, 410])
def test_missing_tiles_are_no_data(status: int) -> None:
    with tile_server(noise(512, 512)) as server:
        zoom, col, row = server.corner
        server.answer = lambda address, _: Answer(status=status) if address == (zoom, col + 1, row) else None
        scene = xyz_scene(server)
        window = SceneReader(settings()).read(scene, grid_of(scene, block_px=512), BlockIndex(0, 0), 0)
        expected = np.ones((512, 512), bool)
        expected[:256, 256:] = False
        assert np.array_equal(window.valid, expected)
        assert np.array_equal(window.image[expected], server.pixels[expected])
        assert not window.image[~expected].any()


def test_pictures_that_mean_there_is_none() -> None:
    import hashlib

    blank = encode(np.full((256, 256, 3), 204, np.uint8))
    with tile_server(noise(256, 512)) as server:
        zoom, col, row = server.corner
        server.answer = lambda address, _: Answer(body=blank) if address == (zoom, col, row) else None
        scene = xyz_scene(server, blank_sha256=(hashlib.sha256(blank).hexdigest(),))
        window = SceneReader(settings()).read(scene, grid_of(scene, block_px=512), BlockIndex(0, 0), 0)
        assert not window.valid[:, :256].any()
        assert window.valid[:256, 256:].all()


def test_what_is_transparent_is_no_data() -> None:
    picture = np.dstack([noise(256, 256), np.full((256, 256), 255, np.uint8)])
    picture[40:70, :, 3] = 0
    with tile_server(picture) as server:
        scene = xyz_scene(server)
        window = SceneReader(settings()).read(scene, grid_of(scene, block_px=256), BlockIndex(0, 0), 0)
        assert np.array_equal(window.valid, picture[..., 3] > 0)
        assert np.array_equal(window.image, picture[..., :3])


@pytest.mark.parametrize("mode", ["L", "P", "LA", "1"])
def test_other_kinds_of_pictures(mode: str) -> None:
    import io

    from PIL import Image

    grey = np.repeat(np.where(noise(256, 256, bands=1) > 99, 255, 0), 3, axis=2).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(grey).convert(mode).save(data, "PNG")
    with tile_server(grey) as server:
        server.answer = lambda *_: Answer(body=data.getvalue())
        scene = xyz_scene(server)
        window = SceneReader(settings()).read(scene, grid_of(scene, block_px=256), BlockIndex(0, 0), 0)
        assert np.array_equal(window.image, grey)
        assert window.valid.all()


def test_jpeg_is_near() -> None:
    smooth = np.add.outer(np.arange(256), np.arange(256)).astype(np.uint8) // 2
    picture = np.repeat(smooth[..., None], 3, axis=2)
    with tile_server(picture, suffix="jpg") as server:
        scene = xyz_scene(server)
        window = SceneReader(settings()).read(scene, grid_of(scene, block_px=256), BlockIndex(0, 0), 0)
        assert np.abs(window.image.astype(int) - picture).mean() < 3


def test_a_zoom_far_too_fine_for_the_model_is_refused() -> None:
    with tile_server(noise(256, 256)) as server:
        scene = xyz_scene(server, bounds=(139.0, 35.0, 140.0, 36.0))
        with pytest.raises(SceneUnsupported, match=r"needs 1024 tiles .*lower zoom"):
            SceneReader(settings()).read(scene, grid_of(scene, block_px=512, decimation=16), BlockIndex(1, 1), 0)
        assert not server.requests


def test_it_says_who_asks_and_sends_what_the_operator_wants_sent() -> None:
    with tile_server(noise(256, 256)) as server:
        scene = xyz_scene(server, headers=(("Referer", "https://example.org"),))
        SceneReader(settings()).read(scene, grid_of(scene, block_px=256), BlockIndex(0, 0), 0)
        (headers,) = server.headers
        assert headers["User-Agent"].startswith("landcover-tiles/")
        assert headers["Referer"] == "https://example.org"
