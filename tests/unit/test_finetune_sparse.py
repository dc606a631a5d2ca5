"""Annotations become sparse labels: burnt as rasterio and shapely would, the later over the earlier, nothing lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Geod

from landcover.annotations import Annotation
from landcover.grid import BlockIndex
from landcover.reading import SceneReader
from landcover.settings import ReadSettings
from landcover_export.finetuning.holdout import hold_out
from landcover_export.finetuning.lineage import annotations_used, digest_of_annotations
from landcover_export.finetuning.sparse import GAP_PX, AnnotatedScene, Places, annotate, cut_places, place_side_px
from landcover_export.labelled import DataError
from rasters import HALF_METRE, UTM54, noise, scene_of, write_tif
from rounds import annotation, contract

SIDE_PX = 64


def on_pixels(*corners: tuple[float, float], transform: Affine = HALF_METRE) -> shapely.Polygon:
    """A polygon in the scene's CRS through (column, row) corners."""
    return shapely.Polygon([transform @ corner for corner in corners])


def box(col0: float, row0: float, col1: float, row1: float) -> shapely.Polygon:
    return on_pixels((col0, row0), (col1, row0), (col1, row1), (col0, row1))


def drawn(outline: shapely.Polygon, value: int, number: int = 0, **more: object) -> Annotation:
    return annotation(
        outline,
        value,
        crs=UTM54,
        scene="scene",
        id=f"00000000-0000-4000-8000-{number:012d}",
        **{"created": number, **more},
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """200 × 150 pixels of half a metre: no multiple of a cell."""
    return write_tif(tmp_path / "scene.tif", noise(150, 200))


def put_down(image: Path, annotations: list[Annotation]) -> AnnotatedScene:
    return annotate(annotations, scene_of(image), contract(), SIDE_PX)


def all_places(scene: AnnotatedScene, **more: object) -> Places:
    ids = {each.annotation.id for each in scene.drawings}
    return cut_places(scene, scene.reaching, ids, SceneReader(ReadSettings()), **more)


def mosaic(places: Places, height: int = 192, width: int = 256) -> np.ndarray:
    """The labels put back where they were cut."""
    label = np.zeros((height, width), np.uint8)
    for each in places.images:
        _, _, row, _, col = each.name.split()
        label[int(row) : int(row) + SIDE_PX, int(col) : int(col) + SIDE_PX] = each.label
    return label


def test_a_pixel_is_labelled_if_its_centre_lies_inside(image: Path) -> None:
    rng = np.random.default_rng(3)
    outlines = []
    for _number in range(12):
        centre = rng.uniform((10, 10), (190, 140))
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        corners = centre + rng.uniform(3, 40, (7, 1)) * np.column_stack([np.cos(angles), np.sin(angles)])
        outlines.append(corners)
    polygons = [shapely.Polygon(corners) for corners in outlines]
    keep = [n for n, each in enumerate(polygons) if each.is_valid]
    annotations = [drawn(on_pixels(*map(tuple, outlines[n])), 1 + n % 8, n) for n in keep]

    rows, cols = np.mgrid[0:150, 0:200] + 0.5
    expected = np.zeros((192, 256), np.uint8)
    for n in keep:
        expected[:150, :200][shapely.contains_xy(polygons[n], cols, rows)] = 1 + n % 8
    found = mosaic(all_places(put_down(image, annotations)))
    assert len(keep) > 6 and np.count_nonzero(expected) > 3000
    np.testing.assert_array_equal(found, expected)


def test_places_hold_the_scenes_own_pixels(image: Path) -> None:
    place = all_places(put_down(image, [drawn(box(70, 70, 90, 90), 5)])).images[0]
    with rasterio.open(image) as dataset:
        pixels = np.moveaxis(dataset.read(), 0, -1)
    np.testing.assert_array_equal(place.image, pixels[64:128, 64:128])
    assert (place.group, place.gsd_m) == ("scene", pytest.approx(0.5, rel=2e-3))


def test_margins_are_context_without_labels(image: Path) -> None:
    annotations = [drawn(box(60, 60, 200, 150), 5)]
    place = all_places(put_down(image, annotations), margin_px=16).images[0]
    assert place.image.shape == (96, 96, 3)
    assert place.label.shape == (96, 96)
    assert not place.label[:16].any() and not place.label[:, -16:].any() and place.label[16:-16, 16:-16].any()


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        ({"number": 1, "created": 10}, {"number": 2, "created": 20}, 2),
        ({"number": 1, "created": 20}, {"number": 2, "created": 10}, 1),
        ({"number": 1, "created": 10}, {"number": 2, "created": 10}, 2),  # of equal age the larger id
    ],
)
def test_where_polygons_overlap_the_later_wins(image: Path, first: dict, second: dict, winner: int) -> None:
    annotations = [drawn(box(10, 10, 30, 30), 1, **first), drawn(box(20, 20, 40, 40), 2, **second)]
    for order in (annotations, annotations[::-1]):
        scene = put_down(image, order)
        label = mosaic(all_places(scene))
        assert (label[20:30, 20:30] == winner).all()
        assert (np.count_nonzero(label == winner), np.count_nonzero(label == 3 - winner)) == (400, 300)
        assert scene.overwritten_px == 100


def test_the_same_class_twice_overwrites_nothing(image: Path) -> None:
    annotations = [drawn(box(10, 10, 30, 30), 1, 1), drawn(box(20, 20, 40, 40), 1, 2)]
    assert put_down(image, annotations).overwritten_px == 0


def test_whatever_is_left_out_has_its_sentence(image: Path) -> None:
    annotations = [
        drawn(box(300, 10, 320, 30), 1, 1),
        drawn(box(50.6, 50.6, 50.9, 50.9), 2, 2),  # between pixel centres
        drawn(box(100, 100, 105, 105), 3, 3),
        drawn(box(99, 99, 106, 106), 4, 4),  # over all of number 3
        drawn(box(190, 10, 230, 30), 5, 5),  # half of it beyond the image
    ]
    scene = put_down(image, annotations)
    assert [each.annotation.class_value for each in scene.drawings] == [4, 5]
    told = {each.class_value: [n for n in scene.notes if each.id in n] for each in annotations}
    assert "lies outside scene 'scene'" in told[1][0]
    assert "covers no pixel's centre" in told[2][0]
    assert "hidden under later ones" in told[3][0]
    assert told[4] == []
    assert "30 px beyond scene 'scene'" in told[5][0]
    assert len(scene.notes) == 4
    label = mosaic(all_places(scene))
    assert np.count_nonzero(label == 5) == 10 * 20


def test_pixels_without_data_are_not_labelled(tmp_path: Path) -> None:
    mask = np.full((150, 200), 255, np.uint8)
    mask[20:40, 20:40] = 0
    image = write_tif(tmp_path / "scene.tif", noise(150, 200), mask=mask)
    label = mosaic(all_places(put_down(image, [drawn(box(10, 10, 50, 50), 3)])))
    assert np.count_nonzero(label) == 40 * 40 - 20 * 20
    assert not label[20:40, 20:40].any()


def test_labels_lie_on_the_models_grid(tmp_path: Path) -> None:
    """A scene of 0.25 m is halved for a model of 0.4 m and more."""
    fine = Affine(0.25, 0, 415_000, 0, -0.25, 4_000_000)
    image = write_tif(tmp_path / "scene.tif", noise(128, 128), transform=fine)
    outline = on_pixels((20, 20), (60, 20), (60, 40), (20, 40), transform=fine)
    scene = put_down(image, [drawn(outline, 3)])
    assert scene.grid.decimation == 2
    label = mosaic(all_places(scene))
    assert (label[10:20, 10:30] == 3).all() and np.count_nonzero(label) == 200


def test_the_labelled_area_is_geodesic(image: Path) -> None:
    """EPSG:3857 would say half as much again at this latitude."""
    one = drawn(box(3, 3, 123, 83), 7)
    places = all_places(put_down(image, [one]))
    lon, lat = shapely.get_coordinates(one.geometry).T
    expected = abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])
    assert places.area_m2.keys() == {7}
    assert places.area_m2[7] == pytest.approx(expected, rel=1e-4)


def test_a_huge_scene_is_read_where_it_is_annotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "width": 100_000, "height": 100_000, "count": 3, "dtype": "uint8", "crs": UTM54}
    with rasterio.open(path, "w", transform=HALF_METRE, tiled=True, SPARSE_OK=True, photometric="RGB", **profile):
        pass
    scene = put_down(path, [drawn(box(50_000, 50_000, 50_020, 50_030), 3), drawn(box(99_990, 5, 99_999, 9), 4, 1)])
    reads: list[BlockIndex] = []
    original = SceneReader.read
    monkeypatch.setattr(SceneReader, "read", lambda self, s, g, i, h: (reads.append(i), original(self, s, g, i, h))[1])
    places = all_places(scene)
    assert sorted(reads) == [BlockIndex(0, 1562), BlockIndex(781, 781)]
    assert [np.count_nonzero(each.label) for each in places.images] == [36, 600]


def test_too_many_places_are_refused_before_they_are_read(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landcover_export.finetuning.sparse.MAX_PLACES", 3)
    with pytest.raises(DataError, match="reach over 12 places of 64 px, at most 3"):
        all_places(put_down(image, [drawn(box(0, 0, 200, 150), 3)]))


@pytest.mark.parametrize(("crop", "side"), [(32, 64), (96, 128), (224, 256), (256, 256), (512, 512)])
def test_a_place_holds_a_crop(crop: int, side: int) -> None:
    assert place_side_px(crop) == side


def scattered(count: int, seed: int = 0) -> list[Annotation]:
    """Rectangles all over the scene, many across the lines between cells, of three classes and one rare one."""
    rng = np.random.default_rng(seed)
    found = [
        drawn(box(c, r, min(200, c + 25), min(150, r + 20)), int(rng.integers(1, 4)), n)
        for n, (c, r) in enumerate(rng.integers((0, 0), (190, 140), (count, 2)))
    ]
    return [*found, drawn(box(5, 5, 15, 15), 8, count)]


@pytest.mark.parametrize("seed", range(5))
def test_both_sides_share_no_pixel_and_keep_apart(image: Path, seed: int) -> None:
    scene = put_down(image, scattered(14, seed))
    split = hold_out([scene], 0.3, seed)
    everyone = {each.annotation.id for each in scene.drawings}
    assert split.taught | split.held_out == everyone and not split.taught & split.held_out
    assert split.held_out
    mine, others = split.taught_cells["scene"], split.held_out_cells["scene"]
    assert not mine & others
    reader = SceneReader(ReadSettings())
    taught = mosaic(cut_places(scene, mine, split.taught, reader, away_from=others))
    held = mosaic(cut_places(scene, others, split.held_out, reader))
    assert taught.any() and held.any()
    for row, col in zip(*np.nonzero(held), strict=True):
        near = taught[max(0, row - GAP_PX) : row + GAP_PX + 1, max(0, col - GAP_PX) : col + GAP_PX + 1]
        assert not near.any()


def test_the_split_follows_from_the_seed_and_spares_classes(image: Path) -> None:
    scene = put_down(image, scattered(14))
    splits = [hold_out([scene], 0.3, seed) for seed in range(8)]
    assert splits[3] == hold_out([scene], 0.3, 3)
    assert len({split.held_out for split in splits}) > 1
    for split in splits:
        for value in range(1, 9):
            of_class = {each.annotation.id for each in scene.drawings if each.annotation.class_value == value}
            assert 2 * len(of_class & split.held_out) <= len(of_class)


def test_nothing_is_held_out_where_nothing_is_asked_for(image: Path) -> None:
    split = hold_out([put_down(image, scattered(10))], 0.0, 1)
    assert not split.held_out and not split.held_out_cells["scene"]


class TestDigest:
    def test_order_start_and_direction_of_rings_make_no_difference(self) -> None:
        ring = [(0, 0), (10, 0), (10, 10), (0, 10)]
        turned = [*ring[2:], *ring[:2]]
        one, two = drawn(on_pixels(*ring), 1, 1), drawn(box(20, 20, 30, 30), 2, 2)
        other = [two, drawn(on_pixels(*turned[::-1]), 1, 7, created=99, author="B", note="x")]
        assert digest_of_annotations([one, two]) == digest_of_annotations(other)
        assert digest_of_annotations([one, two]).startswith("sha256:")

    @pytest.mark.parametrize(
        "changed",
        [
            [drawn(box(0, 0, 10, 10), 2)],
            [drawn(box(0, 0, 10, 10.1), 1)],
            [drawn(box(0, 0, 10, 10), 1), drawn(box(0, 0, 10, 10), 1, 2)],
            [],
        ],
    )
    def test_another_class_outline_or_number_is_another_digest(self, changed: list[Annotation]) -> None:
        assert digest_of_annotations(changed) != digest_of_annotations([drawn(box(0, 0, 10, 10), 1)])

    def test_the_record_names_what_was_used(self) -> None:
        used = [drawn(box(0, 0, 9, 9), 1, 1, author="Ayşe"), drawn(box(0, 0, 5, 5), 2, 2), drawn(box(1, 1, 2, 2), 3, 3)]
        record = annotations_used(used, {each.id for each in used[:2]}, {1: 10.0, 2: 2.5})
        assert (record.polygons, record.area_m2, record.scenes, record.authors) == (2, 12.5, ("scene",), ("Ayşe",))
        assert record.digest == digest_of_annotations(used[1::-1])
