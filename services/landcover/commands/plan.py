"""`landcover plan`: what mapping a place takes, before anything is mapped."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landcover.errors import InvalidConfiguration, InvalidRequest

if TYPE_CHECKING:
    from landcover.contract import ModelFile
    from landcover.planning.estimate import Estimate, Rates
    from landcover.planning.workload import Workload
    from landcover.scene import Scene

TILE_PX = 256
MEASURED_BLOCKS = 4


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "plan",
        help="what mapping a scene or an area takes: blocks, bytes, hours, money",
        description="Work out what mapping a scene, a part of it, or so many square kilometres takes. Nothing is\n"
        "mapped, and of an image only the header is read. Where figures come from: docs/scale.md.",
        epilog="an image, or a part of a scene of the catalogue (LANDCOVER_SCENES):\n"
        "  landcover plan ortho.tif --measure\n"
        "  landcover plan chiba --geometry city.geojson --rate 60 --price 2.50\n\n"
        "a country, of which only the size is known; tiles of zoom 18, of which the server grants ten a second:\n"
        "  landcover plan --area-km2 378000 --zoom 18 --latitude 36 --rate 60 --requests-per-s 10\n"
        "  landcover plan --area-km2 41285 --gsd 0.5 --workers 1 8 64 --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scene", nargs="?", help="an image (a file, a URL, a catalogue of one), or a scene's id")
    parser.add_argument("--model", metavar="NAME|FILE", help="default: the first of LANDCOVER_MODELS, or the shipped")
    where = parser.add_argument_group("a part of the scene")
    area = where.add_mutually_exclusive_group()
    area.add_argument("--bbox", type=_bbox, metavar="XMIN,YMIN,XMAX,YMAX", help="only this box (longitude, latitude)")
    area.add_argument("--geometry", metavar="FILE", help="only what lies in a file's polygons")
    where.add_argument("--layer", metavar="NAME", help="of a --geometry file with several layers")
    where.add_argument("--crs", help="of --bbox or --geometry (default: WGS 84, or the file's own)")
    bare = parser.add_argument_group("an area, without a scene")
    bare.add_argument("--area-km2", type=_positive, metavar="KM2", help="on the ground")
    bare.add_argument("--gsd", type=_positive, metavar="M", help="of the imagery, metres a pixel")
    bare.add_argument("--zoom", type=int, metavar="Z", help="instead: zoom of the XYZ tiles it comes in (256 px)")
    bare.add_argument("--latitude", type=float, metavar="DEG", help="with --zoom: where, since tiles shrink poleward")
    rates = parser.add_argument_group("rates")
    rate = rates.add_mutually_exclusive_group()
    rate.add_argument("--rate", type=_positive, metavar="MPX", help="million pixels of map a second, of one worker")
    rate.add_argument("--measure", action="store_true", help="measure it here, on a few blocks of the image")
    rates.add_argument("--workers", type=_count, nargs="+", default=[1, 10, 100], help="default: 1 10 100")
    rates.add_argument("--jobs", type=_count, default=1, help="cut into so many, side by side (default: 1)")
    rates.add_argument("--price", type=_positive, metavar="P", help="of an hour of one worker, in any currency")
    rates.add_argument("--requests-per-s", type=_positive, metavar="R", help="that the imagery's server grants")
    rates.add_argument("--bytes-per-px", type=_positive, metavar="B", help="of the imagery, where it is kept")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from landcover.planning.estimate import estimate

    model = _model(arguments.model)
    if arguments.scene is None:
        workload = _of_area(arguments, model)
        rates = _rates(arguments, model, None)
    else:
        scene = _scene(arguments)
        workload = _of_scene(arguments, scene, model)
        rates = _rates(arguments, model, scene)
    result = estimate(workload, rates, sorted(set(arguments.workers)))
    if arguments.json:
        print(json.dumps(asdict(result), indent=2, ensure_ascii=False))
    else:
        _print(result)


def _of_area(arguments: argparse.Namespace, model: ModelFile) -> Workload:
    from landcover.planning.imagery import imagery_of_area
    from landcover.planning.workload import gsd_of_zoom, workload_of_area

    if arguments.area_km2 is None:
        raise InvalidRequest("Name a scene, or give --area-km2 and --gsd (or --zoom and --latitude).")
    if arguments.measure or arguments.bbox or arguments.geometry:
        raise InvalidRequest("--measure, --bbox and --geometry need a scene.")
    if (arguments.gsd is None) == (arguments.zoom is None):
        raise InvalidRequest("With --area-km2 give either --gsd, or --zoom and --latitude.")
    if (arguments.zoom is None) != (arguments.latitude is None):
        raise InvalidRequest(
            "--zoom and --latitude go together: a tile covers less ground the farther from the equator."
        )
    gsd_m = arguments.gsd or gsd_of_zoom(arguments.zoom, arguments.latitude)
    imagery = imagery_of_area(
        tile_px=None if arguments.zoom is None else TILE_PX,
        bytes_per_px=arguments.bytes_per_px,
        requests_per_s=arguments.requests_per_s,
    )
    return workload_of_area(arguments.area_km2, gsd_m, model, imagery)


def _of_scene(arguments: argparse.Namespace, scene: Scene, model: ModelFile) -> Workload:
    from landcover.geodesy import WGS84
    from landcover.mapping.request import MapRequest, plan
    from landcover.planning.imagery import imagery_of
    from landcover.planning.workload import workload_of
    from landcover.vectors import check_crs, read_polygons

    if arguments.area_km2 or arguments.gsd or arguments.zoom is not None:
        raise InvalidRequest("--area-km2, --gsd and --zoom are for places without a scene.")
    crs, geometry = arguments.crs, None
    if arguments.geometry is not None:
        polygons = read_polygons(arguments.geometry, layer=arguments.layer, crs=arguments.crs)
        crs = polygons.crs
        features = [{"type": "Feature", "properties": {}, "geometry": each["geometry"]} for each in polygons.features]
        geometry = {"type": "FeatureCollection", "features": features}
    elif crs is not None:
        check_crs(crs)
    request = MapRequest(scene=scene.id, model=model.digest, bbox=arguments.bbox, geometry=geometry, crs=crs or WGS84)
    imagery = imagery_of(scene, bytes_per_px=arguments.bytes_per_px, requests_per_s=arguments.requests_per_s)
    return workload_of(plan(request, scene, model), imagery)


def _scene(arguments: argparse.Namespace) -> Scene:
    from landcover.catalog import expand_scenes, load_scenes
    from landcover.scene import current_version, describe
    from landcover.settings import CatalogSettings, ReadSettings

    read = ReadSettings()
    catalog = load_scenes(CatalogSettings(), read)
    if any(source.id == arguments.scene for source in catalog.sources):
        source = catalog.source(arguments.scene)
    else:
        sources = list(expand_scenes(arguments.scene))
        if len(sources) != 1:
            raise InvalidRequest(f"{arguments.scene} is {len(sources)} scenes; name one image.")
        source = sources[0]
    return describe(source, current_version(source, read), read)


def _model(name: str | None) -> ModelFile:
    from landcover.catalog import load_models
    from landcover.contract import read_model
    from landcover.settings import CatalogSettings

    if name is not None and Path(name).expanduser().is_file():
        return read_model(Path(name).expanduser())
    return load_models(CatalogSettings()).model(name)


def _rates(arguments: argparse.Namespace, model: ModelFile, scene: Scene | None) -> Rates:
    from landcover.planning.estimate import DEMO_MPX_PER_S, Rates

    rate, basis = arguments.rate, "as given"
    if arguments.measure and scene is not None:
        rate, basis = _measured(scene, model), "measured here, a block at a time"
    elif rate is None:
        rate, basis = DEMO_MPX_PER_S, "the demonstration model on two CPU cores: give --rate or --measure"
    return Rates(mpx_per_s=rate, basis=basis, price_per_hour=arguments.price, jobs=arguments.jobs)


def _measured(scene: Scene, model: ModelFile) -> float:
    """Million pixels a second of the model on this machine, by a process of the worker's package.

    Raises:
        InvalidConfiguration: it cannot be measured.
    """
    command = [sys.executable, "-m", "landcover_worker.parts", scene.source.location, "--model", str(model.path)]
    done = subprocess.run([*command, "--blocks", str(MEASURED_BLOCKS)], check=False, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise InvalidConfiguration(f"The rate cannot be measured ({reason}); give --rate.")
    return float(model.contract.block_px**2 / 1e6 / json.loads(done.stdout.splitlines()[-1])["total_s"])


def _print(result: Estimate) -> None:
    from rich.console import Console
    from rich.table import Table

    load, rates = result.workload, result.rates
    console = Console(highlight=False, width=130)
    console.print(f"{load.name}, mapped by {load.model} at {load.gsd_m:.3g} m", markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column(justify="left")
    table.add_row("blocks", f"{load.blocks:,}", f"of {load.block_px} px, seen with {load.halo_px} px around")
    table.add_row("pixels", _count_text(load.pixels), f"of the map; networks see {_count_text(result.network_pixels)}")
    table.add_row(
        "to read",
        _bytes(result.read_bytes),
        f"at most, {_bytes(result.least_read_bytes)} at least; {load.imagery.bytes_per_px:.2f} bytes a pixel "
        f"({load.imagery.basis})",
    )
    if result.requests is not None and result.least_requests is not None:
        table.add_row(
            "requests",
            f"{result.least_requests:,}",
            f"if each tile is kept for its neighbours (LANDCOVER_ORIGIN_CACHE), else up to {result.requests:,}",
        )
    table.add_row("blocks kept", _bytes(result.block_bytes), "on the job's disk; as much cache, to hold the whole map")
    table.add_row(
        "product", _bytes(result.class_bytes), f"and {_bytes(result.confidence_bytes)} of confidence, by option"
    )
    table.add_row("work", _hours(result.worker_hours), f"of one worker at {rates.mpx_per_s:.3g} Mpx/s ({rates.basis})")
    table.add_row(
        "writing", _hours(result.writing_hours), "of the class map, when it is mapped; with confidence twice that"
    )
    console.print(table)
    _print_fleets(console, result)


def _print_fleets(console: Any, result: Estimate) -> None:
    from rich.table import Table

    why = {
        "workers": "the workers",
        "imagery": f"the imagery's server ({result.workload.imagery.requests_per_s or 0:g} requests/s)",
        "servers": "one cache: give regions a broker and a cache of their own",
        "job": f"the books of {result.rates.jobs} job(s): cut it into more (--jobs)",
    }
    table = Table(box=None, pad_edge=False)
    for name in ("workers", "mapped in", "done in", "cost"):
        table.add_column(name, justify="right")
    table.add_column("bound by")
    for fleet in result.fleets:
        cost = "" if fleet.cost is None else f"{fleet.cost:,.2f}"
        table.add_row(f"{fleet.workers:,}", _hours(fleet.mapping_hours), _hours(fleet.hours), cost, why[fleet.bound_by])
    console.print()
    console.print(table)


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:,.1f} h" if hours < 72 else f"{hours / 24:,.1f} days"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def _count_text(count: float) -> str:
    return f"{count:,}" if count < 1e9 else f"{count / 1e9:,.4g} thousand million"


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number greater than 0, not {text}")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"1 or more, not {text}")
    return int(text)


def _bbox(text: str) -> tuple[float, float, float, float]:
    try:
        xmin, ymin, xmax, ymax = (float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise argparse.ArgumentTypeError(f"four numbers with commas between, not {text}") from None
    return xmin, ymin, xmax, ymax
