"""A mosaic whose images change: its version does, nothing mixed is read, and headers are read once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from image_server import ImageServer, image_server
from landcover.errors import SceneChanged, SceneTooSlow, SceneUnreadable
from landcover.grid import BlockIndex
from landcover.mosaic import describing, headers, windows
from landcover.mosaic.mosaic import MosaicScene
from landcover.reading import SceneReader
from landcover.scene import SceneSource, current_version, describe
from landcover.settings import ReadSettings
from mosaics import cut, mosaic_of, mosaic_source
from rasters import HALF_METRE, grid_of, noise, write_tif

PIXELS = noise(90, 120)


@pytest.fixture
def settings(tmp_path: Path) -> ReadSettings:
    return ReadSettings(index_folder=tmp_path / "index", timeout_s=1.0)


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "_LEAST_AGE_S", 0.0)
    monkeypatch.setattr(describing, "_AGE_PER_COST", 0.0)
    monkeypatch.setattr(windows, "_REMOTE_RECHECK_S", 0.0)


def read(scene: MosaicScene, reader: SceneReader, row: int = 0, col: int = 0) -> np.ndarray:
    return reader.read(scene, grid_of(scene, block_px=32), BlockIndex(row, col), 8).image


def test_the_version_follows_every_image(tmp_path: Path, settings: ReadSettings) -> None:
    parts = cut(tmp_path / "parts", PIXELS, rows=(40,), cols=(50,))
    source = mosaic_source(tmp_path / "parts")
    versions = [current_version(source, settings)]
    assert current_version(source, settings) == versions[0]
    write_tif(parts[3], noise(50, 70, seed=9), transform=HALF_METRE)
    versions.append(current_version(source, settings))
    (tmp_path / "parts" / "10.tif.ovr").write_bytes(b"1")
    versions.append(current_version(source, settings))
    parts[2].unlink()
    versions.append(current_version(source, settings))
    parts[1].rename(tmp_path / "parts" / "9.tif")
    versions.append(current_version(source, settings))
    versions.append(current_version(mosaic_source(tmp_path / "parts", order="last"), settings))
    versions.append(current_version(mosaic_source(tmp_path / "parts", resolution=2), settings))
    assert len(set(versions)) == len(versions)


def test_a_version_that_is_no_longer_there_is_not_described(tmp_path: Path, settings: ReadSettings) -> None:
    parts = cut(tmp_path / "parts", PIXELS, rows=(), cols=(50,))
    source = mosaic_source(tmp_path / "parts")
    before = current_version(source, settings)
    parts[0].unlink()
    with pytest.raises(SceneChanged, match="Mosaic 'mosaic' has changed"):
        describe(source, before, settings)


def test_an_image_replaced_after_it_was_opened_is_noticed_where_it_is_read(
    tmp_path: Path, settings: ReadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while the mosaic's version is still believed; the others are read as before."""
    parts = cut(tmp_path / "parts", PIXELS, rows=(40,), cols=(50,))
    scene, reader = mosaic_of(tmp_path / "parts", settings), SceneReader(settings)
    monkeypatch.setattr(describing, "_LEAST_AGE_S", 1000.0)
    monkeypatch.setattr(describing, "_MOST_AGE_S", 1000.0)
    assert current_version(scene.source, settings) == scene.version
    read(scene, reader, 2, 3)
    write_tif(parts[3], noise(50, 70, seed=9), transform=HALF_METRE)
    with pytest.raises(SceneChanged, match=r"11\.tif was replaced"):
        read(scene, reader, 2, 3)
    assert current_version(scene.source, settings) != scene.version  # it is not believed any more


def test_a_missing_and_a_broken_image_are_named(tmp_path: Path, settings: ReadSettings) -> None:
    parts = cut(tmp_path / "parts", PIXELS, rows=(40,), cols=(50,), compress="deflate")
    whole = parts[3].read_bytes()
    parts[3].write_bytes(whole[: len(whole) // 2])
    scene = mosaic_of(tmp_path / "parts", settings)
    with pytest.raises(SceneUnreadable, match=r"^11\.tif is truncated or corrupt"):
        read(scene, SceneReader(settings), 2, 3)
    parts[3].write_bytes(b"II*\0nothing")
    with pytest.raises(SceneUnreadable, match=r"^11\.tif cannot be opened as a GeoTIFF"):
        mosaic_of(tmp_path / "parts", settings)
    parts[3].unlink()
    with pytest.raises(SceneUnreadable, match=r"^11\.tif cannot be opened"):
        read(scene, SceneReader(settings), 2, 3)


def test_headers_are_read_once_on_a_machine(
    tmp_path: Path, settings: ReadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = cut(tmp_path / "parts", PIXELS, rows=(40,), cols=(50,))
    read_headers: list[str] = []
    original = headers._read
    lock = threading.Lock()

    def counted(source: SceneSource, version: str, settings: ReadSettings) -> headers.Header:
        with lock:
            read_headers.append(Path(source.location).name)
        return original(source, version, settings)

    monkeypatch.setattr(headers, "_read", counted)
    first = mosaic_of(tmp_path / "parts", settings)
    assert sorted(read_headers) == ["00.tif", "01.tif", "10.tif", "11.tif"]
    again = mosaic_of(tmp_path / "parts", settings)
    assert len(read_headers) == 4
    assert np.array_equal(again.layout.boxes, first.layout.boxes)
    assert (again.crs, again.transform, again.image_overviews) == (first.crs, first.transform, first.image_overviews)
    write_tif(parts[3], noise(50, 70, seed=9), transform=HALF_METRE)
    mosaic_of(tmp_path / "parts", settings)
    assert read_headers[4:] == ["11.tif"]
    (kept,) = settings.index_folder.iterdir()
    assert str(tmp_path) not in kept.read_bytes().decode("latin1")
    kept.write_bytes(b"rubbish")
    mosaic_of(tmp_path / "parts", settings)
    assert len(read_headers) == 9


def test_headers_that_cannot_be_kept_are_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cut(tmp_path / "parts", PIXELS, rows=(40,), cols=(50,))
    assert mosaic_of(tmp_path / "parts", ReadSettings(index_folder=tmp_path / "file" / "in")).width_px == 120


def test_threads_share_a_mosaic(tmp_path: Path, settings: ReadSettings) -> None:
    """More images than each thread keeps open."""
    cut(tmp_path / "parts", PIXELS, rows=tuple(range(15, 90, 15)), cols=tuple(range(15, 120, 15)))
    scene, reader = mosaic_of(tmp_path / "parts", settings), SceneReader(settings)
    assert len(scene.locations) == 48
    grid = grid_of(scene, block_px=32)

    def check(index: BlockIndex) -> bool:
        height, width = grid.block_shape(index)
        image = reader.read(scene, grid, index, 0).image[:height, :width]
        top, left = index.row * 32, index.col * 32
        return np.array_equal(image, PIXELS[top : top + height, left : left + width])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, list(grid.blocks()) * 4))


def put(server: ImageServer, folder: Path, seed: int = 0) -> None:
    for path in cut(folder, noise(90, 120, seed=seed), rows=(), cols=(50,)):
        server.files[f"/{path.name}"] = path.read_bytes(), f'"{seed}"'


def test_images_behind_http(tmp_path: Path, settings: ReadSettings) -> None:
    with image_server() as server:
        put(server, tmp_path / "parts")
        (tmp_path / "list.txt").write_text(f"{server.url}/00.tif?sig=s3cr3t\n{server.url}/01.tif?sig=s3cr3t\n")
        scene, reader = mosaic_of(tmp_path / "list.txt", settings), SceneReader(settings)
        assert np.array_equal(read(scene, reader, 1, 1)[:, :], PIXELS[24:72, 24:72])
        assert {request.partition("?")[2] for request in server.requests} == {"sig=s3cr3t"}
        put(server, tmp_path / "others", seed=5)
        with pytest.raises(SceneChanged) as caught:
            read(scene, reader, 1, 1)
        assert "s3cr3t" not in str(caught.value)
        after = mosaic_of(tmp_path / "list.txt", settings)
        assert after.version != scene.version
        assert np.array_equal(read(after, reader, 1, 1), noise(90, 120, seed=5)[24:72, 24:72])
        server.fault = "status 500"
        with pytest.raises(SceneUnreadable) as caught2:
            read(after, SceneReader(settings), 1, 1)
        assert "s3cr3t" not in str(caught2.value)
        server.fault = None
        assert np.array_equal(read(after, reader, 1, 1), noise(90, 120, seed=5)[24:72, 24:72])
        server.silent = True
        with pytest.raises(SceneTooSlow):
            current_version(scene.source, settings)


def test_a_document_from_elsewhere_reaches_no_file_of_this_machine(tmp_path: Path, settings: ReadSettings) -> None:
    from landcover.errors import SceneUnsupported

    cut(tmp_path / "parts", PIXELS, rows=(), cols=(50,))
    with image_server() as server:
        put(server, tmp_path / "parts")
        for href, fine in (
            ("00.tif", True),
            (f"{server.url}/00.tif", True),
            (f"file://{tmp_path}/parts/00.tif", False),
            ("/vsicurl/http://example.org/a.tif", False),
        ):
            server.files["/list.txt"] = f"{href}\n".encode(), f'"{href}"'
            if fine:
                assert mosaic_of(f"{server.url}/list.txt", settings).width_px == 50
            else:
                with pytest.raises(SceneUnsupported, match="neither beside it nor"):
                    mosaic_of(f"{server.url}/list.txt", settings)
        server.files["/list.txt"] = f"{tmp_path}/parts/00.tif\n".encode(), '"absolute"'
        with pytest.raises(SceneUnreadable):  # a path of the server, not of this machine
            mosaic_of(f"{server.url}/list.txt", settings)
