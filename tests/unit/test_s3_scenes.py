"""Images in S3, one or many, with credentials from the environment in either library's words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from landcover.errors import InvalidConfiguration, SceneChanged, SceneUnreadable
from landcover.grid import BlockIndex
from landcover.mosaic import describing, windows
from landcover.reading import SceneReader
from landcover.s3 import gdal_options, store_options
from landcover.scene import Scene, SceneSource, current_version, describe
from landcover.settings import ReadSettings
from mosaics import cut, mosaic_of, mosaic_source
from rasters import grid_of, noise, write_tif
from s3_bucket import Bucket, s3_bucket

PIXELS = noise(300, 400)


@pytest.fixture
def settings(tmp_path: Path) -> ReadSettings:
    return ReadSettings(index_folder=tmp_path / "index", timeout_s=3.0)


@pytest.fixture(params=["obstore's words", "GDAL's words"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with s3_bucket() as state:
        if request.param == "GDAL's words":
            monkeypatch.setenv("AWS_S3_ENDPOINT", state.host)
            monkeypatch.setenv("AWS_HTTPS", "NO")
            monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
        else:
            monkeypatch.setenv("AWS_ENDPOINT_URL", state.url)
        yield state


def put(bucket: Bucket, folder: Path, prefix: str, seed: int = 0) -> None:
    for path in cut(folder, noise(300, 400, seed=seed), rows=(130,), cols=(150,)):
        bucket.objects[f"{prefix}{path.name}"] = path.read_bytes()


def read(scene: Scene, reader: SceneReader) -> np.ndarray:
    image = reader.read(scene, grid_of(scene, block_px=512), BlockIndex(0, 0), 0).image
    return image[: scene.height_px, : scene.width_px]


def test_one_image(tmp_path: Path, settings: ReadSettings, bucket: Bucket) -> None:
    bucket.objects["a b.tif"] = write_tif(tmp_path / "a.tif", PIXELS).read_bytes()
    source = SceneSource(id="a", location="s3://images/a b.tif")
    scene = describe(source, current_version(source, settings), settings)
    assert np.array_equal(read(scene, SceneReader(settings)), PIXELS)


@pytest.mark.parametrize("location", ["s3://images/2026/", "s3://images/2026/*.tif", "s3://images/**/[01]*.tif"])
def test_a_folder_is_one_scene(tmp_path: Path, settings: ReadSettings, bucket: Bucket, location: str) -> None:
    put(bucket, tmp_path / "parts", "2026/")
    bucket.objects |= {"2026/about.txt": b"", "2026/.00.tif": b"", "2026/more/x.tif": b"", "other.tif": b""}
    if "**" in location:
        for key in ("2026/about.txt", "2026/.00.tif", "2026/more/x.tif", "other.tif"):
            del bucket.objects[key]
    scene = mosaic_of(location, settings)
    assert list(scene.locations) == [f"s3://images/2026/{name}.tif" for name in ("00", "01", "10", "11")]
    assert np.array_equal(read(scene, SceneReader(settings)), PIXELS)


def test_a_replaced_object(
    tmp_path: Path, settings: ReadSettings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the listing says of an object is what the object says of itself."""
    monkeypatch.setattr(describing, "_LEAST_AGE_S", 0.0)
    monkeypatch.setattr(describing, "_AGE_PER_COST", 0.0)
    monkeypatch.setattr(windows, "_REMOTE_RECHECK_S", 0.0)
    put(bucket, tmp_path / "parts", "2026/")
    scene, reader = mosaic_of("s3://images/2026/", settings), SceneReader(settings)
    assert scene.versions[0] == current_version(SceneSource(id="x", location=scene.locations[0]), settings)
    read(scene, reader)
    put(bucket, tmp_path / "others", "2026/", seed=7)
    with pytest.raises(SceneChanged):
        read(scene, reader)
    after = mosaic_of("s3://images/2026/", settings)
    assert after.version != scene.version
    assert np.array_equal(read(after, reader), noise(300, 400, seed=7))


def test_what_is_not_there(settings: ReadSettings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConfiguration, match="There is no GeoTIFF"):
        current_version(mosaic_source("s3://images/nothing/"), settings)
    with pytest.raises(SceneUnreadable, match="check the bucket's name, and AWS_"):
        current_version(mosaic_source("s3://elsewhere/nothing/"), settings)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    with pytest.raises(SceneUnreadable) as caught:
        current_version(mosaic_source("s3://images/nothing/"), settings)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("word", ["AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE"])
def test_an_open_bucket(
    tmp_path: Path, settings: ReadSettings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(word, "YES" if word == "AWS_NO_SIGN_REQUEST" else "true")
    bucket.open = True
    put(bucket, tmp_path / "parts", "2026/")
    assert np.array_equal(read(mosaic_of("s3://images/2026/", settings), SceneReader(settings)), PIXELS)


def test_what_either_library_is_told() -> None:
    url = {"AWS_ENDPOINT_URL": "https://minio.example:9000"}
    assert gdal_options(url) == {
        "AWS_S3_ENDPOINT": "minio.example:9000",
        "AWS_HTTPS": "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
    assert store_options(url) == {}
    host = {"AWS_S3_ENDPOINT": "minio.example:9000", "AWS_HTTPS": "NO"}
    assert store_options(host) == {"endpoint": "http://minio.example:9000"}
    assert gdal_options(host) == {}
    assert gdal_options(url | host) == {} and store_options(url | host) == {}  # whoever says both means both
    assert gdal_options({}) == {} and store_options({}) == {}
