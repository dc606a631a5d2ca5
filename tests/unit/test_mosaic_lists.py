"""What a mosaic's images are: folders, patterns, lists, MosaicJSON, STAC, stac-geoparquet; and what is none of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml

from landcover.catalog import expand_scenes
from landcover.errors import InvalidConfiguration, LandcoverError, SceneUnreadable, SceneUnsupported
from landcover.grid import BlockIndex
from landcover.mosaic.listing import list_entries
from landcover.mosaic.mosaic import MosaicScene
from landcover.queue import BlockTask
from landcover.reading import SceneReader
from landcover.scene import current_version, describe
from landcover.settings import ReadSettings
from mosaics import cut, mosaic_of
from rasters import grid_of, noise, write_tif

SETTINGS = ReadSettings()
PIXELS = noise(90, 120)


@pytest.fixture
def settings(tmp_path: Path) -> ReadSettings:
    return ReadSettings(index_folder=tmp_path / "index")


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    return cut(tmp_path / "parts", PIXELS, rows=(40,), cols=(50,))


def item(path: Path, *, href: str | None = None, proj: bool = True, **properties: Any) -> dict[str, Any]:
    """A STAC Item of an image, written as STAC tools do."""
    with rasterio.open(path) as image:
        projection = {
            "proj:code": "EPSG:32654",
            "proj:shape": [image.height, image.width],
            "proj:transform": list(image.transform),
        }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": path.stem,
        "geometry": None,
        "properties": {"datetime": "2026-01-01T00:00:00Z"} | (projection if proj else {}) | properties,
        "links": [],
        "assets": {
            "thumbnail": {"href": "thumb.tif", "type": "image/tiff", "roles": ["thumbnail"]},
            "metadata": {"href": "about.xml", "type": "application/xml"},
            "image": {
                "href": href or f"parts/{path.name}",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
            },
        },
    }


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def folder(tmp_path: Path, parts: list[Path]) -> str:
    (tmp_path / "parts" / ".being-written.tif").write_bytes(b"")
    (tmp_path / "parts" / "about.txt").write_text("")
    return f"{tmp_path}/parts"


def pattern(tmp_path: Path, parts: list[Path]) -> str:
    write_tif(tmp_path / "other.tif", noise(4, 4))
    return f"{tmp_path}/**/[0-9]*.tif"


def text(tmp_path: Path, parts: list[Path]) -> str:
    (tmp_path / "a.txt").write_text(f"# images\n{parts[0]}\n\nparts/01.tif\n  parts/1*.tif\nparts/01.tif\n")
    return f"{tmp_path}/a.txt"


def mosaicjson(tmp_path: Path, parts: list[Path]) -> str:
    tiles = {"133002": [str(parts[0]), "parts/01.tif"], "133003": ["parts/10.tif", f"file://{parts[3]}"]}
    document = {"mosaicjson": "0.0.3", "minzoom": 14, "maxzoom": 18, "quadkey_zoom": 6, "tiles": tiles}
    return str(write_json(tmp_path / "mosaic.json", document))


def mosaicjson_gz(tmp_path: Path, parts: list[Path]) -> str:
    plain = Path(mosaicjson(tmp_path, parts))
    (tmp_path / "mosaic.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    return f"{tmp_path}/mosaic.json.gz"


def item_collection(tmp_path: Path, parts: list[Path]) -> str:
    return str(
        write_json(tmp_path / "i.json", {"type": "FeatureCollection", "features": [item(each) for each in parts]})
    )


def paged_items(tmp_path: Path, parts: list[Path]) -> str:
    """As an API answers: without proj fields, and with a link to more."""
    pages = [
        {
            "type": "FeatureCollection",
            "features": [item(each, proj=False) for each in parts[i : i + 2]],
            "links": [{"rel": "next", "href": "page2.json"}, {"rel": "self", "href": "nowhere"}],
        }
        for i in (0, 2)
    ]
    write_json(tmp_path / "page2.json", pages[1])
    return str(write_json(tmp_path / "page1.json", pages[0]))


def static_catalog(tmp_path: Path, parts: list[Path]) -> str:
    """A catalogue of collections of items, each a file."""
    for i, each in enumerate(parts):
        write_json(tmp_path / f"c{i // 2}" / f"{each.stem}.json", item(each, href=f"../parts/{each.name}"))
    for c in (0, 1):
        links = [{"rel": "item", "href": f"./{each.stem}.json"} for each in parts[2 * c : 2 * c + 2]]
        links.append({"rel": "parent", "href": "../catalog.json"})
        write_json(tmp_path / f"c{c}" / "collection.json", {"type": "Collection", "id": f"c{c}", "links": links})
    links = [{"rel": "child", "href": f"./c{c}/collection.json"} for c in (0, 1)]
    return str(write_json(tmp_path / "catalog.json", {"type": "Catalog", "id": "all", "links": links}))


def geoparquet(tmp_path: Path, parts: list[Path]) -> str:
    """As stac-geoparquet writes it: properties as columns, assets as a struct."""
    items = [item(each, updated="2026-01-02T00:00:00Z") for each in parts]
    items[1]["assets"]["extra"] = {"href": "x.json", "type": "application/json"}  # others have none: null in a struct
    rows = [{"id": each["id"], "type": "Feature", "assets": each["assets"]} | each["properties"] for each in items]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    return f"{tmp_path}/items.parquet"


LISTS = [folder, pattern, text, mosaicjson, mosaicjson_gz, item_collection, paged_items, static_catalog, geoparquet]


@pytest.mark.parametrize("write", LISTS, ids=lambda write: write.__name__)
def test_every_list_is_the_same_mosaic(tmp_path: Path, parts: list[Path], settings: ReadSettings, write: Any) -> None:
    location = write(tmp_path, parts)
    (source,) = expand_scenes(f"mosaic:{location}")
    scene = describe(source, current_version(source, settings), settings)
    assert isinstance(scene, MosaicScene)
    assert sorted(scene.locations) == sorted(map(str, parts))
    assert (scene.width_px, scene.height_px) == (120, 90)
    image = SceneReader(settings).read(scene, grid_of(scene, block_px=128), BlockIndex(0, 0), 0).image
    assert np.array_equal(image[:90, :120], PIXELS)
    task = BlockTask(source=source, version=scene.version, digest="d", decimation=1, row=0, col=0)
    assert BlockTask.model_validate_json(task.model_dump_json()).source == source
    assert len(task.model_dump_json()) < 600 + len(location)


def test_stac_says_where_images_lie_so_that_they_are_not_opened(tmp_path: Path, parts: list[Path]) -> None:
    settings = ReadSettings(index_folder=tmp_path / "index")
    for each in parts[1:]:
        each.rename(each.with_suffix(".away"))
        each.write_bytes(b"no GeoTIFF")
    scene = mosaic_of_items(tmp_path, parts, settings)
    assert (scene.width_px, scene.height_px) == (120, 90)
    grid = grid_of(scene, block_px=32)
    reader = SceneReader(settings)
    assert np.array_equal(reader.read(scene, grid, BlockIndex(0, 0), 0).image, PIXELS[:32, :32])
    with pytest.raises(SceneUnreadable, match=r"11\.tif cannot be opened as a GeoTIFF"):
        reader.read(scene, grid, BlockIndex(2, 3), 0)


def mosaic_of_items(tmp_path: Path, parts: list[Path], settings: ReadSettings) -> MosaicScene:
    items = []
    for each in parts:
        there = each.with_suffix(".away")
        items.append(item(there if there.exists() else each, href=str(each)))
    write_json(tmp_path / "items.json", {"type": "FeatureCollection", "features": items})
    return mosaic_of(tmp_path / "items.json", settings)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"proj:shape": [41, 50]}, id="another size"),
        pytest.param({"proj:transform": [0.5, 0, 415_000.5, 0, -0.5, 4_000_000]}, id="a pixel away"),
        pytest.param({"proj:code": "EPSG:32655"}, id="another CRS"),
    ],
)
def test_stac_that_is_wrong_about_an_image_is_found_out(
    tmp_path: Path, parts: list[Path], settings: ReadSettings, wrong: dict[str, Any]
) -> None:
    """Items often describe another of their assets."""
    items = [item(parts[1]), item(parts[0], **wrong)]
    write_json(tmp_path / "items.json", {"type": "FeatureCollection", "features": items})
    scene = mosaic_of(tmp_path / "items.json", settings)
    grid = grid_of(scene, block_px=256)
    top, _, left, _ = scene.layout.boxes[1]
    with pytest.raises(SceneUnsupported, match=r"00\.tif lies elsewhere, or is of another size, than its list says"):
        SceneReader(settings).read(scene, grid, BlockIndex(int(top) // 256, int(left) // 256), 0)


def test_which_asset_is_the_image(tmp_path: Path, parts: list[Path]) -> None:
    two = item(parts[0])
    two["assets"]["infrared"] = two["assets"]["image"] | {"href": "parts/01.tif"}
    path = str(write_json(tmp_path / "two.json", two))
    with pytest.raises(SceneUnsupported, match=r"Which asset of STAC item '00'.*image, infrared"):
        list_entries(path, None, SETTINGS)
    assert list_entries(path, "infrared", SETTINGS)[0].location == str(parts[1])
    two["assets"]["visual"] = two["assets"].pop("infrared")
    write_json(tmp_path / "visual.json", two)
    assert list_entries(f"{tmp_path}/visual.json", None, SETTINGS)[0].location == str(parts[1])
    with pytest.raises(SceneUnsupported, match=r"Which asset"):
        list_entries(path, "nothing", SETTINGS)


def test_mosaicjson_cells_agree_on_what_lies_on_top(tmp_path: Path) -> None:
    """One order that keeps every cell's; where cells contradict each other, that of first mention."""
    write_json(
        tmp_path / "a.json", {"mosaicjson": "0.0.2", "tiles": {"1": ["b", "d"], "2": ["c", "b"], "3": ["a", "c"]}}
    )
    order = [Path(entry.location).name for entry in list_entries(f"{tmp_path}/a.json", None, SETTINGS)]
    assert order == ["a", "c", "b", "d"]
    write_json(tmp_path / "b.json", {"mosaicjson": "0.0.2", "tiles": {"1": ["b", "a"], "2": ["a", "b", "c"]}})
    order = [Path(entry.location).name for entry in list_entries(f"{tmp_path}/b.json", None, SETTINGS)]
    assert order == ["b", "a", "c"]
    write_json(
        tmp_path / "c.json", {"mosaicjson": "0.0.3", "asset_prefix": "s3://bucket/x/", "tiles": {"1": ["b.tif"]}}
    )
    assert list_entries(f"{tmp_path}/c.json", None, SETTINGS)[0].location == "s3://bucket/x/b.tif"


def write_catalogue(tmp_path: Path, *entries: Any) -> Path:
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump({"scenes": list(entries)}))
    return path


def test_catalogue_entries(tmp_path: Path, parts: list[Path], settings: ReadSettings) -> None:
    path = write_catalogue(
        tmp_path,
        {"mosaic": "parts", "title": "All"},
        {"id": "few", "mosaic": ["parts/00.tif", str(parts[1])]},
        {"mosaic": {"images": "parts/*1.tif", "resolution": 1.0, "order": "last"}, "id": "coarse"},
    )
    everything, few, coarse = expand_scenes(str(path))
    assert (everything.id, everything.title, everything.location) == ("parts", "All", f"{tmp_path}/parts")
    assert few.location == f"{path}#scene=few"
    shapes = []
    for source in (everything, few, coarse):
        scene = describe(source, current_version(source, settings), settings)
        shapes.append((scene.width_px, scene.height_px, scene.transform.a))
    assert shapes == [(120, 90, 0.5), (120, 40, 0.5), (35, 45, 1.0)]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"mosaic": ["a.tif"]}, "a mosaic of listed images needs an `id:`"),
        ({"mosaic": []}, "`mosaic:` needs a folder"),
        ({"mosaic": [1]}, "`mosaic:` needs a folder"),
        ({"mosaic": None}, "`mosaic:` needs a folder"),
        ({"mosaic": {"crs": "EPSG:25832"}}, "`mosaic:` needs a folder"),
        ({"mosaic": "a", "location": "b"}, "either `location:` or `mosaic:`, not both"),
        ({"mosaic": "gone"}, "There is no file or folder"),
        ({"mosaic": {"images": "a", "crs": "EPSG:1"}}, "'EPSG:1' is no CRS"),
        ({"mosaic": {"images": "a", "resolution": 0}}, "mosaic.resolution"),
        ({"mosaic": {"images": "a", "order": "newest"}}, "mosaic.order"),
        ({"mosaic": {"images": "a", "colour": "red"}}, "mosaic.colour"),
    ],
)
def test_catalogue_entries_that_cannot_be(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InvalidConfiguration) as caught:
        list(expand_scenes(str(write_catalogue(tmp_path, entry))))
    assert sentence in str(caught.value)


def test_the_command_lines_word_needs_something_after_it() -> None:
    with pytest.raises(InvalidConfiguration, match="mosaic: needs a folder"):
        list(expand_scenes("mosaic:"))


def stac(*features: Any) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


NONE: list[Any] = [
    pytest.param("empty/", None, InvalidConfiguration, "There is no GeoTIFF", id="empty folder"),
    pytest.param("*.tif", None, InvalidConfiguration, "There is no GeoTIFF", id="nothing matches"),
    pytest.param("gone", None, SceneUnreadable, "gone cannot be read: No such file", id="no folder"),
    pytest.param("gone.json", None, SceneUnreadable, "gone.json cannot be read", id="no document"),
    pytest.param("a.json", b"{", SceneUnsupported, "a.json cannot be read as what its name says", id="half a JSON"),
    pytest.param("a.json", b"[" * 100_000, SceneUnsupported, "a.json cannot be read as", id="deep JSON"),
    pytest.param("a.json", b"\xff\xfe", SceneUnsupported, "a.json cannot be read as", id="no UTF-8"),
    pytest.param("a.json", b"[1]", SceneUnsupported, "lists no images: it is neither", id="another JSON"),
    pytest.param("a.json", stac(3), SceneUnsupported, "no assets", id="no item"),
    pytest.param("a.json", stac(), InvalidConfiguration, "no GeoTIFF", id="no items"),
    pytest.param("a.json", b'{"mosaicjson": "1", "tiles": {"1": [{}]}}', SceneUnsupported, "by path", id="assets"),
    pytest.param("a.json.gz", b"{}", SceneUnreadable, "a.json.gz is no gzip file", id="no gzip"),
    pytest.param("a.parquet", b"PAR1....", SceneUnsupported, "is no Parquet file", id="no Parquet"),
    pytest.param("a.txt", b"# nothing\n", InvalidConfiguration, "There is no GeoTIFF", id="empty list"),
    pytest.param("a.txt", b"gone.tif\n", SceneUnreadable, "gone.tif cannot be read", id="a missing image"),
    pytest.param("a.txt", b"a.txt\n", SceneUnreadable, "a.txt cannot be opened as a GeoTIFF", id="no image"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "error", "sentence"), NONE)
def test_what_is_no_mosaic(
    tmp_path: Path, settings: ReadSettings, name: str, content: bytes | None, error: type[LandcoverError], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        mosaic_of(tmp_path / name, settings)
    assert type(caught.value) is error
    assert sentence in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_parquet_without_assets(tmp_path: Path, settings: ReadSettings) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SceneUnsupported, match="no column `assets`"):
        mosaic_of(tmp_path / "a.parquet", settings)


def test_mixed_images(tmp_path: Path, settings: ReadSettings) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    write_tif(folder / "a.tif", noise(20, 20))
    write_tif(folder / "b.tif", noise(20, 20, bands=1))
    with pytest.raises(SceneUnsupported, match=r"b\.tif has 1 band\(s\)"):
        mosaic_of(folder, settings)
    write_tif(folder / "b.tif", noise(20, 20).astype(np.uint16))
    with pytest.raises(SceneUnsupported, match=r"b\.tif is uint16"):
        mosaic_of(folder, settings)
    with pytest.raises(SceneUnsupported, match=r"b\.tif is uint16, the mosaic's first image is uint8"):
        mosaic_of(folder, settings, rescale=(0, 255))
    write_tif(folder / "b.tif", noise(20, 20), crs=None)
    with pytest.raises(SceneUnsupported, match=r"b\.tif has no georeference"):
        mosaic_of(folder, settings)
    write_tif(folder / "b.tif", noise(20, 20, bands=4), alpha="yes")  # beside RGB it is one of its kind
    assert len(mosaic_of(folder, settings).locations) == 2
