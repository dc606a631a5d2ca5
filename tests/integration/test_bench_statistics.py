"""`landcover bench statistics`, on ground so small that it takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from landcover import block
from landcover.catalog import demo_model_path
from landcover.cli import main
from landcover.commands.bench.statistics import shapes
from landcover.commands.bench.statistics.ground import make_ground, map_ground
from landcover.connections import connect
from landcover.local import LocalService, start_cache


def test_the_cache_and_the_map_hold_the_same_ground(tmp_path: Path) -> None:
    ground = make_ground(tmp_path, demo_model_path(), largest=1)
    service = LocalService()
    try:
        cache = connect(start_cache(service, tmp_path))
        written: list[int] = []
        map_ground(ground, cache, written.append)
        keys = sorted(cache.scan_iter(match="block:*"))
        layers = {tuple(map(int, key.strip(b"}").split(b":")[-2:])): cache.hget(key, "c0") for key in keys}
        cache.close()
    finally:
        service.stop()
    rows, cols, side = ground.grid.rows, ground.grid.cols, ground.grid.block_px
    assert sum(written) == rows * cols == len(layers)
    with rasterio.open(ground.class_map) as image:
        classes = image.read(1)
    for (row, col), data in layers.items():
        part = classes[row * side : (row + 1) * side, col * side : (col + 1) * side]
        assert np.array_equal(block.decode(data, side), part)


def test_shapes_have_the_areas_that_they_are_named_for(tmp_path: Path) -> None:
    grid = make_ground(tmp_path, demo_model_path(), largest=1000).grid
    west, north = grid.transform @ (0, 0)
    east, south = grid.transform @ (grid.width_px, grid.height_px)
    drawn = [*shapes.areas(grid, 1000), shapes.many_vertices(grid), shapes.zigzag(grid), shapes.parcels(grid)]
    assert [each.blocks for each in drawn[:6]] == [10, 10, 100, 100, 1000, 1000]
    for shape in drawn:
        assert all(each.is_valid for each in shape.polygons)
        assert all(shapely.box(west, south, east, north).contains(each) for each in shape.polygons)
        blocks = sum(each.area for each in shape.polygons) / (grid.gsd_m * grid.block_px) ** 2
        assert blocks == pytest.approx(shape.blocks, rel=1e-3)
    assert len(drawn[-3].polygons[0].exterior.coords) == 200_000
    assert len(drawn[-1].polygons) == 1000


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tenth of its parcels and vertices."""
    monkeypatch.setattr(shapes, "_PARCELS", 100)
    monkeypatch.setattr(shapes, "_VERTICES", 20_000)
    assert main(["bench", "statistics", "--largest", "10", "--json", str(tmp_path / "bench.json")]) == 0
    figures = json.loads((tmp_path / "bench.json").read_text())["statistics"]
    rows = {row["shape"]: row for row in figures["rows"]}
    assert list(rows) == [
        "circle", "square", "wavy circle, 20,000 vertices", "saw, 10,000 edges", "100 parcels"
    ]  # fmt: skip
    for row in rows.values():
        assert row["difference"] < 1e-9  # to exactextract
        assert row["first_s"] > 0 and row["warm_s"] > 0 and row["exactextract_s"] > 0
        assert row["peak_mb"] > 50 and row["exactextract_peak_mb"] > 50
        assert row["ratio"] == pytest.approx(row["warm_s"] / row["exactextract_s"])
    assert figures["parcels_alone_s"] > 0
