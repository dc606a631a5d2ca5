"""Pictures of scenes that GDAL cannot open, against rio-tiler's own reader of the same picture as a file."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import morecantile
import numpy as np
import pytest
from affine import Affine
from rio_tiler.errors import PointOutsideBounds, TileOutsideBounds
from rio_tiler.io import Reader

from landcover.extract import extract_by_windows
from landcover.kinds import kind_of
from landcover.scene import Scene
from landcover.settings import ReadSettings
from landcover_api.extract_reader import ExtractReader
from rasters import noise, scene_of, write_tif

ROTATED = Affine(0.3, 0.4, 415_000, 0.4, -0.3, 4_000_000)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene_of(write_tif(tmp_path_factory.mktemp("extract") / "a.tif", noise(700, 500)))


def reader_of(scene: Scene, tms: str = "WebMercatorQuad") -> ExtractReader:
    windows = kind_of(scene.source).windows(ReadSettings())
    return ExtractReader(scene, extract=partial(extract_by_windows, windows), tms=morecantile.tms.get(tms))


def both(scene: Scene, tms: str = "WebMercatorQuad") -> tuple[ExtractReader, Reader]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reader_of(scene, tms), Reader(scene.source.location, tms=morecantile.tms.get(tms))


def alike(ours: Any, theirs: Any) -> float:
    """The share of equal pixels, masks included."""
    assert ours.array.shape == theirs.array.shape
    same = (ours.data == theirs.data).all(axis=0) & (ours.mask == theirs.mask)
    hidden = (ours.mask == 0) & (theirs.mask == 0)
    return float((same | hidden).mean())


@pytest.mark.parametrize("tms", ["WebMercatorQuad", "WorldCRS84Quad", "UPSArcticWGS84Quad"])
@pytest.mark.parametrize("nearer", [0, 1, 3])
def test_tiles_are_rio_tilers(scene: Scene, tms: str, nearer: int) -> None:
    """At the scene's own pixels and nearer; but for pixels that lie between two of the scene's."""
    ours, theirs = both(scene, tms)
    zoom = ours.maxzoom + nearer
    assert (ours.minzoom, ours.maxzoom) == (theirs.minzoom, theirs.maxzoom)
    west, south, east, north = scene.bounds_wgs84
    for lon, lat in ((west + 0.0002, north - 0.0002), ((west + east) / 2, (south + north) / 2)):
        tile = ours.tms.tile(lon, lat, zoom)
        shown = ours.tile(tile.x, tile.y, tile.z)
        assert alike(shown, theirs.tile(tile.x, tile.y, tile.z)) > 0.98
        assert shown.bounds == theirs.tile(tile.x, tile.y, tile.z).bounds


def test_zoomed_out_it_is_as_large_and_in_the_same_place(scene: Scene) -> None:
    ours, theirs = both(scene)
    west, south, east, north = scene.bounds_wgs84
    for zoom in (10, 14, 16):
        tile = ours.tms.tile((west + east) / 2, (south + north) / 2, zoom)
        mine, other = (reader.tile(tile.x, tile.y, tile.z, tilesize=256) for reader in (ours, theirs))
        assert ((mine.mask > 0) == (other.mask > 0)).mean() > 0.99


def test_boxes_points_and_the_whole(scene: Scene) -> None:
    ours, theirs = both(scene)
    west, south, east, north = scene.bounds_wgs84
    box = (west + 0.0005, south + 0.0005, west + 0.0015, south + 0.0012)
    assert alike(ours.part(box, max_size=None, width=400, height=300), theirs.part(box, width=400, height=300)) > 0.97
    lon, lat = (west + east) / 2, (south + north) / 2
    assert ours.point(lon, lat).data.tolist() == theirs.point(lon, lat).data.tolist()
    assert alike(ours.preview(max_size=2048), theirs.preview(max_size=2048)) == 1
    assert ours.preview(max_size=100).array.shape == theirs.preview(max_size=100).array.shape
    with pytest.raises(PointOutsideBounds):
        ours.point(lon + 1, lat)


def test_what_only_touches_is_empty_and_what_does_not_is_outside(tmp_path: Path) -> None:
    """Maps ask for the tiles along a scene's edge, on whichever side rounding puts them."""
    tms = morecantile.tms.get("WebMercatorQuad")
    bounds = tms.xy_bounds(morecantile.Tile(232_832, 103_220, 18))
    transform = Affine(
        (bounds.right - bounds.left) / 256, 0, bounds.left, 0, (bounds.bottom - bounds.top) / 256, bounds.top
    )
    aligned = scene_of(write_tif(tmp_path / "a.tif", noise(256, 256), crs="EPSG:3857", transform=transform))
    reader = reader_of(aligned)
    assert np.array_equal(reader.tile(232_832, 103_220, 18).data, np.moveaxis(noise(256, 256), -1, 0))
    for x, y in ((232_831, 103_220), (232_833, 103_221), (232_832, 103_219)):
        assert not reader.tile(x, y, 18).mask.any()
    with pytest.raises(TileOutsideBounds):
        reader.tile(232_834, 103_220, 18)


def test_a_rotated_scene(tmp_path: Path) -> None:
    turned = scene_of(write_tif(tmp_path / "a.tif", noise(300, 300), transform=ROTATED))
    ours, theirs = both(turned)
    west, south, east, north = turned.bounds_wgs84
    tile = ours.tms.tile((west + east) / 2, (south + north) / 2, ours.maxzoom)
    assert alike(ours.tile(tile.x, tile.y, tile.z), theirs.tile(tile.x, tile.y, tile.z)) > 0.95


@pytest.mark.parametrize("tms", ["WebMercatorQuad", "WorldCRS84Quad", "EuropeanETRS89_LAEAQuad"])
def test_the_whole_world(scene: Scene, tms: str) -> None:
    reader = reader_of(scene, tms)
    try:
        shown = reader.tile(0, 0, 0, tilesize=256)
    except TileOutsideBounds:
        assert tms != "WebMercatorQuad"
    else:
        assert shown.array.shape == (3, 256, 256)
