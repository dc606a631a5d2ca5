"""The class map as polygons: no gaps or overlaps, true areas, also where chunks meet; and as files others read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS, Geod, Transformer
from rasterio.features import geometry_mask, rasterize, shapes

from landcover.classes import OPENEARTHMAP
from landcover.errors import DestinationUnwritable
from landcover.products import vectors
from landcover.products.polygons import trace
from landcover.products.vectors import Layers, write_vectors
from product_parts import drawn_map
from rasters import HALF_METRE, UTM54

HEIGHT, WIDTH, CHUNK = 300, 410, 128


def patches(*, unknown: bool = False) -> np.ndarray:
    """A class map of blobs, without speckles."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.sin(rows / 13 + np.sin(cols / 29)) + np.cos(cols / 17 - rows / 41) + np.sin((rows + 2 * cols) / 7) / 2
    classes = np.digitize(waves, np.linspace(-2, 2, 8)).astype(np.uint8) + 1
    classes = np.minimum(classes, 8)
    if unknown:
        classes[(rows - 150) ** 2 + (cols - 200) ** 2 < 60**2] = 0
        classes[rows + cols < 120] = 0
    return classes


def write_layers(folder: Path, classes: np.ndarray, confidence: np.ndarray, transform: Affine = HALF_METRE) -> Layers:
    """Both maps as files."""
    for name, pixels in (("classes", classes), ("confidence", confidence)):
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", width=pixels.shape[1], height=pixels.shape[0], count=1,
            dtype="uint8", crs=UTM54, transform=transform, nodata=0,
        ) as image:  # fmt: skip
            image.write(pixels, 1)
    return Layers(classes=folder / "classes.tif", confidence=folder / "confidence.tif")


def vectorized(
    folder: Path, classes: np.ndarray, suffix: str = ".parquet", transform: Affine = HALF_METRE, **options: Any
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The geometries and columns of the file that is written."""
    confidence = np.random.default_rng(1).integers(1, 256, classes.shape, dtype=np.uint8)
    path = folder / f"map{suffix}"
    write_vectors(
        path, write_layers(folder, classes, confidence, transform), OPENEARTHMAP, lambda share: None, **options
    )
    if suffix == ".fgb":
        meta, _, wkb, columns = pyogrio.raw.read(path)
        return shapely.from_wkb(wkb), dict(zip(meta["fields"], columns, strict=True))
    table = pq.read_table(path)
    columns = {name: table[name].to_numpy() for name in ("class", "name", "color", "area_m2", "mean_confidence")}
    return shapely.from_wkb(table["geometry"].to_numpy()), columns


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve chunks instead of one."""
    monkeypatch.setattr(vectors, "CHUNK_PX", CHUNK)


ROTATED = HALF_METRE @ Affine.rotation(30)


@pytest.mark.parametrize("suffix", [".fgb", ".parquet"])
def test_neither_gaps_nor_overlaps_within_and_between_chunks(tmp_path: Path, suffix: str) -> None:
    classes = patches()
    geometries, columns = vectorized(tmp_path, classes, suffix)
    assert shapely.is_valid(geometries).all()
    assert set(shapely.get_type_id(geometries)) == {shapely.GeometryType.POLYGON}
    assert shapely.coverage_is_valid(geometries)
    extent = shapely.box(415_000, 4_000_000 - HEIGHT / 2, 415_000 + WIDTH / 2, 4_000_000)
    assert shapely.area(geometries).sum() == pytest.approx(extent.area, rel=1e-12)
    assert shapely.equals(shapely.coverage_union_all(geometries), extent)
    assert shapely.get_num_coordinates(geometries).sum() < 0.6 * corners_of_pixels(classes)
    assert set(columns["class"]) == set(np.unique(classes))


def test_polygons_follow_the_pixels(tmp_path: Path) -> None:
    classes = patches(unknown=True)
    geometries, columns = vectorized(tmp_path, classes)
    drawn = rasterize(
        zip(geometries, columns["class"].tolist(), strict=True), classes.shape, transform=HALF_METRE, dtype="uint8"
    )
    assert (drawn == classes).mean() > 0.96
    assert shapely.coverage_is_valid(geometries)


def test_without_tolerance_they_are_the_pixels(tmp_path: Path) -> None:
    classes, _ = drawn_map(CHUNK + 30, CHUNK + 40)
    geometries, columns = vectorized(tmp_path, classes, tolerance_px=0)
    drawn = rasterize(
        zip(geometries, columns["class"].tolist(), strict=True), classes.shape, transform=HALF_METRE, dtype="uint8"
    )
    np.testing.assert_array_equal(drawn, classes)
    assert shapely.coverage_is_valid(geometries)
    pixels = np.bincount(classes.ravel(), minlength=9) * 0.25
    for value in range(1, 9):
        assert shapely.area(geometries[columns["class"] == value]).sum() == pytest.approx(pixels[value])


def test_noise_is_still_a_coverage(tmp_path: Path) -> None:
    classes = np.random.default_rng(3).integers(0, 3, (CHUNK + 20, CHUNK + 30), dtype=np.uint8)
    geometries, _ = vectorized(tmp_path, classes)
    assert shapely.is_valid(geometries).all()
    assert shapely.coverage_is_valid(geometries)


def test_a_rotated_image_leaves_no_gaps_either(tmp_path: Path) -> None:
    geometries, _ = vectorized(tmp_path, patches(), transform=ROTATED)
    assert shapely.is_valid(geometries).all()
    assert shapely.coverage_is_valid(geometries)
    assert shapely.area(geometries).sum() == pytest.approx(HEIGHT * WIDTH / 4, rel=1e-9)


def test_areas_are_geodesic_and_confidence_is_that_of_the_pixels(tmp_path: Path) -> None:
    classes = np.full((HEIGHT, WIDTH), 2, np.uint8)
    classes[20:60, 30:100] = 8
    classes[30:50, 40:60] = 5
    confidence = np.random.default_rng(1).integers(1, 256, classes.shape, dtype=np.uint8)
    geometries, columns = vectorized(tmp_path, classes, tolerance_px=0)
    to_degrees = Transformer.from_crs(UTM54, "EPSG:4326", always_xy=True)
    geod = Geod(ellps="WGS84")
    for geometry, area in zip(geometries, columns["area_m2"], strict=True):
        there = shapely.transform(geometry, to_degrees.transform, interleaved=False)
        assert area == pytest.approx(abs(geod.geometry_area_perimeter(there)[0]), rel=1e-6)
    (building,) = np.flatnonzero(columns["class"] == 8)
    inside = (classes == 8) & ~geometry_mask([geometries[building]], classes.shape, HALF_METRE)
    assert columns["mean_confidence"][building] == pytest.approx(confidence[inside].mean() / 255, rel=1e-12)
    assert columns["name"][building] == "building" and columns["color"][building] == "#de1f07"
    (tree,) = np.flatnonzero(columns["class"] == 5)
    assert columns["mean_confidence"][tree] == pytest.approx(confidence[30:50, 40:60].mean() / 255, rel=1e-12)


def test_every_region_has_its_own_confidence() -> None:
    classes, confidence = drawn_map(90, 110)
    traced = trace(np.pad(classes, 1), confidence, 0)
    for geometry, value, mean in zip(traced.shapes, traced.classes, traced.mean_confidence, strict=True):
        inside = ~geometry_mask([geometry], classes.shape, Affine.identity())
        assert (classes[inside] == value).all()
        assert mean == pytest.approx(confidence[inside].mean() / 255, rel=1e-12)


def test_geoparquet_says_what_it_is(tmp_path: Path) -> None:
    vectorized(tmp_path, patches(unknown=True))
    table = pq.read_table(tmp_path / "map.parquet")
    geo = json.loads(table.schema.metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert geo["version"] == "1.1.0" and column["encoding"] == "WKB" and column["geometry_types"] == ["Polygon"]
    assert CRS.from_json_dict(column["crs"]).to_epsg() == 32654
    assert column["covering"]["bbox"]["ymax"] == ["bbox", "ymax"]
    bounds = shapely.bounds(shapely.from_wkb(table["geometry"].to_numpy()))
    kept = [tuple(row[side] for side in ("xmin", "ymin", "xmax", "ymax")) for row in table["bbox"].to_pylist()]
    np.testing.assert_array_equal(kept, bounds)
    assert pyogrio.read_info(tmp_path / "map.parquet")["crs"] == "EPSG:32654" if parquet_driver() else True


def test_flatgeobuf_has_an_index_and_a_crs(tmp_path: Path) -> None:
    geometries, _ = vectorized(tmp_path, patches(), ".fgb")
    info = pyogrio.read_info(tmp_path / "map.fgb")
    assert (info["crs"], info["features"], info["geometry_type"]) == ("EPSG:32654", len(geometries), "Polygon")
    assert info["capabilities"]["fast_spatial_filter"]
    corner = (415_000, 3_999_990, 415_010, 4_000_000)
    found = pyogrio.raw.read(tmp_path / "map.fgb", bbox=corner)[2]
    assert len(found) == shapely.intersects(geometries, shapely.box(*corner)).sum() < len(geometries)


def test_no_confidence_no_column_value(tmp_path: Path) -> None:
    layers = write_layers(tmp_path, patches(), patches())
    path = tmp_path / "map.fgb"
    write_vectors(path, Layers(classes=layers.classes, confidence=None), OPENEARTHMAP, lambda share: None)
    meta, _, _, columns = pyogrio.raw.read(path)
    assert np.isnan(columns[list(meta["fields"]).index("mean_confidence")]).all()


@pytest.mark.parametrize("suffix", [".fgb", ".parquet"])
def test_a_map_of_nothing_gives_an_empty_file(tmp_path: Path, suffix: str) -> None:
    geometries, _ = vectorized(tmp_path, np.zeros((HEIGHT, WIDTH), np.uint8), suffix)
    assert len(geometries) == 0


class Stop(Exception):
    """Not one of ours."""


@pytest.mark.parametrize("suffix", [".fgb", ".parquet"])
@pytest.mark.parametrize("error", [Stop("enough"), KeyboardInterrupt()])
def test_what_progress_raises_ends_the_writing(tmp_path: Path, suffix: str, error: BaseException) -> None:
    layers = write_layers(tmp_path, patches(), patches())
    with pytest.raises(type(error)):
        write_vectors(tmp_path / f"map{suffix}", layers, OPENEARTHMAP, _raise_at(0.4, error))


@pytest.mark.parametrize("suffix", [".fgb", ".parquet"])
def test_no_permission_is_a_sentence(tmp_path: Path, suffix: str) -> None:
    layers = write_layers(tmp_path, patches(), patches())
    with pytest.raises((DestinationUnwritable, OSError)):
        write_vectors(tmp_path / "nowhere" / f"map{suffix}", layers, OPENEARTHMAP, lambda share: None)


def _raise_at(limit: float, error: BaseException) -> Callable[[float], None]:
    def told(share: float) -> None:
        if share > limit:
            raise error

    return told


def corners_of_pixels(classes: np.ndarray) -> int:
    """Points of the outlines before simplification."""
    return sum(len(ring) for geometry, _ in shapes(classes, connectivity=4) for ring in geometry["coordinates"])


def parquet_driver() -> bool:
    """Whether GDAL's own reader of Parquet is there, to ask it as well."""
    return "Parquet" in pyogrio.list_drivers()
