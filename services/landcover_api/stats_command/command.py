"""The arguments of `landcover stats`, and what follows what."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

from landcover.errors import InvalidRequest
from landcover.service_client import DEFAULT_URL, add_key_option

_DEFAULT_TIMEOUT_S = 3600.0


def stats(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "stats",
        help="measure the land cover inside the polygons of a file",
        description="Measure the land cover inside each polygon of a file: true ground areas, how much of the polygon\n"
        "is mapped, how sure the model is and, where the model's errors are known, error-adjusted areas\n"
        "with 95 % intervals. A scene's id asks a running service; an image file or URL starts a private\n"
        "one, which ends with the command but keeps what it has mapped in --state.",
        epilog="formats (by the suffix of --out, or --format; without either a table to read):\n"
        "  json      of a GeoJSON Feature or geometry its statistics document; of a collection or layer a list of\n"
        "            {id, properties, statistics}\n"
        "  geojson   a FeatureCollection in WGS 84, each feature with properties.statistics\n"
        "  csv       a row for each feature and class (with --against: for each pair of classes), then the\n"
        "            feature's own attributes; a text that a spreadsheet would run as a formula gets a ' before it\n"
        "  parquet   GeoParquet 1.1, a row for each feature, in the file's CRS, with area_m2_CLASS and so on\n"
        "json, geojson and csv go to standard output without --out; what is said meanwhile goes to standard error.\n\n"
        "a scene of a running service (landcover up):\n"
        "  landcover stats demo --geometry parcels.geojson\n"
        "  landcover stats demo --geometry parcels.gpkg --layer fields --out areas.csv\n"
        "  landcover stats demo --geometry one.geojson --format json | jq .coverage\n\n"
        "an image here, with a model here:\n"
        "  landcover stats ortho.tif --model mine.onnx --geometry parcels.shp --out areas.parquet\n\n"
        "what has become of each class between two images:\n"
        "  landcover stats ortho2025.tif --against ortho2020.tif --geometry parcels.gpkg --out change.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scene", help="a scene's id, or an image (GeoTIFF file, or its https or s3 URL)")
    parser.add_argument(
        "--geometry", required=True, metavar="FILE",
        help="polygons: GeoJSON (- for standard input), GeoPackage, Shapefile or another file that GDAL reads",
    )  # fmt: skip
    parser.add_argument("--layer", metavar="NAME", help="of a file with several layers")
    parser.add_argument("--crs", help="of the coordinates, such as EPSG:6677 (default: the file's own)")
    parser.add_argument("--url", help=f"of the service that has the scene (default: {DEFAULT_URL})")
    add_key_option(parser)
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        help="name or digest of a model of the service, or an ONNX file for an image "
        "(default: the service's, or the one that comes with this program)",
    )
    parser.add_argument(
        "--min-confidence", type=_number(0, 1), metavar="P", help="count pixels less sure than this as unknown"
    )
    parser.add_argument(
        "--against", metavar="SCENE|MODEL", help="what to compare with: a scene or a model, written like those"
    )
    parser.add_argument("--discount", action="store_true", help="count change only as far as the model is sure of it")
    parser.add_argument("--format", choices=("json", "geojson", "csv", "parquet"), help="of what is written")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there")
    parser.add_argument(
        "--skip-refused", action="store_true", help="leave out, aloud, the features that the service refuses"
    )
    parser.add_argument(
        "--timeout", type=_number(1, 1e6), default=_DEFAULT_TIMEOUT_S, metavar="S",
        help="seconds for all of it (default: %(default).0f)",
    )  # fmt: skip
    parser.add_argument(
        "--state", type=Path, default=Path(".landcover"), metavar="DIR",
        help="folder in which a private service keeps its cache (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from landcover.vectors import authority_code, is_wgs84, read_polygons, to_wgs84
    from landcover_api.stats_command.asking import Inquiry, Question
    from landcover_api.stats_command.service import find_scene
    from landcover_api.stats_command.writing import Writer

    console = Console(stderr=True, highlight=False)
    deadline = time.monotonic() + arguments.timeout
    if arguments.discount and arguments.against is None:
        raise InvalidRequest("--discount is of change; name a scene or a model with --against.")
    writer = Writer.chosen(arguments.format, arguments.out)
    polygons = read_polygons(arguments.geometry, layer=arguments.layer, crs=arguments.crs)
    code = None if is_wgs84(polygons.crs) else authority_code(polygons.crs)
    sent = polygons if code else to_wgs84(polygons)
    with find_scene(arguments, console) as found:
        question = Question(
            scene=found.scene,
            query={
                "model": found.model,
                "crs": code,
                "min_confidence": arguments.min_confidence,
                "against": found.against,
                "discount": "true" if arguments.discount else None,
            },
        )
        inquiry = Inquiry(found.client, question, deadline=deadline, skip_refused=arguments.skip_refused)
        documents = inquiry.ask(sent.features, console)
    writer.write(polygons, documents, console)
    return 0


def _number(low: float, high: float) -> Any:
    def number(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise argparse.ArgumentTypeError(f"give {low:g} to {high:g}, not {text}")
        return value

    return number
