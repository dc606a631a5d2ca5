"""The arguments of `landcover map`, and what follows what."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landcover.errors import Conflict, InvalidRequest
from landcover.service_client import DEFAULT_URL, ServiceClient, add_key_option, api_key_of

if TYPE_CHECKING:
    from landcover.commands.map_command.wanted import Wanted

_SUFFIXES = (".tif", ".tiff")


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "map",
        help="map a scene, or a part of it, into a land-cover GeoTIFF",
        description="Map a scene, or a part of it, into a Cloud-Optimized GeoTIFF with colours and class names, and a\n"
        "STAC item beside it. A scene's id is mapped by a running service, as a job; an image file or URL is\n"
        "mapped here, by workers of its own. Stopped at any moment (Ctrl-C, a crash, a full disk), the same\n"
        "command goes on where it was.",
        epilog="an image here, with the model that comes with this program, or with yours:\n"
        "  landcover map ortho.tif --out landcover.tif\n"
        "  landcover map ortho.tif --out landcover.tif --model mine.onnx --confidence file --vectorize flatgeobuf\n\n"
        "a part of a scene of a running service (landcover up):\n"
        "  landcover map demo --out part.tif --bbox 140.054,36.134,140.060,36.140\n"
        "  landcover map demo --out city.tif --geometry city.gpkg --allow-missing",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scene", help="a scene's id, or an image (a file, a URL, or a catalogue of one scene)")
    parser.add_argument("--out", required=True, metavar="FILE.tif", help="the class map; other files lie beside it")
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        help="name or digest of a model of the service, or an ONNX file for an image "
        "(default: the service's, or the one that comes with this program)",
    )
    area = parser.add_mutually_exclusive_group()
    area.add_argument("--bbox", type=_bbox, metavar="XMIN,YMIN,XMAX,YMAX", help="only this box (longitude, latitude)")
    area.add_argument(
        "--geometry", metavar="FILE", help="only what lies in the polygons of a file: GeoJSON, GeoPackage, Shapefile …"
    )
    parser.add_argument("--layer", metavar="NAME", help="of a --geometry file with several layers")
    parser.add_argument("--crs", help="of --bbox or --geometry, such as EPSG:6677 (default: WGS 84, or the file's own)")
    parser.add_argument(
        "--confidence", choices=("none", "file", "band"), default="none",
        help="the model's confidence: left out, a second file, or a second band (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--vectorize", choices=("flatgeobuf", "geoparquet"), help="write polygons, too: OUT.fgb or OUT.parquet"
    )
    parser.add_argument("--pmtiles", action="store_true", help="write the coloured map as tiles in one file, too")
    parser.add_argument(
        "--allow-missing", action="store_true", help="write the map although blocks cannot be had; it says which"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.tif if it is there")
    parser.add_argument("--url", help=f"of the service that has the scene (default: {DEFAULT_URL})")
    add_key_option(parser)
    parser.add_argument("--workers", type=int, default=1, help="worker processes for an image (default: %(default)s)")
    parser.add_argument(
        "--state", type=Path, default=Path(".landcover"), metavar="DIR",
        help="folder in which an image's blocks are cached (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from landcover.commands.map_command import here, there

    console = Console(stderr=True, highlight=False)
    if not arguments.out.lower().endswith(_SUFFIXES):
        raise InvalidRequest(f"--out {arguments.out} must end in .tif; other files are named after it.")
    if "://" not in arguments.out and Path(arguments.out).exists() and not arguments.overwrite:
        raise Conflict(f"{arguments.out} is there already; give --overwrite, or another --out.")
    if arguments.workers < 1:
        raise InvalidRequest("--workers must be 1 or more.")
    wanted = _wanted(arguments)
    if here.is_image(arguments.scene):
        if arguments.url is not None:
            raise InvalidRequest(f"--url is for the scenes of a service; {arguments.scene} is an image, mapped here.")
        return here.map_here(
            arguments.scene, wanted, arguments.model, workers=arguments.workers, state=arguments.state, console=console
        )
    client = ServiceClient(
        url=arguments.url or DEFAULT_URL,
        advice=", or name an image file to have it mapped here",
        api_key=api_key_of(arguments),
    )
    return there.map_there(client, arguments.scene, wanted, arguments.model, console)


def _wanted(arguments: argparse.Namespace) -> Wanted:
    from landcover.commands.map_command.wanted import Wanted
    from landcover.products.spec import Outputs
    from landcover.vectors import authority_code, check_crs, is_wgs84, read_polygons, to_wgs84

    crs, geometry = arguments.crs, None
    if arguments.geometry is not None:
        polygons = read_polygons(arguments.geometry, layer=arguments.layer, crs=arguments.crs)
        crs = None if is_wgs84(polygons.crs) else authority_code(polygons.crs)
        sent = polygons if crs else to_wgs84(polygons)
        features = [{"type": "Feature", "properties": {}, "geometry": each["geometry"]} for each in sent.features]
        geometry = {"type": "FeatureCollection", "features": features}
    elif crs is not None:
        if arguments.bbox is None:
            raise InvalidRequest("--crs is of --bbox or --geometry; give one of them.")
        check_crs(crs)
    return Wanted(
        out=arguments.out,
        bbox=arguments.bbox,
        geometry=geometry,
        crs=crs,
        outputs=Outputs(
            confidence=arguments.confidence, vectors=arguments.vectorize or "none", pmtiles=arguments.pmtiles
        ),
        allow_missing=arguments.allow_missing,
    )


def _bbox(text: str) -> tuple[float, float, float, float]:
    try:
        xmin, ymin, xmax, ymax = (float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise argparse.ArgumentTypeError(f"four numbers with commas between, not {text}") from None
    return xmin, ymin, xmax, ymax
