"""Files, folders, URLs and catalogues become scenes and models, or a sentence."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from landcover import catalog
from landcover.catalog import SceneCatalog, expand_scenes, load_models, load_scenes, scene_id
from landcover.contract import read_model
from landcover.errors import InvalidConfiguration, InvalidModel, ModelNotFound, SceneNotFound, SceneUnreadable
from landcover.scene import SceneSource
from landcover.settings import CatalogSettings, ReadSettings
from onnx_models import pixel_contract, write_pixel_model
from rasters import noise, write_tif

READ = ReadSettings()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chiba.tif", "chiba"),
        ("/a/b/Ortho 2020, v2.tiff", "Ortho-2020-v2"),
        ("...hidden.tif", "hidden"),
        ("v1.2_x.tif", "v1.2_x"),
        ("日本.tif", "scene"),
        ("", "scene"),
        ("a" * 200 + ".tif", "a" * 128),
    ],
)
def test_scene_id(name: str, expected: str) -> None:
    assert scene_id(name) == expected
    assert SceneSource(id=scene_id(name), location="x").id == expected


def ids(location: str) -> list[str]:
    return [source.id for source in expand_scenes(location)]


def test_a_folder_gives_its_images_in_order_and_no_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.tif", "a.TIFF", ".b.123.tif", "notes.txt"):
        (tmp_path / name).touch()
    assert ids(str(tmp_path)) == ["a", "b"]


def test_urls_keep_their_query_but_not_in_the_id() -> None:
    (source,) = expand_scenes("https://host.org/x/a%20b.tif?sig=1")
    assert source.location == "https://host.org/x/a%20b.tif?sig=1"
    assert source.id == "a-20b"
    assert "sig" not in source.id


CATALOGUE = """
scenes:
  - location: sub/ortho16.tif
    bands: [4, 3, 2]
    rescale: [0, 3000]
    title: Sixteen bits
  - location: "what#1?.tif"
  - id: far
    location: https://host.org/a.tif?sig=1
    attribution: Somebody
"""


def test_a_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "scenes.yaml"
    path.write_text(CATALOGUE, encoding="utf-8")
    near, odd, far = expand_scenes(str(path))
    assert near == SceneSource(
        id="ortho16",
        location=str(tmp_path / "sub/ortho16.tif"),
        bands=(4, 3, 2),
        rescale=(0, 3000),
        title="Sixteen bits",
    )
    assert (odd.id, odd.location) == ("what-1", str(tmp_path / "what#1?.tif"))
    assert far == SceneSource(id="far", location="https://host.org/a.tif?sig=1", attribution="Somebody")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("", "is no catalogue of scenes", id="empty"),
        pytest.param("a: [", "is no catalogue of scenes", id="no YAML"),
        pytest.param("- a.tif", "is no catalogue of scenes", id="a list"),
        pytest.param("scenes:", "is no catalogue of scenes", id="no scenes"),
        pytest.param("scenes: [a.tif]", "is no catalogue of scenes", id="words"),
        pytest.param("scenes: [{id: a}]", "is no catalogue of scenes.*location", id="no location"),
        pytest.param("scenes: [{location: 5}]", "is no catalogue of scenes", id="a number"),
        pytest.param("scenes: [{location: a.tif, id: 'a/b'}]", "id: String should match pattern", id="bad id"),
        pytest.param("scenes: [{location: a.tif, bands: [1, 2]}]", "bands.2: Field required", id="two bands"),
        pytest.param("scenes: [{location: a.tif, rescale: [9, 1]}]", "smaller value first", id="rescale"),
        pytest.param("scenes: [{location: a.tif, colour: red}]", "colour: Extra inputs", id="a word we do not know"),
        pytest.param("scenes: [{location: !!python/object/apply:os.system [ls]}]", "no catalogue", id="code"),
    ],
)
def test_a_catalogue_with_a_fault(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "scenes.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfiguration, match=sentence) as caught:
        list(expand_scenes(str(path)))
    assert "scenes.yml" in str(caught.value)


def test_a_catalogue_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "scenes.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidConfiguration, match="no catalogue"):
        list(expand_scenes(str(path)))


def test_locations_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="There is no file or folder"):
        list(expand_scenes(str(tmp_path / "none.tif")))
    with pytest.raises(InvalidConfiguration, match="no GeoTIFF"):
        list(expand_scenes(str(tmp_path)))


def test_two_scenes_of_one_id_are_refused_without_their_signatures(tmp_path: Path) -> None:
    locations = ("https://host.org/a.tif?sig=s3cr3t", "https://other.org/a.tif?sig=s3cr3t")
    with pytest.raises(
        InvalidConfiguration, match=r"Two scenes are called 'a': .*host\.org.* and .*other\.org"
    ) as caught:
        load_scenes(CatalogSettings(scenes=locations), READ)
    assert "s3cr3t" not in str(caught.value)


def test_the_catalogue_follows_the_file(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(20, 30))
    scenes = load_scenes(CatalogSettings(scenes=(str(path),)), READ)
    assert scenes.glance("a") == (None, False)
    first = scenes.scene("a")
    assert scenes.glance("a") == (first, True)
    assert scenes.scene("a") is first
    write_tif(tmp_path / "b.tif", noise(20, 31)).replace(path)
    os.utime(path, ns=(5, 5))
    assert scenes.glance("a") == (None, False)
    assert scenes.scene("a").width_px == 31
    path.unlink()
    with pytest.raises(SceneUnreadable):
        scenes.scene("a")
    with pytest.raises(SceneNotFound, match="no scene 'b'"):
        scenes.scene("b")


def test_many_askers_read_a_header_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tif(tmp_path / "a.tif", noise(20, 30))
    scenes = SceneCatalog(expand_scenes(str(path)), READ)
    calls = []
    describe = catalog.describe

    def counting(*args: Any) -> Any:
        calls.append(args)
        return describe(*args)

    monkeypatch.setattr(catalog, "describe", counting)
    together = threading.Barrier(8)
    found = []

    def ask() -> None:
        together.wait()
        found.append(scenes.scene("a"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(found) == 8


def test_models(tmp_path: Path) -> None:
    one = write_pixel_model(tmp_path / "1.onnx", pixel_contract("one"))
    two = write_pixel_model(tmp_path / "2.onnx", pixel_contract("two"))
    (tmp_path / ".3.onnx").write_bytes(b"half written")
    models = load_models(CatalogSettings(models=(str(tmp_path), str(one))))
    assert [model.name for model in models.models] == ["one", "two"]
    assert models.default.name == "one"
    assert models.model(None) is models.default
    assert models.model(read_model(two).digest).name == "two"
    with pytest.raises(ModelNotFound, match="no model 'three'"):
        models.model("three")
    assert load_models(CatalogSettings(models=(str(tmp_path),), default_model="two")).default.name == "two"
    with pytest.raises(ModelNotFound):
        load_models(CatalogSettings(models=(str(tmp_path),), default_model="three"))


def test_pinned_models(tmp_path: Path) -> None:
    path = write_pixel_model(tmp_path / "a.onnx", pixel_contract("one"))
    digest = read_model(path).digest
    assert load_models(CatalogSettings(models=(f"{path}@{digest}",))).default.digest == digest
    with pytest.raises(InvalidModel, match="was expected"):
        load_models(CatalogSettings(models=(f"{path}@sha256:{'0' * 64}",)))
    with pytest.raises(InvalidConfiguration, match="a digest pins one file"):
        load_models(CatalogSettings(models=(f"{tmp_path}@{digest}",)))


def test_models_that_cannot_be_told_apart_or_found(tmp_path: Path) -> None:
    write_pixel_model(tmp_path / "1.onnx", pixel_contract("one"))
    write_pixel_model(tmp_path / "2.onnx", pixel_contract("one", window_px=128))
    with pytest.raises(InvalidConfiguration, match="Two models are called 'one'"):
        load_models(CatalogSettings(models=(str(tmp_path),)))
    with pytest.raises(InvalidConfiguration, match="There is no model file"):
        load_models(CatalogSettings(models=(str(tmp_path / "none.onnx"),)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidConfiguration, match=r"no \.onnx file"):
        load_models(CatalogSettings(models=(str(tmp_path / "empty"),)))
