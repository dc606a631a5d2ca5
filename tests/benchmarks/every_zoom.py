"""What tiles cost at every zoom of a large scene with a product: `python tests/benchmarks/every_zoom.py --help`.

The scene is a hole (a sparse TIFF: nobody reads it), its product a pattern that repeats, so that files are small
whatever the size; the service, the broker and the cache are real, and no worker runs.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import morecantile
import numpy as np
import rasterio
from affine import Affine
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from landcover import block, local
from landcover.catalog import demo_model_path
from landcover.commands.bench.processes import processor_s
from landcover.connections import connect
from landcover.contract import read_model
from landcover.grid import grid_for
from landcover.products import cog
from landcover.products.area import whole_grid
from landcover.products.cog_file import TILE_PX, CogFile
from landcover.products.pyramid import levels_of
from landcover.products.register import ProductRecord, ProductRegister
from landcover.products.spec import ProductSpec
from rasters import scene_of

PERIOD_PX = 4096
PLACE = Affine(0.5, 0, 300_000, 0, -0.5, 4_100_000)
Bounds: TypeAlias = list[float]
TMS = morecantile.tms.get("WebMercatorQuad")


def write_scene(path: Path, side_px: int) -> Path:
    """An image of nothing."""
    with rasterio.open(
        path, "w", driver="GTiff", width=side_px, height=side_px, count=3, dtype="uint8", crs="EPSG:32654",
        transform=PLACE, tiled=True, blockxsize=512, blockysize=512, photometric="RGB", SPARSE_OK=True, BIGTIFF="YES",
    ):  # fmt: skip
        return path


def pattern() -> tuple[np.ndarray, np.ndarray]:
    """Classes and confidence of one period, in patches of some hundred pixels with speckles."""
    random = np.random.default_rng(0)
    patches = random.integers(1, 9, (8, 8), dtype=np.uint8).repeat(512, 0).repeat(512, 1)
    wavy = patches
    for row in range(0, PERIOD_PX, 8):
        wavy[row : row + 8] = np.roll(wavy[row : row + 8], int(60 * np.sin(row / 120)), 1)
    speckles = random.random(wavy.shape) < 0.03
    wavy[speckles] = random.integers(1, 9, speckles.sum(), dtype=np.uint8)
    return wavy, random.integers(120, 256, wavy.shape, dtype=np.uint8)


def write_product(folder: Path, spec: ProductSpec) -> list[Path]:
    """The class map and the confidence; each distinct tile is written once."""
    classes, confidence = pattern()
    provenance = cog.Provenance(made_at=datetime.now(UTC), holes={}, more={})
    pyramids = block.majority_pyramid(classes, spec.model.contract.max_value), block.mean_pyramid(confidence)
    headers = cog._class_header(spec, provenance, band=False), cog._confidence_header(spec, provenance)
    levels, paths = levels_of(spec), [folder / "map.tif", folder / "map.confidence.tif"]
    for path, pyramid, header in zip(paths, pyramids, headers, strict=True):
        with CogFile(folder, path.stem, header, levels, 1) as file:
            for level, size in enumerate(levels):
                layer = pyramid[min(level, len(pyramid) - 1)]
                times = max(1, -(-TILE_PX // len(layer)))
                layer = np.tile(layer, (times, times))
                distinct = len(layer) // TILE_PX
                rows, cols = size.tiles
                offsets, counts = file._offsets[level], file._counts[level]
                for row in range(min(distinct, rows)):
                    for col in range(min(distinct, cols)):
                        tile = np.ascontiguousarray(
                            layer[row * TILE_PX : (row + 1) * TILE_PX, col * TILE_PX : (col + 1) * TILE_PX]
                        )
                        file.put(level, 0, row, col, tile)
                        offsets[0, row::distinct, col::distinct] = offsets[0, row, col]
                        counts[0, row::distinct, col::distinct] = counts[0, row, col]
            file.finish(path, lambda share: None)
    return paths


def main() -> None:
    """Measure, and print a line for each zoom."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=200_000, help="pixels of the scene along each side")
    parser.add_argument("--tiles", type=int, default=8, help="tiles a zoom")
    parser.add_argument("--picture", type=Path, help="write the tile of each zoom below one another into this PNG")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), arguments.side, arguments.tiles, arguments.picture)


def measure(folder: Path, side_px: int, tiles: int, picture: Path | None) -> None:
    """Start a service without workers over a scene with a product, and ask for tiles from the middle of the scene."""
    scene_file = write_scene(folder / "large.tif", side_px)
    model = read_model(demo_model_path())
    scene = scene_of(scene_file)
    spec = ProductSpec(scene=scene, model=model, grid=(grid := grid_for(scene, model.contract)), area=whole_grid(grid))
    began = time.perf_counter()
    classes, confidence = write_product(folder, spec)
    print(f"{grid.rows} x {grid.cols} blocks; product of {classes.stat().st_size >> 20} MiB in "
          f"{time.perf_counter() - began:.0f} s")  # fmt: skip
    processes = local.LocalService()
    try:
        port = local.free_port()
        settings = {
            "LANDCOVER_BROKER_URL": local.start_broker(processes, folder),
            "LANDCOVER_CACHE_URL": local.start_cache(processes, folder),
            "LANDCOVER_SCENES": json.dumps([str(scene_file)]),
        }
        broker, cache = connect(settings["LANDCOVER_BROKER_URL"]), connect(settings["LANDCOVER_CACHE_URL"])
        ProductRegister(broker).add(
            ProductRecord(
                id="made-up", scene="large", version=scene.version, digest=model.digest, decimation=grid.decimation,
                row_px=0, col_px=0, height_px=grid.height_px, width_px=grid.width_px, classes=str(classes),
                confidence=str(confidence), made_at=time.time(),
            )
        )  # fmt: skip
        processes.add("API", local.landcover_command("api", "--port", str(port)), settings)
        url = f"http://127.0.0.1:{port}"
        processes.wait_until(lambda: bool(local.readiness(url)), timeout_s=120)
        with httpx.Client(base_url=url, timeout=60) as client:
            document = client.get("/scenes/large/landcover/WebMercatorQuad/tilejson.json").json()
            print(f"TileJSON: zooms {document['minzoom']} to {document['maxzoom']} (tiles of 512 px)")
            images = report(processes, client, cache, document["bounds"], tiles)
            if picture:
                draw_sheet(images, picture)
    finally:
        processes.stop()


def report(service: local.LocalService, client: httpx.Client, cache: Any, bounds: Bounds, tiles: int) -> list[bytes]:
    """Print a line for each zoom: first with an empty cache, then drawn again from what is in it, then asked again.

    Costs are processor time of the API, for a tile: by the clock others on the machine would be measured, too.
    """
    pid = next(child for child in service.children if child.name == "API").process.pid
    west, south, east, north = bounds
    images = []
    print(
        "zoom | first, ms | drawn again, ms | asked again, ms | product reads | cache reads a tile | KiB of them a tile"
    )
    for zoom in range(19):
        around = touching(bounds, zoom)[:tiles]
        cache.flushdb()
        rounds, product, hashes, sent = [], product_reads(client), (0, 0), (0, 0)
        for number in range(3):
            hashes, spent = reads(cache), processor_s(pid)
            images_now = [get(client, zoom, x, y) for x, y in around]
            rounds.append((processor_s(pid) - spent) * 1000 / len(around))
            if number == 0:
                product, expected = product_reads(client) - product, images_now
                for key in cache.scan_iter(match="tile:*", count=1000):
                    cache.delete(key)
            elif number == 1:
                sent = tuple((now - then) / len(around) for now, then in zip(reads(cache), hashes, strict=True))
            assert images_now == expected
        print(f"{zoom} | {rounds[0]:.0f} | {rounds[1]:.0f} | {rounds[2]:.1f} | {product:.0f} | {sent[0]:.1f} | "
              f"{sent[1] / 1024:.0f}")  # fmt: skip
        middle = TMS.tile((west + east) / 2, (south + north) / 2, zoom)
        images.append(get(client, zoom, middle.x, middle.y))
    return images


def draw_sheet(images: list[bytes], picture: Path) -> None:
    """The tiles beside one another."""
    sheet = Image.new("RGBA", (len(images) * 260, 260), "white")
    for number, data in enumerate(images):
        tile = Image.open(io.BytesIO(data)).convert("RGBA")
        sheet.paste(tile, (number * 260 + 2, 2), tile)
    sheet.save(picture)


def touching(bounds: Bounds, zoom: int) -> list[tuple[int, int]]:
    """Tiles near the middle that touch the scene."""
    west, south, east, north = bounds
    middle = TMS.tile((west + east) / 2, (south + north) / 2, zoom)
    found = []
    for x in range(middle.x - 1, middle.x + 2):
        for y in range(middle.y - 1, middle.y + 2):
            if 0 <= x < 2**zoom and 0 <= y < 2**zoom:
                tile = TMS.bounds(morecantile.Tile(x, y, zoom))
                if tile.left < east and tile.right > west and tile.bottom < north and tile.top > south:
                    found.append((x, y))
    return found


def get(client: httpx.Client, zoom: int, x: int, y: int) -> bytes:
    """A finished tile."""
    response = client.get(f"/scenes/large/landcover/tiles/WebMercatorQuad/{zoom}/{x}/{y}.png", params={"wait": 60})
    response.raise_for_status()
    assert "landcover-pending" not in response.headers
    return response.content


def product_reads(client: httpx.Client) -> float:
    """Blocks and overviews read out of the product so far."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("landcover_api_product_seconds_count"))


def reads(cache: Any) -> tuple[int, int]:
    """Hash reads of the cache server so far, and bytes it has sent."""
    calls = cache.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0)
    return int(calls), int(cache.info("stats")["total_net_output_bytes"])


if __name__ == "__main__":
    main()
