"""All files of a product together: whole or not at all, here or in a bucket, the STAC Item last."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from obstore.store import S3Store
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from referencing import Registry

from landcover.errors import DestinationUnwritable, InvalidConfiguration, SceneChanged
from landcover.grid import BlockIndex
from landcover.products import write as writing
from landcover.products.pmtiles import write_pmtiles
from landcover.products.spec import Outputs, ProductSpec
from landcover.products.spool import Spool
from landcover.products.stac import footprint_wgs84
from landcover.products.vectors import Layers, write_vectors
from landcover.products.write import ProductFile, write_products
from product_parts import DIGEST, drawn_map, fill_spool, spec_of
from s3_server import S3Server, s3_server

ALL = Outputs(vectors="flatgeobuf", pmtiles=True)
NAMES = {
    "names": "map.tif.aux.xml",
    "classes": "map.tif",
    "confidence": "map.confidence.tif",
    "vectors": "map.fgb",
    "pmtiles": "map.pmtiles",
    "item": "map.json",
}


@pytest.fixture(scope="module")
def spec() -> ProductSpec:
    """A scene of a few blocks."""
    return spec_of(300, 400, block_px=128)


@pytest.fixture(scope="module")
def spool(spec: ProductSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spool]:
    """All its blocks but one."""
    with Spool(tmp_path_factory.mktemp("spool") / "map.spool", "test") as spool:
        fill_spool(spool, spec, *drawn_map(300, 400, speckles=0.002), holes=(BlockIndex(1, 1),))
        yield spool


def write(
    spec: ProductSpec,
    spool: Spool,
    destination: Path | str,
    outputs: Outputs = ALL,
    *,
    work: Path | None = None,
    told: Callable[[str, float], None] = lambda stage, share: None,
) -> list[ProductFile]:
    """The product with its one hole."""
    return write_products(
        spec,
        spool,
        str(destination),
        outputs,
        holes={BlockIndex(1, 1): "the image is truncated"},
        provenance={"software": "landcover-tiles 1.2.3"},
        work_folder=work or Path(destination).parent,
        on_progress=told,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_all_files_as_they_are_told(spec: ProductSpec, spool: Spool, tmp_path: Path) -> None:
    files = write(spec, spool, tmp_path / "deep" / "map.tif")
    assert {each.role: each.location for each in files} == {
        role: str(tmp_path / "deep" / name) for role, name in NAMES.items()
    }
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == sorted(NAMES.values())
    for each in files:
        data = Path(each.location).read_bytes()
        assert (each.size_bytes, each.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert [each.role for each in files][-1] == "item"


def test_a_file_without_a_folder_lies_here(
    spec: ProductSpec, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = write(spec, spool, "map.tif", Outputs(confidence="none"))
    assert [each.location for each in files] == ["map.tif.aux.xml", "map.tif", "map.json"]
    assert sorted(contents(tmp_path)) == ["map.json", "map.tif", "map.tif.aux.xml"]


def test_the_item_says_where_what_and_by_whom(spec: ProductSpec, spool: Spool, tmp_path: Path) -> None:
    files = {each.role: each for each in write(spec, spool, tmp_path / "map.tif")}
    item = pystac.Item.from_file(tmp_path / "map.json")
    assert item.id == "map" and item.datetime is not None
    document = json.loads((tmp_path / "map.json").read_text())
    assert pystac.Item.from_dict(document).to_dict(include_self_link=False) == document
    assert {key: Path(asset.href).name for key, asset in item.assets.items() if key != "model"} == {
        "names": "map.tif.aux.xml",
        "landcover": "map.tif",
        "confidence": "map.confidence.tif",
        "polygons": "map.fgb",
        "tiles": "map.pmtiles",
    }
    with rasterio.open(tmp_path / "map.tif") as image:
        projection = ProjectionExtension.ext(item)
        assert projection.code == "EPSG:32654"
        assert projection.shape == list(image.shape)
        assert projection.transform == list(image.transform)[:6]
        assert projection.bbox == list(image.bounds)
        west, south, east, north = rasterio.warp.transform_bounds(image.crs, "EPSG:4326", *image.bounds)
        counts = np.bincount(image.read(1).ravel(), minlength=9)
    assert item.bbox == pytest.approx([west, south, east, north], abs=1e-6)
    assert shapely.geometry.shape(item.geometry).bounds == pytest.approx(item.bbox)
    for role, key in (("classes", "landcover"), ("vectors", "polygons")):
        asset = FileExtension.ext(item.assets[key])
        assert (asset.size, asset.checksum) == (files[role].size_bytes, f"1220{files[role].sha256}")
    classes = ClassificationExtension.ext(item.assets["landcover"]).classes
    assert classes is not None and len(classes) == 8
    last = classes[7].to_dict()
    assert (last["value"], last["name"], last["color_hint"], last["count"]) == (8, "building", "DE1F07", counts[8])
    assert classes[2].to_dict()["name"] == "developed_space"
    model = MLMExtension.ext(item)
    assert (model.mlm_name, model.input[0].input.shape) == ("pixels", [-1, 192, 192, 3])
    assert [each.name for each in model.output] == ["classes", "confidence"]
    assert item.assets["model"].href == f"urn:{DIGEST}" and item.assets["model"].roles == ["mlm:model"]
    assert FileExtension.ext(item.assets["model"]).checksum == "1220" + "ab" * 32
    properties = item.properties
    assert properties["landcover:scene_version"] == "0123456789abcdef"
    assert properties["landcover:holes"] == [[1, 1, "the image is truncated"]]
    assert properties["processing:software"] == {"landcover-tiles": "1.2.3"}


def test_the_item_keeps_the_core_schema(spec: ProductSpec, spool: Spool, tmp_path: Path) -> None:
    """The only schema that pystac brings along; those of extensions lie on the web."""
    schemas = Path(pystac.__file__).parent / "validation" / "jsonschemas"
    found = {
        schema["$id"].rstrip("#").replace("commonjson", "common.json"): schema
        for schema in (json.loads(path.read_text()) for path in schemas.rglob("*.json"))
    }
    write(spec, spool, tmp_path / "map.tif")
    registry = Registry().with_contents(found.items())
    core = next(schema for name, schema in found.items() if name.endswith("item-spec/json-schema/item.json"))
    jsonschema.Draft7Validator(core, registry=registry).validate(json.loads((tmp_path / "map.json").read_text()))


def test_a_footprint_across_the_antimeridian_has_two_parts() -> None:
    transform = Affine(30, 0, 785_000, 0, -30, 3_000_000)
    spec = spec_of(1000, 1000, block_px=64, crs="EPSG:32660", transform=transform)
    footprint = footprint_wgs84(spec)
    assert footprint.geom_type == "MultiPolygon"
    east, west = sorted(footprint.geoms, key=lambda part: part.bounds[0], reverse=True)
    assert east.bounds[2] == 180 and west.bounds[0] == -180
    assert footprint.area < 0.2


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow past so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("outputs", "size"),
    [
        (Outputs(), 5_000),
        (Outputs(), 60_000),
        (Outputs(confidence="none", vectors="flatgeobuf"), 60_000),
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    spec: ProductSpec, spool: Spool, tmp_path: Path, outputs: Outputs, size: int
) -> None:
    with pytest.raises(DestinationUnwritable, match=r"cannot be written .*make room"), largest_file(size):
        write(spec, spool, tmp_path / "map.tif", outputs)
    assert list(tmp_path.iterdir()) == []
    assert spool.count() > 0
    write(spec, spool, tmp_path / "map.tif", outputs)


@pytest.mark.parametrize("suffix", [".parquet", ".pmtiles"])
def test_a_disk_that_fills_up_late(spec: ProductSpec, spool: Spool, tmp_path: Path, suffix: str) -> None:
    """These files are smaller than the class map, so that it is there already."""
    write(spec, spool, tmp_path / "map.tif", Outputs(confidence="none"))
    classes, path = tmp_path / "map.tif", tmp_path / f"map{suffix}"
    layers = Layers(classes=classes, confidence=None)
    with pytest.raises(OSError, match="File too large"), largest_file(5_000):
        if suffix == ".parquet":
            write_vectors(path, layers, spec.model.contract.classes, lambda share: None)
        else:
            write_pmtiles(path, classes, spec, lambda share: None)


def test_a_folder_that_cannot_be_is_a_sentence(spec: ProductSpec, spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationUnwritable, match=r"map\.tif cannot be written \(Not a directory\)"):
        write(spec, spool, tmp_path / "file" / "map.tif", work=tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SceneChanged("It was replaced.")])
@pytest.mark.parametrize("at", ["writing", "tracing", "drawing"])
def test_whoever_is_told_may_end_it_and_the_old_files_stay(
    spec: ProductSpec, spool: Spool, tmp_path: Path, error: BaseException, at: str
) -> None:
    destination = tmp_path / "map.tif"
    write(spec, spool, destination)
    before = contents(tmp_path)

    def told(stage: str, share: float) -> None:
        if stage.startswith(at) and share > 0:
            raise error

    with pytest.raises(type(error)):
        write(spec, spool, destination, told=told)
    assert contents(tmp_path) == before
    assert all(path.is_file() for path in tmp_path.iterdir())


def test_what_a_killed_process_left_is_cleared(spec: ProductSpec, spool: Spool, tmp_path: Path) -> None:
    left = tmp_path / ".map.part"
    left.mkdir()
    (left / "classes.0.tiles").write_bytes(b"half")
    write(spec, spool, tmp_path / "map.tif", Outputs(confidence="none"))
    assert not left.exists()


def test_every_stage_is_told_to_its_end(spec: ProductSpec, spool: Spool, tmp_path: Path) -> None:
    told: dict[str, list[float]] = {}
    write(spec, spool, tmp_path / "map.tif", told=lambda stage, share: told.setdefault(stage, []).append(share))
    assert list(told) == ["writing the map", "tracing polygons", "drawing tiles"]
    for shares in told.values():
        assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)


def test_a_missing_package_is_named_with_its_extra(
    spec: ProductSpec, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing.importlib.util, "find_spec", lambda name: None if name == "pmtiles" else object())
    write(spec, spool, tmp_path / "map.tif", Outputs(confidence="none"))
    with pytest.raises(InvalidConfiguration, match=r"pmtiles; `pip install landcover-tiles\[products\]` brings it"):
        write(spec, spool, tmp_path / "map.tif", Outputs(pmtiles=True))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A bucket whose credentials are in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with s3_server() as server:
        for name, value in (
            ("ACCESS_KEY_ID", "key"),
            ("SECRET_ACCESS_KEY", "secret"),
            ("REGION", "us-east-1"),
            ("ENDPOINT_URL", server.url),
        ):
            monkeypatch.setenv(f"AWS_{name}", value)
        yield server


def test_into_a_bucket_the_item_last(
    spec: ProductSpec, spool: Spool, tmp_path: Path, bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landcover.products.delivery._CHUNK_BYTES", 5 << 20)
    files = write(spec, spool, "s3://maps/a folder/#1/map.tif", work=tmp_path)
    assert [each.location for each in files] == [f"s3://maps/a folder/#1/{name}" for name in files_in_order()]
    assert bucket.order == [each.location.removeprefix("s3://") for each in files]
    for each in files:
        name = each.location.removeprefix("s3://")
        assert hashlib.sha256(bucket.objects[name]).hexdigest() == each.sha256
        assert bucket.types[name] == each.media_type
    assert list(tmp_path.iterdir()) == []
    assert not bucket.parts
    found = S3Store("maps", client_options={"allow_http": True}).get("a folder/#1/map.tif").bytes()
    assert hashlib.sha256(found).hexdigest() == files[1].sha256


def test_a_bucket_that_refuses_is_a_sentence(spec: ProductSpec, spool: Spool, tmp_path: Path, bucket: S3Server) -> None:
    bucket.refuse = True
    with pytest.raises(DestinationUnwritable, match=r"s3://maps/map\.tif cannot be written") as caught:
        write(spec, spool, "s3://maps/map.tif", Outputs(confidence="none"), work=tmp_path)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [] and not bucket.objects


def test_an_upload_that_is_ended_leaves_what_was_there(
    spec: ProductSpec, spool: Spool, tmp_path: Path, bucket: S3Server
) -> None:
    write(spec, spool, "s3://maps/map.tif", Outputs(confidence="none"), work=tmp_path)
    before = dict(bucket.objects)

    def told(stage: str, share: float) -> None:
        if stage == "putting map.tif in place":
            raise SceneChanged("It was replaced.")

    with pytest.raises(SceneChanged):
        write(spec, spool, "s3://maps/map.tif", Outputs(confidence="none"), work=tmp_path, told=told)
    for name in ("maps/map.tif", "maps/map.json"):
        assert bucket.objects[name] == before[name]


def test_a_spool_that_is_gone_is_a_sentence(spec: ProductSpec, tmp_path: Path) -> None:
    with Spool(tmp_path / "map.spool", "test") as spool:
        spool.put([])
        other = sqlite3.connect(tmp_path / "map.spool")
        other.execute("DROP TABLE block")
        other.commit()
        other.close()
        with pytest.raises(DestinationUnwritable, match=r"map\.spool"):
            write(spec, spool, tmp_path / "map.tif")
    assert not (tmp_path / "map.tif").exists()


def files_in_order() -> list[str]:
    """As they are put in place."""
    return list(NAMES.values())
