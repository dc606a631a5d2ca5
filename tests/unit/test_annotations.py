"""What a feature must be like to become an annotation, and the sentence for each thing that is wrong."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, box

from landcover.annotations.features import Reading, as_text, feature_of
from landcover.annotations.geometry import MAX_VERTICES, check_inside, envelope, read_geometry, reproject
from landcover.annotations.model import Annotation
from landcover.annotations.vocabulary import ClassTable
from landcover.classes import OPENEARTHMAP, LandCoverClass
from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84, transformer
from landcover.scene import Scene
from rasters import UTM54, noise, scene_of, write_tif

W, S, K = 140.0567, 36.1385, 0.0003
"""South-west corner and side of a square inside the scene, degrees."""
SQUARE = [[W, S], [W + K, S], [W + K, S + K], [W, S + K], [W, S]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """256 × 512 m."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    return scene_of(write_tif(path, noise(1024, 512), transform=Affine(0.5, 0, 415_000, 0, -0.5, 4_000_000)))


def feature(ring: Any = None, *, geometry: Any = None, **properties: Any) -> dict[str, Any]:
    shape = geometry or {"type": "Polygon", "coordinates": [SQUARE if ring is None else ring]}
    return {"type": "Feature", "geometry": shape, "properties": {"scene": "scene", "class": "road"} | properties}


def read(document: Any, scene: Scene, *groups: tuple[LandCoverClass, ...], **options: Any) -> Annotation:
    def scene_of_id(name: str) -> Scene:
        if name != "scene":
            raise InvalidRequest(f"There is no scene '{name}'")
        return scene

    reading = Reading(classes=ClassTable.of(*(groups or (OPENEARTHMAP,))), scene_of=scene_of_id, **options)
    return reading.annotation(document)


def test_a_feature_becomes_an_annotation(scene: Scene) -> None:
    found = read(feature(author=" Ada ", note="wet\nroof"), scene)
    assert (found.scene, found.class_value, found.class_name, found.class_color) == ("scene", 4, "road", "#ffffff")
    assert (found.author, found.note, found.scene_version) == ("Ada", "wet\nroof", scene.version)
    assert found.geometry.equals_exact(shapely.Polygon(SQUARE), 0)
    assert len(found.id) == 36
    assert found.created == found.updated


@pytest.mark.parametrize("given_class", [8, 8.0, "8", "building"])
def test_a_class_is_named_by_value_or_name(scene: Scene, given_class: object) -> None:
    assert read(feature(**{"class": given_class}), scene).class_name == "building"


def test_heights_are_dropped_and_holes_kept(scene: Scene) -> None:
    hole = [[W + 0.0001, S + 0.0001, 5], [W + 0.0002, S + 0.0002, 5], [W + 0.0002, S + 0.0001, 5]]
    rings = [[[*point, 12.5] for point in SQUARE], [*hole, hole[0]]]
    found = read(feature(geometry={"type": "Polygon", "coordinates": rings}), scene)
    assert not found.geometry.has_z
    assert len(found.geometry.interiors) == 1


def test_a_feature_comes_back_as_itself(scene: Scene) -> None:
    first = read(feature(author="Ada"), scene)
    again = read(json.loads(json.dumps(feature_of(first))), scene)
    assert again == first


NAN = float("nan")
LON, LAT = 140.0567, 36.1385
BOW_TIE = [[W, S], [W + K, S + K], [W + K, S], [W, S + K], [W, S]]
FAR = [[x + 1, y] for x, y in SQUARE]
MANY = [
    [W + K / 2 * (1 + math.cos(t)), S + K / 2 * (1 + math.sin(t))]
    for t in np.linspace(0, 2 * math.pi, MAX_VERTICES + 1)
]
NEW = {"name": "solar panel", "color": "#1122ee"}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        # shape of the document
        (None, "is no GeoJSON Feature"),
        ([], "is no GeoJSON Feature"),
        ({"type": "Polygon"}, "is no GeoJSON Feature"),
        ({"type": "Feature", "geometry": None, "properties": None}, "has no properties"),
        ({"type": "Feature", "geometry": None, "properties": {"class": 1}}, "has no geometry"),
        (feature(geometry="POLYGON"), "must be a GeoJSON object"),
        (feature(geometry={"type": "Point", "coordinates": [W, S]}), "'Point'; an annotation is a Polygon"),
        (feature(geometry={"type": "GeometryCollection", "geometries": []}), "'GeometryCollection'"),
        (feature(geometry={"type": "Polygon"}), "has no rings"),
        (feature(geometry={"type": "Polygon", "coordinates": []}), "has no rings"),
        (feature(geometry={"type": "MultiPolygon", "coordinates": []}), "has no coordinates"),
        (feature(geometry={"type": "MultiPolygon", "coordinates": [[SQUARE], []]}), "polygon 2, geometry has no rings"),
        (feature(geometry={"type": "Polygon", "coordinates": SQUARE}), "a position is two numbers"),
        (feature(geometry={"type": "Polygon", "coordinates": [SQUARE], "crs": {}}), "has a crs"),
        (feature([]), "has 0 positions"),
        (feature("ring"), "no list of positions"),
        (feature([[W, S], [W, S + K], [W, S]]), "has 3 positions; a closed ring has four"),
        (feature([*SQUARE[:-1], [W, S + K / 2]]), "ring 1 of geometry is not closed: it begins at 140.0567, 36.1385"),
        (feature([[W, "36"], *SQUARE[1:]]), "a position is two numbers"),
        (feature([[W, True], *SQUARE[1:]]), "a position is two numbers"),
        (feature([[W], *SQUARE[1:]]), "a position is two numbers"),
        (feature([[W, S, 1, 2], *SQUARE[1:]]), "a position is two numbers"),
        (feature([[W, NAN], *SQUARE[1:-1], [W, NAN]]), "no finite number"),
        (feature([[W, 10**400], *SQUARE[1:-1], [W, 10**400]]), "no finite number"),
        # where it lies
        (feature([[x, y + 60] for x, y in SQUARE]), "not on Earth; coordinates are degrees"),
        (feature([[y, x] for x, y in SQUARE]), "seem to be swapped: longitude comes first"),
        (feature([[x + 100, y] for x, y in SQUARE]), "cut what crosses the antimeridian"),
        (feature(FAR), "141.057000, 36.138500 (longitude, latitude) lies"),
        (feature(FAR), "outside its image, whose bounds are 140.05"),
        (feature(FAR), "clip it to the image"),
        # its area
        (feature([[W, S], [W, S], [W, S], [W, S]]), "has no area"),
        (feature([[W, S], [W + K, S], [W + K / 2, S], [W, S]]), "has no area"),
        (feature(BOW_TIE), "self-intersection at 140.05685, 36.13865"),
        (feature(geometry={"type": "Polygon", "coordinates": [SQUARE, SQUARE]}), "geometry is not valid"),
        (feature(geometry={"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}), "geometry is not valid"),
        (feature(MANY), f"has {MAX_VERTICES + 1} vertices, at most {MAX_VERTICES}"),
        # its properties
        (feature(scene=None), "scene is missing"),
        (feature(scene=7), "scene must be text"),
        (feature(scene="s" * 200), "scene has 200 characters"),
        (feature(scene="other"), "There is no scene 'other'"),
        (feature(**{"class": None}), "class is missing; known are 1 bareland, 2 rangeland"),
        (feature(**{"class": 9}), "class 9 is not known; known are 1 bareland"),
        (feature(**{"class": 0}), "class 0 is not known"),
        (feature(**{"class": 4.5}), "class 4.5 is not known"),
        (feature(**{"class": True}), "class True is not known"),
        (feature(**{"class": 10**400}), "is not known"),
        (feature(**{"class": "Road"}), "class 'Road' is not known"),
        (feature(**{"class": [4]}), "class [4] is not known"),
        (feature(**{"class": "x" * 10**6}), "is not known"),
        (feature(class_name="water"), "class_name says 'water'; correct one"),
        (feature(author=["Ada"]), "author must be text"),
        (feature(author="a" * 201), "author has 201 characters; at most 200"),
        (feature(note="n" * 5001), "note has 5001 characters"),
        (feature(note="a\x00b"), "note holds control characters"),
        (feature(note="a\ud800b"), "note holds control characters"),
        (feature() | {"id": "7"}, "id '7' is no UUID"),
        (feature() | {"id": {"a": 1}}, "is no UUID"),
        (feature(class_name="x" * 10**6), "correct one"),
        # a class that it brings
        (feature(new_class=NEW), "must be the new class's value, 1 to 254; free is 9"),
        (feature(**{"class": 255}, new_class=NEW), "1 to 254; free is 9"),
        (feature(**{"class": 8}, new_class=NEW), "contradicts the known class 8 'building'; take another value (free"),
        (feature(**{"class": 9}, new_class=NEW | {"name": "tree"}), "contradicts the known class 5 'tree'"),
        (feature(**{"class": 9}, new_class="solar"), "new_class must be an object"),
        (feature(**{"class": 9}, new_class=NEW | {"value": 9}), "new_class must be an object"),
        (feature(**{"class": 9}, new_class={"name": "solar"}), "new_class: color"),
        (feature(**{"class": 9}, new_class=NEW | {"color": "blue"}), "new_class: color"),
        (feature(**{"class": 9}, new_class=NEW | {"name": " "}), "needs a name"),
        (feature(**{"class": 9}, new_class=NEW | {"name": "a\nb"}), "needs a name"),
        (feature(**{"class": 9}, new_class=NEW | {"name": 5}), "needs a name"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(scene: Scene, document: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(document, scene)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 400  # whatever came in


# --- classes -----------------------------------------------------------------------------------------------------

WATER_1 = LandCoverClass(value=1, name="water", color="#0000ff")


def test_a_value_that_two_models_use_differently_needs_a_name(scene: Scene) -> None:
    with pytest.raises(InvalidRequest, match="class 1 means 1 'bareland' or 1 'water'; say which by class_name"):
        read(feature(**{"class": 1}), scene, OPENEARTHMAP, (WATER_1,))
    found = read(feature(**{"class": 1}, class_name="water"), scene, OPENEARTHMAP, (WATER_1,))
    assert (found.class_value, found.class_name) == (1, "water")
    with pytest.raises(InvalidRequest, match="class_name says 'road'"):
        read(feature(**{"class": 1}, class_name="road"), scene, OPENEARTHMAP, (WATER_1,))


def test_a_new_class_is_known_to_the_features_after_it(scene: Scene) -> None:
    reading = Reading(classes=ClassTable.of(OPENEARTHMAP), scene_of=lambda _: scene)
    first = reading.annotation(feature(**{"class": 9}, new_class={"name": "solar panel", "color": "#1122EE"}))
    assert (first.class_value, first.class_name, first.class_color) == (9, "solar panel", "#1122ee")
    assert reading.annotation(feature(**{"class": "solar panel"})).class_value == 9
    assert reading.annotation(feature(**{"class": 9}, new_class=NEW)).class_value == 9
    assert reading.annotation(feature(**{"class": 4}, new_class={"name": "road", "color": "#000000"})).class_value == 4
    assert [each.name for each in reading.brought] == ["solar panel"]


def test_a_file_brings_classes_only_when_that_is_asked_for(scene: Scene) -> None:
    brings = feature(**{"class": 9}, class_name="solar panel", class_color="#1122ee")
    with pytest.raises(InvalidRequest, match="class 9 is not known"):
        read(brings, scene)
    assert read(brings, scene, file_brings_classes=True).class_name == "solar panel"
    with pytest.raises(InvalidRequest, match="class_name says 'solar panel'"):
        read(feature(**{"class": 8}, class_name="solar panel", class_color="#1122ee"), scene, file_brings_classes=True)


# --- geometry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beyond_px", "fits"), [(0.0, True), (0.9, True), (1.2, False), (100.0, False)])
@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_the_edge_of_the_scene_with_a_pixel_of_tolerance(scene: Scene, side: str, beyond_px: float, fits: bool) -> None:
    left, bottom, right, top = 415_000, 4_000_000 - 512, 415_256, 4_000_000
    at = {"left": left, "bottom": bottom, "right": right, "top": top}
    at[side] += beyond_px * 0.5 * (1 if side in ("right", "top") else -1)
    area = reproject(box(at["left"], at["bottom"], at["right"], at["top"]), UTM54, WGS84)
    if fits:
        check_inside(area, scene)
    else:
        with pytest.raises(InvalidRequest, match="leaves scene 'scene'"):
            check_inside(area, scene)


def test_swapped_coordinates_that_are_on_earth(tmp_path: Path) -> None:
    """In Europe both orders are valid; what tells is that the other way round it lies in the scene."""
    x, y = transformer(WGS84, "EPSG:32632").transform(9.0, 48.0)
    scene = scene_of(
        write_tif(tmp_path / "a.tif", noise(64, 64), crs="EPSG:32632", transform=Affine(0.5, 0, x, 0, -0.5, y))
    )
    west, south, east, north = scene.bounds_wgs84
    inner = box(west, south, east, north).centroid.buffer(0.00005)
    check_inside(inner, scene)
    with pytest.raises(InvalidRequest, match="seem to be swapped"):
        check_inside(shapely.transform(inner, lambda points: points[:, ::-1]), scene)


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        (box(1, 2, 3, 4), (1, 2, 3, 4)),
        (MultiPolygon([box(-180, 0, -179, 1), box(178, 2, 180, 3)]), (178, 0, -179, 3)),
        (MultiPolygon([box(-180, 0, -179, 1), box(178, 2, 180, 3), box(170, 0, 171, 1)]), (170, 0, -179, 3)),
        (MultiPolygon([box(-180, 0, -179, 1), box(-10, 2, 180, 3)]), (-180, 0, 180, 3)),
        (box(-180, -90, 180, 90), (-180, -90, 180, 90)),
        (MultiPolygon([box(-179, 0, -178, 1), box(178, 0, 179, 1)]), (-179, 0, 179, 1)),
    ],
)
def test_envelope(area: Any, expected: tuple[float, ...]) -> None:
    assert envelope(area) == expected


anything: Any = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(coordinates=anything, kind=st.sampled_from(["Polygon", "MultiPolygon"]))
def test_rubbish_is_refused_and_never_crashes(coordinates: Any, kind: str) -> None:
    try:
        read_geometry({"type": kind, "coordinates": coordinates})
    except InvalidRequest:
        return


def test_times_are_rfc_3339() -> None:
    assert as_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
