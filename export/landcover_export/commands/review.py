"""`landcover review`: where to look first, asked of a running service or worked out here from an image."""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from landcover.errors import InvalidRequest
from landcover.review import Measure
from landcover.review_survey import (
    DEFAULT_LIMIT,
    DEFAULT_MEASURE,
    DEFAULT_MIN_MAPPED,
    DEFAULT_SPREAD,
    MAX_LIMIT,
    ReviewRequest,
)
from landcover.service_client import DEFAULT_URL, ServiceClient, add_key_option, api_key_of, foreign, scene_path

if TYPE_CHECKING:
    from rich.console import Console

_IMAGE_SUFFIXES = (".tif", ".tiff")

Document = dict[str, Any]


def review(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "review",
        help="rank the parts of a map that are likely wrong",
        description="Rank windows of a map by doubt, the worst first, so that whoever corrects or annotates begins "
        "where it helps. A scene's id asks a running service, which ranks what it has mapped; an image file is "
        "mapped and ranked here. Both write the same GeoJSON.\n\n"
        "measures of doubt:\n"
        "  confidence     mean of 1 - p, p the probability of the class that was chosen\n"
        "  entropy        mean of the largest entropy that p allows\n"
        "  disagreement   share of pixels to which a second model gives another class (--against)\n"
        "  seams          how much oftener the class changes at the lines between blocks than beside them",
        epilog="a scene of a running service (landcover up), missing blocks mapped within a minute:\n"
        "  landcover review demo --wait 60 --out review.geojson\n\n"
        "an image here, in windows of 256 px, with a picture of each to look at:\n"
        "  landcover review ortho.tif --model mine.onnx --window 256 --pictures worst/ --out review.geojson\n\n"
        "where two models disagree:\n"
        "  landcover review ortho.tif --model mine.onnx --by disagreement --against other.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scene", help="a scene's id, or an image file (GeoTIFF)")
    parser.add_argument("--url", default=DEFAULT_URL, help="of the service that has the scene (default: %(default)s)")
    add_key_option(parser)
    parser.add_argument(
        "--model", help="name or digest of the service's model, or an ONNX file for an image (default: the service's)"
    )
    parser.add_argument(
        "--by", choices=get_args(Measure), default=DEFAULT_MEASURE, help="measure of doubt (default: %(default)s)"
    )
    parser.add_argument("--against", metavar="MODEL", help="the second model, for disagreement; written like --model")
    parser.add_argument(
        "--limit", type=_between(int, 1, MAX_LIMIT), default=DEFAULT_LIMIT, metavar="N",
        help="windows to name at most (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--window", type=int, metavar="PX",
        help="side of a window: a power of two, at most the model's block (default: the block)",
    )  # fmt: skip
    parser.add_argument(
        "--spread", type=_between(float, 0, 1000), default=DEFAULT_SPREAD, metavar="R",
        help="radius, in windows, within which chosen windows push others back; 0: plain ranking "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--min-mapped", type=_between(float, 0, 1), default=DEFAULT_MIN_MAPPED, metavar="SHARE",
        help="of a window that must be mapped (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--wait", type=_between(float, 0, 60), nargs="?", const=60.0, metavar="S",
        help="seconds the service may take to map missing blocks (default: 0, rank what is mapped; 60 if bare)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the GeoJSON there")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="write image, class map and confidence of each window there"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    console = Console(highlight=False)
    here = Path(arguments.scene).expanduser()
    if here.is_file():
        document = _review_file(here, arguments, console)
    elif here.suffix.lower() in _IMAGE_SUFFIXES or here.exists():
        raise InvalidRequest(f"There is no image file {here}; name a GeoTIFF, or the id of a scene of a service.")
    else:
        document = _review_service(arguments)
        if arguments.pictures:
            _fetch_pictures(document, _client(arguments), arguments.pictures, console)
    _print(document, console)
    if arguments.out:
        from landcover.atomic import atomic_path

        with atomic_path(arguments.out) as temporary:
            temporary.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
        console.print(f"wrote {arguments.out}")
    if arguments.pictures and document["features"]:
        console.print(f"wrote {len(document['features'])} pictures to {arguments.pictures}")
    return 0


def _review_file(path: Path, arguments: argparse.Namespace, console: Console) -> Document:
    """Map and rank an image here.

    Raises:
        InvalidRequest: --wait, which is about services.
    """
    if arguments.wait is not None:
        raise InvalidRequest(f"--wait is for scenes of a service; {path} is an image, which is mapped here altogether.")
    from rich.progress import Progress

    from landcover.catalog import demo_model_path
    from landcover_export.review_pictures import panels, picture_name, write_picture
    from landcover_export.review_scene import open_scene, review_scene

    file = open_scene(path, Path(arguments.model) if arguments.model else demo_model_path())
    request = ReviewRequest(
        by=arguments.by,
        window_px=file.grid.block_px if arguments.window is None else arguments.window,
        limit=arguments.limit,
        spread=arguments.spread,
        min_mapped=arguments.min_mapped,
    )
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"mapping {path.name}", total=None)
        reviewed = review_scene(
            file,
            request,
            against=Path(arguments.against) if arguments.against else None,
            on_block=lambda done, total: progress.update(task, completed=done, total=total),
        )
        document = reviewed.document
        if arguments.pictures:
            legend = file.model.contract.classes
            features = progress.track(document["features"], description="pictures")
            for feature, (window, _) in zip(features, reviewed.review.windows, strict=True):
                name = picture_name(feature["properties"])
                write_picture(arguments.pictures / name, panels(*reviewed.layers(window), legend))
    return document


def _review_service(arguments: argparse.Namespace) -> Document:
    query = {
        "by": arguments.by,
        "limit": arguments.limit,
        "spread": arguments.spread,
        "min_mapped": arguments.min_mapped,
        "wait": arguments.wait or 0,
        "window": arguments.window,
        "model": arguments.model,
        "against": arguments.against,
    }
    answer = _client(arguments).request(f"{scene_path(arguments.scene)}/landcover/review", query=query)
    document = answer.document()
    if "features" not in document or "blocks" not in document:
        raise foreign(answer.server)
    return document


def _client(arguments: argparse.Namespace) -> ServiceClient:
    return ServiceClient(
        url=arguments.url, advice=", or name an image file to map it here", api_key=api_key_of(arguments)
    )


def _fetch_pictures(document: Document, client: ServiceClient, folder: Path, console: Console) -> None:
    from PIL import Image
    from rich.progress import track

    from landcover_export.review_pictures import picture_name, write_picture

    for feature in track(document["features"], description="pictures", console=console, transient=True):
        links = feature["properties"]["links"]
        layers = (client.request(links[name]).content() for name in ("imagery", "classes", "confidence"))
        pictures = [Image.open(io.BytesIO(layer)) for layer in layers]
        write_picture(folder / picture_name(feature["properties"]), pictures)


def _print(document: Document, console: Console) -> None:
    from rich.table import Table

    table = Table(title_justify="left", title=f"{document['scene']} by {document['model']}: {document['measure']}")
    for name in ("rank", "doubt", "row px", "col px"):
        table.add_column(name, justify="right")
    for name in ("lat, lon", "mostly"):
        table.add_column(name)
    for feature in document["features"]:
        of = feature["properties"]
        west, south, east, north = feature["bbox"]
        frequent = of["classes"][0] if of["classes"] else None
        table.add_row(
            str(of["rank"]),
            f"{of['doubt']:.3f}",
            str(of["row_px"]),
            str(of["col_px"]),
            f"{(south + north) / 2:.5f}, {(west + east) / 2:.5f}",
            f"{frequent['share']:.0%} {frequent['name']}" if frequent else "",
        )
    if document["features"]:
        console.print(table)
    blocks, windows = document["blocks"], document["windows"]
    console.print(
        f"{windows['ranked']} of {windows['candidates']} windows of {document['window_px']} px; "
        f"{blocks['mapped']} of {blocks['total']} blocks are mapped."
    )
    if document["note"]:
        console.print(document["note"])


def _between(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise argparse.ArgumentTypeError(f"give {low} to {high}, not {text}")
        return value

    parse.__name__ = kind.__name__ if isinstance(kind, type) else "number"
    return parse
