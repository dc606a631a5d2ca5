"""Templates, fragments and catalogues become XYZ scenes, or a sentence that says what to write instead."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import morecantile
import pytest

from landcover.catalog import SceneCatalog, expand_scenes, load_scenes, settled
from landcover.errors import InvalidConfiguration
from landcover.queue import BlockTask
from landcover.scene import SceneSource, current_version, describe
from landcover.settings import CatalogSettings, OriginSettings, ReadSettings
from landcover.xyz.matrix import tile_range
from landcover.xyz.options import XyzOptions
from tile_server import corner_lonlat

READ = ReadSettings()
TEMPLATE = "https://host.org/photo/{z}/{x}/{y}.jpg"
TOKYO = "#zoom=18&bbox=139.7,35.6,139.8,35.7"


def one(location: str) -> SceneSource:
    (source,) = expand_scenes(location)
    return source


def test_a_template_with_its_fragment() -> None:
    source = one(f"{TEMPLATE}?key=s3cr3t{TOKYO}&tilesize=512&minzoom=3&version=2026&max_rps=2.5")
    assert source == SceneSource(
        id="photo",
        location=f"{TEMPLATE}?key=s3cr3t",
        xyz=XyzOptions(
            zoom=18, bounds=(139.7, 35.6, 139.8, 35.7), tilesize=512, minzoom=3, version="2026", max_rps=2.5
        ),
    )
    assert source.is_remote


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("https://a.org/maps/photo 2020/{z}/{x}/{y}@2x.png", "photo-2020"),
        ("https://tiles.a.org/{z}/{x}/{y}", "tiles-a-org"),
        ("https://a.org/?z={z}&x={x}&y={y}", "a-org"),
        ("https://a.org/wmts/layer/{z}/{y}/{x}/final.jpg", "final"),
    ],
)
def test_ids(template: str, expected: str) -> None:
    assert one(template + TOKYO).id == expected


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        pytest.param(TEMPLATE, "needs a zoom and a box of degrees .*#zoom=18&bbox=", id="nothing"),
        pytest.param(f"{TEMPLATE}#", "needs a zoom and a box", id="an empty fragment"),
        pytest.param(f"{TEMPLATE}#zoom=18", "needs a zoom and a box", id="no box"),
        pytest.param(f"{TEMPLATE}#bbox=1,2,3,4", "needs a zoom and a box", id="no zoom"),
        pytest.param(f"{TEMPLATE}{TOKYO}&colour=red", "'colour' is unknown; after # come bbox, zoom", id="a word"),
        pytest.param(f"{TEMPLATE}#zoom=x&bbox=1,2,3,4", "zoom: Input should be a valid integer", id="zoom of letters"),
        pytest.param(f"{TEMPLATE}#zoom=25&bbox=1,2,3,4", "zoom: .*less than or equal to 24", id="zoom 25"),
        pytest.param(f"{TEMPLATE}#zoom=-1&bbox=1,2,3,4", "zoom: ", id="zoom -1"),
        pytest.param(f"{TEMPLATE}#zoom=9&bbox=1,2,3", "bbox: ", id="three numbers"),
        pytest.param(f"{TEMPLATE}#zoom=9&bbox=1,2,x,4", "bbox: ", id="a letter"),
        pytest.param(f"{TEMPLATE}#zoom=9&bbox=nan,2,3,4", "bbox: a box is west, south", id="no number"),
        pytest.param(f"{TEMPLATE}#zoom=9&bbox=3,2,1,4", "antimeridian is two scenes", id="east of west"),
        pytest.param(f"{TEMPLATE}#zoom=9&bbox=1,4,3,2", "bbox: a box is west, south", id="upside down"),
        pytest.param(f"{TEMPLATE}#zoom=9&bbox=1,86,3,89", "reach to latitude", id="the pole"),
        pytest.param(f"{TEMPLATE}{TOKYO}&tilesize=300", "tilesize: ", id="odd tiles"),
        pytest.param(f"{TEMPLATE}{TOKYO}&minzoom=19", "minzoom is above zoom", id="minzoom"),
        pytest.param(f"{TEMPLATE}{TOKYO}&max_rps=0", "max_rps: ", id="no requests"),
        pytest.param("https://{s}.a.org/{z}/{x}/{y}.png" + TOKYO, "not {s}; write one server's name", id="subdomains"),
        pytest.param("https://a.org/{z}/{x}/{-y}.png" + TOKYO, "not {-y}", id="TMS rows"),
        pytest.param("https://a.org/{z}/{x}.png" + TOKYO, "{y} is missing", id="no rows"),
        pytest.param("tiles/{z}/{x}/{y}.png" + TOKYO, "begins with http", id="a path"),
        pytest.param("ftp://a.org/{z}/{x}/{y}.png" + TOKYO, "begins with http", id="another scheme"),
        pytest.param("https://{z}.a.org/{x}/{y}.png" + TOKYO, "begins with http", id="in the server's name"),
        pytest.param("gsi:ortho", "no such service; there is gsi:seamlessphoto", id="an unknown service"),
        pytest.param("gsi:seamlessphoto#zom=3", "'zom' is unknown", id="a known service"),
        pytest.param("nobody:seamlessphoto", "There is no file or folder", id="an unknown catalogue"),
    ],
)
def test_what_cannot_be_used(location: str, sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence) as caught:
        list(expand_scenes(location.replace(".jpg#", ".jpg?key=s3cr3t#")))
    assert str(caught.value).endswith(".")
    assert "s3cr3t" not in str(caught.value)


CATALOGUE = """
scenes:
  - location: https://host.org/photo/{z}/{x}/{y}.jpg?key=1
    attribution: Somebody
    xyz:
      zoom: 17
      bounds: [8.5, 47.3, 8.6, 47.4]
      missing_statuses: [403, 404]
      headers: {Referer: https://example.org}
  - id: tokyo
    location: gsi:seamlessphoto#bbox=139.7,35.6,139.8,35.7
    title: Tokyo
"""


def test_a_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "scenes.yaml"
    path.write_text(CATALOGUE, encoding="utf-8")
    photo, tokyo = expand_scenes(str(path))
    assert photo.id == "photo"
    assert photo.attribution == "Somebody"
    assert photo.xyz == XyzOptions(
        zoom=17,
        bounds=(8.5, 47.3, 8.6, 47.4),
        missing_statuses=(403, 404),
        headers=(("Referer", "https://example.org"),),
    )
    assert (tokyo.id, tokyo.title, tokyo.xyz and tokyo.xyz.zoom) == ("tokyo", "Tokyo", 18)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("", "needs a zoom and a box"),
        ("xyz: {zoom: 3}", "xyz.bounds: Field required"),
        ("xyz: {zoom: 3, bounds: [1, 2, 3, 4], colour: red}", "xyz.colour: Extra inputs"),
        ("xyz: {zoom: 3, bounds: [1, 2, 3, 4], headers: {'a b': c}}", "xyz.headers"),
        ('xyz: {zoom: 3, bounds: [1, 2, 3, 4], headers: {a: "b\\r\\nc"}}', "xyz.headers"),
        ("xyz: {zoom: 3, bounds: [1, 2, 3, 4], missing_statuses: [200]}", "xyz.missing_statuses"),
        ("xyz: {zoom: 3, bounds: [1, 2, 3, 4]}\n    bands: [1, 2, 3]", "`bands` and `rescale` are of GeoTIFFs"),
    ],
)
def test_a_catalogue_with_a_fault(tmp_path: Path, options: str, sentence: str) -> None:
    path = tmp_path / "scenes.yaml"
    path.write_text(f"scenes:\n  - location: {TEMPLATE}\n    {options}\n", encoding="utf-8")
    with pytest.raises(InvalidConfiguration, match=sentence):
        list(expand_scenes(str(path)))


def test_the_services_that_come_with_the_package() -> None:
    """By name and by path; with what must be said beside maps made from them."""
    source = one("gsi:seamlessphoto")
    assert list(expand_scenes(str(files("landcover") / "catalogues" / "gsi.yaml"))) == [source]
    assert source.location == "https://cyberjapandata.gsi.go.jp/xyz/seamlessphoto/{z}/{x}/{y}.jpg"
    assert "地理院タイル / GSI Tiles (seamlessphoto)" in str(source.attribution)
    assert "https://maps.gsi.go.jp/development/ichiran.html" in str(source.attribution)
    japan = describe(source, current_version(source, READ), READ)
    assert japan.width_px > 5_000_000
    assert japan.gsd_m == pytest.approx(0.495, rel=0.01)
    part = one("gsi:seamlessphoto#bbox=139.70,35.60,139.80,35.70")
    assert part.xyz is not None
    assert (part.xyz.zoom, part.xyz.bounds, part.xyz.max_rps) == (18, (139.7, 35.6, 139.8, 35.7), 10)
    scene = describe(part, current_version(part, READ), READ)
    assert scene.gsd_m == pytest.approx(0.597164 * 0.8126, rel=0.004)  # cos 35.65°, on a sphere


def test_every_location_in_one_variable() -> None:
    """A box has commas of its own; other locations may still be separated by them."""
    words = f"a.tif,b.tif {TEMPLATE}{TOKYO} gsi:seamlessphoto#bbox=1,2,3,4"
    assert CatalogSettings(scenes=words).scenes == (  # type: ignore[arg-type]
        "a.tif",
        "b.tif",
        f"{TEMPLATE}{TOKYO}",
        "gsi:seamlessphoto#bbox=1,2,3,4",
    )
    scenes = load_scenes(CatalogSettings(scenes=(TEMPLATE + TOKYO,)), READ)
    assert scenes.scene("photo") is scenes.scene("photo")
    assert scenes.glance("photo")[1]


def test_locations_for_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for same in (TEMPLATE + TOKYO, "gsi:seamlessphoto", "https://a.org/a.tif", "s3://a/b.tif"):
        assert settled(same) == same
    assert settled("a.tif") == str(tmp_path / "a.tif")


def test_the_version_changes_with_what_decides_the_pixels() -> None:
    base = one(TEMPLATE + TOKYO)
    assert base.xyz is not None

    def version(location: str = base.location, **options: object) -> str:
        assert base.xyz is not None
        xyz = XyzOptions.model_validate(base.xyz.model_dump() | options)
        return current_version(base.model_copy(update={"location": location, "xyz": xyz}), READ)

    same = {version(), version(max_rps=3), version(max_connections=1), version(minzoom=4)}
    assert len(same) == 1
    others = [
        version(zoom=17),
        version(bounds=(139.7, 35.6, 139.8, 35.71)),
        version(tilesize=512),
        version(version="2"),
        version(missing_statuses=(404,)),
        version(blank_sha256=("0" * 64,)),
        version(f"{base.location}?key=1"),
    ]
    assert len({*same, *others}) == 1 + len(others)
    assert version("https://host.org/photo/{z}/{x}/{y}.jpg?key=1", version="2") == version(version="2")


def test_a_task_carries_it() -> None:
    source = one(f"{TEMPLATE}{TOKYO}")
    assert source.xyz is not None
    source = source.model_copy(update={"xyz": source.xyz.model_copy(update={"headers": (("Referer", "a"),)})})
    task = BlockTask(source=source, version="v", digest="sha256:0", decimation=1, row=0, col=0)
    again = BlockTask.model_validate_json(task.model_dump_json())
    assert again == task
    assert hash(again.source) == hash(source)


@pytest.mark.parametrize(
    ("bounds", "zoom"),
    [
        ((-180.0, -85.06, 180.0, 85.06), 0),
        ((-180.0, -89.0, 180.0, 89.0), 2),
        ((139.7, 35.6, 139.8, 35.7), 18),
        ((-0.1, 51.4, 0.1, 51.6), 12),
        ((179.9, -85.05, 180.0, -85.0), 5),
        ((-180.0, 84.9, -179.9, 85.05), 8),
        ((8.5, 47.3, 8.5001, 47.3001), 18),
    ],
)
def test_tiles_of_a_box_are_morecantiles(bounds: tuple[float, float, float, float], zoom: int) -> None:
    tiles = list(morecantile.tms.get("WebMercatorQuad").tiles(*bounds, zooms=[zoom]))
    found = tile_range(XyzOptions(zoom=zoom, bounds=bounds))
    assert (found.col, found.row) == (min(tile.x for tile in tiles), min(tile.y for tile in tiles))
    assert found.cols * found.rows == len(tiles)


@pytest.mark.parametrize("zoom", [0, 1, 7, 18, 24])
def test_a_box_along_tiles_borders_has_no_further_tiles(zoom: int) -> None:
    last = 2**zoom - 1
    for col, row in ((0, 0), (last, last), (last // 2, last // 3)):
        bounds = (*corner_lonlat(zoom, col, row + 1), *corner_lonlat(zoom, col + 1, row))
        found = tile_range(XyzOptions(zoom=zoom, bounds=bounds))
        assert (found.col, found.row, found.cols, found.rows) == (col, row, 1, 1)


def test_two_parts_of_one_service_need_ids() -> None:
    with pytest.raises(InvalidConfiguration, match="Two scenes are called 'photo'"):
        SceneCatalog([one(TEMPLATE + TOKYO), one(TEMPLATE + "#zoom=3&bbox=1,2,3,4")], READ)


def test_the_pace_is_the_brokers_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LANDCOVER_BROKER_URL", raising=False)
    monkeypatch.delenv("LANDCOVER_ORIGIN_PACE_URL", raising=False)
    assert OriginSettings().pace_url is None
    monkeypatch.setenv("LANDCOVER_BROKER_URL", "redis://a/0")
    monkeypatch.setenv("LANDCOVER_ORIGIN_CACHE", "/tiles")
    assert (OriginSettings().pace_url, OriginSettings().cache) == ("redis://a/0", "/tiles")
    monkeypatch.setenv("LANDCOVER_ORIGIN_PACE_URL", "redis://b/0")
    assert ReadSettings().origin.pace_url == "redis://b/0"
