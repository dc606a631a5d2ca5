"""Images behind HTTP: signed addresses, replaced files, and servers that fail in each way servers do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_server import ImageServer, image_server
from landcover import reading
from landcover.catalog import SceneCatalog
from landcover.errors import LandcoverError, SceneChanged, SceneTooSlow, SceneUnreadable, SceneUnsupported
from landcover.geotiff.windows import GeoTiffWindows
from landcover.grid import BlockIndex
from landcover.reading import SceneReader
from landcover.scene import Scene, SceneSource, current_version, describe
from landcover.settings import ReadSettings
from rasters import grid_of, noise, write_tif

SETTINGS = ReadSettings(timeout_s=1.5)
SECRET = "sig=s3cr3t%2Fx"


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with image_server() as state:
        yield state


def put(server: ImageServer, tmp_path: Path, seed: int, side: int = 600, name: str = "/a.tif") -> np.ndarray:
    """Have the server hold an image of noise, larger than what GDAL fetches when it opens it."""
    pixels = noise(side, side, seed=seed)
    data = write_tif(tmp_path / "a.tif", pixels, blockxsize=128, blockysize=128).read_bytes()
    server.files[name] = data, f'"{seed}"'
    return pixels


def scene_at(location: str) -> Scene:
    source = SceneSource(id="a", location=location)
    return describe(source, current_version(source, SETTINGS), SETTINGS)


def read(scene: Scene, reader: SceneReader | None = None) -> np.ndarray:
    """The pixels of block 1/1."""
    reader = reader or SceneReader(SETTINGS)
    return reader.read(scene, grid_of(scene, block_px=256), BlockIndex(1, 1), 0).image


def test_a_window_is_what_the_file_holds(server: ImageServer, tmp_path: Path) -> None:
    pixels = put(server, tmp_path, 1)
    assert np.array_equal(read(scene_at(f"{server.url}/a.tif")), pixels[256:512, 256:512])


@pytest.mark.parametrize("path", ["/a%20b.tif", "/Z%C3%BCrich,1.tif", "/a+b.tif"])
def test_escaped_addresses(server: ImageServer, tmp_path: Path, path: str) -> None:
    put(
        server,
        tmp_path,
        1,
        side=300,
        name={"/a%20b.tif": "/a b.tif", "/Z%C3%BCrich,1.tif": "/Zürich,1.tif"}.get(path, path),
    )
    assert scene_at(server.url + path).width_px == 300


def test_a_signed_address_is_asked_for_as_it_is(server: ImageServer, tmp_path: Path) -> None:
    pixels = put(server, tmp_path, 1)
    server.query = SECRET
    scene = scene_at(f"{server.url}/a.tif?{SECRET}")
    assert np.array_equal(read(scene), pixels[256:512, 256:512])
    assert {request.partition("?")[2] for request in server.requests} == {SECRET}


def test_a_replaced_image_is_read_anew(server: ImageServer, tmp_path: Path) -> None:
    """GDAL remembers what a URL held for as long as the process lives."""
    put(server, tmp_path, 1)
    before = scene_at(f"{server.url}/a.tif")
    reader = SceneReader(SETTINGS)
    read(before, reader)
    pixels = put(server, tmp_path, 2, side=700)
    after = scene_at(f"{server.url}/a.tif")
    assert after.version != before.version
    assert after.width_px == 700
    assert np.array_equal(read(after, reader), pixels[256:512, 256:512])


def test_an_image_that_is_replaced_while_it_is_open_is_no_mixture(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open file goes on reading from its URL; nothing of it may be kept under the old version."""
    monkeypatch.setattr(reading, "_REMOTE_RECHECK_S", 0.0)
    pixels = put(server, tmp_path, 1)
    before = scene_at(f"{server.url}/a.tif?{SECRET}")
    reader = SceneReader(SETTINGS)
    reader.read(before, grid_of(before, block_px=256), BlockIndex(0, 0), 0)
    original = server.files["/a.tif"]
    replacement = put(server, tmp_path, 2)
    for _ in range(2):
        with pytest.raises(SceneChanged, match=r"/a\.tif was replaced") as caught:
            read(before, reader)
        assert "s3cr3t" not in str(caught.value)
    after = scene_at(f"{server.url}/a.tif?{SECRET}")
    assert np.array_equal(read(after, reader), replacement[256:512, 256:512])
    server.files["/a.tif"] = original  # and back: what was half read meanwhile is not used
    assert np.array_equal(read(before, reader), pixels[256:512, 256:512])


def test_the_version_is_asked_for_now_and_then_only(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By all threads together; and a server that does not say is asked again at once."""
    put(server, tmp_path, 1)
    scene = scene_at(f"{server.url}/a.tif")
    reader = SceneReader(SETTINGS)
    asked: list[float] = []

    def version_of(source: SceneSource, settings: ReadSettings) -> str:
        asked.append(time.monotonic())
        time.sleep(0.02)  # others come meanwhile
        return current_version(source, settings)

    monkeypatch.setattr(reading, "current_version", version_of)
    monkeypatch.setattr(reading, "_REMOTE_RECHECK_S", 0.5)
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        while time.monotonic() - begin < 1.2:
            list(pool.map(lambda _: read(scene, reader), range(16)))
    assert 2 <= len(asked) <= 1 + (time.monotonic() - begin) / 0.5
    assert min(np.diff(asked)) >= 0.5
    read(scene, reader)  # this thread has the pixels now: what is asked for below is the version alone
    time.sleep(0.5)
    server.silent = True
    for _ in range(2):
        before = len(asked)
        with pytest.raises(SceneTooSlow):
            read(scene, reader)
        assert len(asked) == before + 1
    server.silent = False
    read(scene, reader)


def test_an_image_that_was_missing_is_found_when_it_comes(server: ImageServer, tmp_path: Path) -> None:
    location = f"{server.url}/a.tif"
    with pytest.raises(SceneUnreadable, match=r"/a\.tif cannot be read: its server did not give it"):
        scene_at(location)
    with pytest.raises(SceneUnreadable):
        describe(SceneSource(id="a", location=location), "v", SETTINGS)
    put(server, tmp_path, 1)
    assert describe(SceneSource(id="a", location=location), "v", SETTINGS).width_px == 600


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("status 500", SceneUnreadable), ("half the body", SceneUnreadable), ("silent", SceneTooSlow)],
)
def test_a_window_that_cannot_be_read_is_an_error_and_later_right(
    server: ImageServer, tmp_path: Path, fault: Any, expected: type[LandcoverError]
) -> None:
    """Never blank; and the same reader, thread and version read it once the server is well."""
    pixels = put(server, tmp_path, 1)
    scene = scene_at(f"{server.url}/a.tif?{SECRET}")
    reader = SceneReader(SETTINGS)
    server.fault = fault
    with pytest.raises(expected) as caught:
        read(scene, reader)
    assert "s3cr3t" not in str(caught.value)
    server.fault = None
    assert np.array_equal(read(scene, reader), pixels[256:512, 256:512])


def test_a_server_that_fails_once_is_asked_again(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = put(server, tmp_path, 1)
    scene = scene_at(f"{server.url}/a.tif")
    server.fault = "status 500"
    reader = SceneReader(SETTINGS)
    attempts = []
    original = GeoTiffWindows._read_once

    def recover(*args: Any) -> Any:
        attempts.append(args)
        if len(attempts) == 2:
            server.fault = None
        return original(*args)

    monkeypatch.setattr(GeoTiffWindows, "_read_once", recover)
    assert np.array_equal(read(scene, reader), pixels[256:512, 256:512])
    assert len(attempts) == 2


@pytest.mark.parametrize("phase", ["version", "header"])
def test_a_silent_server_is_too_slow(server: ImageServer, tmp_path: Path, phase: str) -> None:
    put(server, tmp_path, 1)
    server.silent, server.fault = phase == "version", "silent"
    with pytest.raises(SceneTooSlow, match=r"/a\.tif did not answer within 1\.5 s\.") as caught:
        scene_at(f"{server.url}/a.tif?{SECRET}")
    assert "s3cr3t" not in str(caught.value)


def test_many_who_ask_a_silent_server_wait_once(server: ImageServer) -> None:
    server.silent = True
    scenes = SceneCatalog([SceneSource(id="a", location=f"{server.url}/a.tif")], SETTINGS)
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        errors = [pool.submit(scenes.scene, "a").exception for _ in range(8)]
        assert [type(error()) for error in errors] == [SceneTooSlow] * 8
    assert time.monotonic() - begin < 3 * SETTINGS.timeout_s


def test_nobody_listens() -> None:
    with pytest.raises(SceneUnreadable, match="its server did not give it"):
        current_version(SceneSource(id="a", location="http://127.0.0.1:9/a.tif"), ReadSettings())


def test_no_message_shows_a_signature(server: ImageServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.files["/a.tif"] = write_tif(tmp_path / "a.tif", noise(9, 9, bands=1)).read_bytes(), '"1"'
    server.files["/b.tif"] = b"no image", '"1"'
    messages = []
    for path in ("a.tif", "b.tif", "none.tif"):
        with pytest.raises((SceneUnsupported, SceneUnreadable)) as caught:
            scene_at(f"{server.url}/{path}?{SECRET}")
        messages.append(str(caught.value))
    assert all(server.url in message for message in messages)
    assert "s3cr3t" not in "".join(messages) + caplog.text
