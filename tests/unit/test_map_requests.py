"""What is asked of a map: areas become windows of the grid and the blocks they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from pydantic import ValidationError

from landcover.contract import ModelFile, read_model
from landcover.errors import InvalidRequest
from landcover.grid import BlockIndex
from landcover.mapping.request import MapRequest, count_blocks, plan
from landcover.products.spec import Outputs, ProductSpec
from landcover.scene import Scene
from rasters import noise, scene_of, write_tif

UTM = {"crs": "EPSG:32654"}
X, Y = 415_000, 4_000_000
"""The scene's corner; its pixels are half a metre."""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return scene_of(write_tif(tmp_path / "scene.tif", noise(700, 1000)))


@pytest.fixture
def model(pixel_model: Path) -> ModelFile:
    return read_model(pixel_model)


def planned(scene: Scene, model: ModelFile, **asked: Any) -> ProductSpec:
    return plan(MapRequest(scene=scene.id, model=model.digest, **asked), scene, model)


def window(spec: ProductSpec) -> tuple[int, int, int, int]:
    return spec.area.row_px, spec.area.col_px, spec.area.height_px, spec.area.width_px


def test_all_of_a_scene(scene: Scene, model: ModelFile) -> None:
    spec = planned(scene, model)
    assert window(spec) == (0, 0, 700, 1000)
    assert count_blocks(spec) == 12
    assert list(spec.area.blocks(spec.grid)) == [BlockIndex(row, col) for row in range(3) for col in range(4)]
    assert not spec.area.clipped


@pytest.mark.parametrize(
    ("bbox", "expected", "blocks"),
    [
        ((X, Y - 128, X + 128, Y), (0, 0, 256, 256), 1),
        ((X, Y - 128.5, X + 128, Y), (0, 0, 257, 256), 2),
        ((X + 10.2, Y - 20.2, X + 20.2, Y - 10.2), (20, 20, 21, 21), 1),
        ((X - 1000, Y - 1000, X + 1000, Y + 1000), (0, 0, 700, 1000), 12),
        ((X + 499.9, Y - 349.9, X + 600, Y - 300), (600, 999, 100, 1), 1),
    ],
)
def test_a_box_is_the_window_that_holds_it(
    scene: Scene, model: ModelFile, bbox: tuple[float, float, float, float], expected: Any, blocks: int
) -> None:
    spec = planned(scene, model, bbox=bbox, **UTM)
    assert window(spec) == expected
    assert count_blocks(spec) == blocks


def test_a_polygon_needs_the_blocks_it_touches(scene: Scene, model: ModelFile) -> None:
    corner = [[X, Y], [X + 200.2, Y], [X, Y - 200.2], [X, Y]]  # the triangle at the upper left, 400.4 px a side
    geometry = {"type": "Polygon", "coordinates": [corner]}
    spec = planned(scene, model, geometry=geometry, **UTM)
    assert window(spec) == (0, 0, 401, 401)
    assert [(each.row, each.col) for each in spec.area.blocks(spec.grid)] == [(0, 0), (0, 1), (1, 0)]
    inside = spec.area.inside(spec.grid, BlockIndex(0, 1))
    rows, cols = np.mgrid[:256, :256] + 0.5
    assert inside is not None
    assert np.array_equal(inside, rows + cols + 256 < 400.4)
    assert spec.area.clipped


def test_a_block_inside_altogether_has_no_mask(scene: Scene, model: ModelFile) -> None:
    square = [[X - 10, Y + 10], [X + 300, Y + 10], [X + 300, Y - 300], [X - 10, Y - 300], [X - 10, Y + 10]]
    spec = planned(scene, model, geometry={"type": "Polygon", "coordinates": [square]}, **UTM)
    assert spec.area.inside(spec.grid, BlockIndex(1, 1)) is None
    assert spec.area.inside(spec.grid, BlockIndex(2, 2)) is not None


def test_a_box_across_the_antimeridian(model: ModelFile, tmp_path: Path) -> None:
    path = write_tif(
        tmp_path / "fiji.tif",
        noise(512, 512),
        crs="EPSG:32701",
        transform=Affine(0.5, 0, 166_000, 0, -0.5, 8_000_000),
    )
    scene = scene_of(path)
    spec = planned(scene, model, bbox=(179.0, -30.0, -170.0, -10.0))
    assert window(spec) == (0, 0, 512, 512)
    with pytest.raises(InvalidRequest, match="outside the scene"):
        planned(scene, model, bbox=(100.0, -30.0, 101.0, -10.0))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"bbox": (X + 5, Y - 9, X, Y), **UTM}, "xmin must be less"),
        ({"bbox": (0, 0, 1, 1)}, "outside the scene"),
        ({"geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}}, "Polygon"),
        ({"geometry": {"type": "FeatureCollection", "features": []}}, "no features"),
    ],
)
def test_what_is_no_area_is_refused(scene: Scene, model: ModelFile, asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        planned(scene, model, **asked)


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match="not both"):
        MapRequest(scene="a", model="b", bbox=(0, 0, 1, 1), geometry={})
    with pytest.raises(ValidationError, match="ymin must be less"):
        MapRequest(scene="a", model="b", bbox=(0, 1, 1, 1))


def test_equal_requests_have_one_id(scene: Scene) -> None:
    one = MapRequest(scene="a", model="b", bbox=(0, 0, 1, 1))
    assert one.job_id("v") == MapRequest(scene="a", model="b", bbox=(0.0, 0, 1, 1)).job_id("v")
    others = [
        one.job_id("w"),
        one.model_copy(update={"scene": "c"}).job_id("v"),
        one.model_copy(update={"model": "c"}).job_id("v"),
        one.model_copy(update={"bbox": (0, 0, 1, 2)}).job_id("v"),
        one.model_copy(update={"outputs": Outputs(pmtiles=True)}).job_id("v"),
    ]
    assert len({one.job_id("v"), *others}) == 6
    assert one.model_copy(update={"allow_missing": True}).job_id("v") == one.job_id("v")
