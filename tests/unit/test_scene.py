"""What is served and what is refused, judged by the header alone; versions of local images."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
from affine import Affine
from pydantic import ValidationError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from landcover.errors import SceneUnreadable, SceneUnsupported
from landcover.scene import SceneSource, current_version, describe, public_location
from landcover.settings import ReadSettings
from rasters import HALF_METRE, noise, scene_of, write_tif

SETTINGS = ReadSettings()


def test_the_header_is_told(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(300, 200), overviews=(2, 4))
    scene = scene_of(path)
    assert (scene.id, scene.width_px, scene.height_px, scene.bands) == ("scene", 200, 300, (1, 2, 3))
    assert (scene.crs_name, scene.dtype, scene.overviews) == ("EPSG:32654", "uint8", (2, 4))
    assert scene.transform == HALF_METRE
    with rasterio.open(path) as image:
        west, south, east, north = rasterio.warp.transform_bounds(image.crs, "OGC:CRS84", *image.bounds)
    assert scene.bounds_wgs84 == pytest.approx((west, south, east, north), abs=1e-7)


@pytest.mark.parametrize("name", ["a b.tif", "Zürich, 日本.tif", "x#1?y=2.tif", "50%25.TIFF", "it's [1].tif"])
def test_odd_file_names(tmp_path: Path, name: str) -> None:
    assert scene_of(write_tif(tmp_path / name, noise(20, 30))).width_px == 30


UNFIT: list[Any] = [
    pytest.param(noise(9, 9, bands=1), {}, {}, "1 band", id="one band"),
    pytest.param(noise(9, 9, bands=5), {"photometric": "MINISBLACK"}, {}, "say in a catalogue", id="five bands"),
    pytest.param(noise(9, 9).astype(np.uint16), {}, {}, r"uint16, not uint8; .*rescale", id="uint16"),
    pytest.param(noise(9, 9).astype(np.complex64), {}, {"rescale": (0, 1)}, "complex", id="complex"),
    pytest.param(noise(9, 9), {}, {"bands": (1, 2, 4)}, "no band 4", id="a band that is not there"),
    pytest.param(
        noise(9, 9), {"crs": CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')}, {}, "longitude", id="a site's own CRS"
    ),
    pytest.param(
        noise(9, 9), {"transform": Affine(1, 0, 9e9, 0, -1, 9e9)}, {}, "longitude and latitude", id="off the Earth"
    ),
]


@pytest.mark.parametrize(("pixels", "profile", "source", "sentence"), UNFIT)
def test_unfit_images_are_refused_with_a_sentence(
    tmp_path: Path, pixels: np.ndarray, profile: dict[str, Any], source: dict[str, Any], sentence: str
) -> None:
    path = write_tif(tmp_path / "a.tif", pixels, **profile)
    with pytest.raises(SceneUnsupported, match=sentence) as caught:
        scene_of(path, **source)
    assert path.name in str(caught.value)
    assert str(tmp_path) not in str(caught.value)  # where files lie is nobody's business
    assert str(caught.value).endswith(".") or "`" in str(caught.value)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("profile", [{"crs": None}, {"transform": Affine.identity()}], ids=["no CRS", "no transform"])
def test_an_image_that_lies_nowhere(tmp_path: Path, profile: dict[str, Any]) -> None:
    path = write_tif(tmp_path / "a.tif", noise(9, 9), **profile)
    with pytest.raises(SceneUnsupported, match="georeference"):
        scene_of(path)


@pytest.mark.parametrize(
    ("limits", "profile", "sentence"),
    [
        pytest.param({"max_block_bytes": 3 * 512**2 - 1}, {"blockxsize": 512, "blockysize": 512}, "512 × 512", id="t"),
        pytest.param({"max_block_bytes": 3 * 600 * 592 - 1}, {"tiled": False, "blockysize": 592}, "600 × 592", id="s"),
        pytest.param({"max_side_px": 599}, {}, "600 × 600 px", id="side"),
        pytest.param({"max_bands": 2}, {}, "3 bands", id="bands"),
    ],
)  # fmt: skip
def test_what_could_exhaust_memory_is_refused(
    tmp_path: Path, limits: dict[str, int], profile: dict[str, Any], sentence: str
) -> None:
    path = write_tif(tmp_path / "a.tif", noise(600, 600), **profile)
    source = SceneSource(id="a", location=str(path))
    with pytest.raises(SceneUnsupported, match=sentence):
        describe(source, "v", ReadSettings(**limits))
    assert describe(source, "v", ReadSettings(**{name: value + 1 for name, value in limits.items()})).width_px == 600


def test_the_bomb_of_a_huge_internal_tile_is_refused_at_the_default_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    options = {"tiled": True, "blockxsize": 16384, "blockysize": 16384, "compress": "deflate", "SPARSE_OK": True}
    with rasterio.open(
        path, "w", "GTiff", 16384, 16384, 3, dtype="uint8", crs="EPSG:32654", transform=HALF_METRE, **options
    ):
        pass
    assert path.stat().st_size < 100_000
    with pytest.raises(SceneUnsupported, match=r"internal tiles of 16384 × 16384 px \(768 MiB"):
        scene_of(path)


def test_bands_by_their_colours_and_by_choice(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "bgrn.tif", noise(9, 9, bands=4), photometric="MINISBLACK")
    with pytest.raises(SceneUnsupported, match="say in a catalogue"):
        scene_of(path)
    assert scene_of(path, bands=(3, 2, 1)).bands == (3, 2, 1)
    with rasterio.open(path, "r+") as image:
        image.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    assert scene_of(path).bands == (1, 2, 3)


def test_only_geotiffs_are_opened(tmp_path: Path) -> None:
    """A VRT can name any other file or address."""
    inner = write_tif(tmp_path / "a.tif", noise(9, 9))
    vrt = tmp_path / "b.tif"
    with rasterio.open(inner) as image:
        rasterio.shutil.copy(image, vrt, driver="VRT")
    for location in (str(vrt), f"vrt://{inner}"):
        with pytest.raises(SceneUnreadable, match="GeoTIFF"):
            describe(SceneSource(id="a", location=location), "v", SETTINGS)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"<html>not found</html>", id="a web page"),
        pytest.param(lambda data: data[:100], id="cut in the header"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: Any) -> None:
    path = write_tif(tmp_path / "a.tif", noise(100, 100))
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(SceneUnreadable, match=r"cannot be opened as a GeoTIFF; is it"):
        scene_of(path)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SceneUnreadable, match=r"none\.tif cannot be read: No such file"):
        current_version(SceneSource(id="a", location=str(tmp_path / "none.tif")), SETTINGS)


def test_the_version_changes_with_content_and_with_sidecars(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(100, 100))
    source = SceneSource(id="a", location=str(path))
    versions = [current_version(source, SETTINGS)]
    assert current_version(source, SETTINGS) == versions[0]
    os.utime(path, ns=(0, 12345))
    versions.append(current_version(source, SETTINGS))
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(0, 12345))
    versions.append(current_version(source, SETTINGS))
    (tmp_path / "a.tif.msk").write_bytes(b"mask")
    versions.append(current_version(source, SETTINGS))
    (tmp_path / "a.tif.ovr").write_bytes(b"overviews")
    versions.append(current_version(source, SETTINGS))
    assert len(set(versions)) == len(versions)
    assert all(len(version) == 16 and int(version, 16) >= 0 for version in versions)


def corners_wgs84(crs: str, transform: Affine, width: int, height: int) -> tuple[list[float], list[float]]:
    corners = [transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    lon, lat = rasterio.warp.transform(crs, "OGC:CRS84", *zip(*corners, strict=True))
    return lon, lat


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        pytest.param("EPSG:32601", Affine(1, 0, 200_000, 0, 1, 8_000_000), id="UTM, south-up"),
        pytest.param("EPSG:32654", Affine(0.6, 0.8, 415_000, 0.8, -0.6, 4_000_000), id="rotated"),
        pytest.param("EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 50), id="degrees"),
    ],
)
def test_bounds_hold_every_corner(tmp_path: Path, crs: str, transform: Affine) -> None:
    scene = scene_of(write_tif(tmp_path / "a.tif", noise(1000, 10), crs=crs, transform=transform))
    lon, lat = corners_wgs84(crs, transform, 10, 1000)
    assert scene.bounds_wgs84 == pytest.approx((min(lon), min(lat), max(lon), max(lat)), abs=1e-6)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        pytest.param("EPSG:32760", Affine(10, 0, 815_000, 0, -10, 8_100_000), id="UTM 60 S, Fiji"),
        pytest.param("EPSG:3832", Affine(10, 0, 3_338_000, 0, -10, -1_900_000), id="Mercator of 150 E"),
        pytest.param("EPSG:4326", Affine(1e-4, 0, 179.95, 0, -1e-4, -17), id="degrees beyond 180"),
    ],
)
def test_bounds_across_the_antimeridian(tmp_path: Path, crs: str, transform: Affine) -> None:
    """TileJSON's bounds must not wrap; and from the least to the largest longitude would leave out the scene."""
    scene = scene_of(write_tif(tmp_path / "a.tif", noise(1000, 1000), crs=crs, transform=transform))
    _, lat = corners_wgs84(crs, transform, 1000, 1000)
    west, south, east, north = scene.bounds_wgs84
    assert (west, east) == (-180, 180)
    assert (south, north) == pytest.approx((min(lat), max(lat)), abs=1e-3)


def test_bounds_round_a_pole(tmp_path: Path) -> None:
    transform = Affine(10, 0, -5_000, 0, -10, 5_000)
    scene = scene_of(write_tif(tmp_path / "a.tif", noise(1000, 1000), crs="EPSG:3031", transform=transform))
    west, south, east, north = scene.bounds_wgs84
    assert (west, south, east) == (-180, -90, 180)
    assert north == pytest.approx(-90 + math.degrees(math.hypot(5000, 5000) / 6.4e6), abs=0.005)


@pytest.mark.parametrize(
    "fault",
    [
        {"id": "a/b"}, {"id": ""}, {"id": ".hidden"}, {"id": "a" * 129}, {"location": ""}, {"bands": (0, 1, 2)},
        {"rescale": (5, 5)}, {"rescale": (9, 1)}, {"nonsense": 1},
    ],
    ids=str,
)  # fmt: skip
def test_an_entry_that_makes_no_sense(fault: dict[str, Any]) -> None:
    SceneSource.model_validate({"id": "a", "location": "a.tif"})
    with pytest.raises(ValidationError):
        SceneSource.model_validate({"id": "a", "location": "a.tif"} | fault)


@pytest.mark.parametrize(
    ("location", "public"),
    [
        ("https://user:pass@host.org:8443/a b.tif?sig=1#x", "https://host.org:8443/a b.tif"),
        ("s3://bucket/key.tif", "s3://bucket/key.tif"),
        ("/data/what?.tif", "what?.tif"),
    ],
)
def test_public_location(location: str, public: str) -> None:
    assert public_location(SceneSource(id="a", location=location)) == public
