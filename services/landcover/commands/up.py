"""`landcover up`: the whole service on this machine with nothing to configure."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from landcover import local
from landcover.catalog import SceneCatalog, expand_scenes, load_models, settled
from landcover.errors import InvalidConfiguration, LandcoverError
from landcover.scene import SceneSource, current_version, describe
from landcover.settings import CatalogSettings, ReadSettings

READY_TIMEOUT_S = 120.0
PRODUCTS_FOLDER = "products"
"""Of map jobs, in the state folder."""
DATABASE_FILE = "landcover.sqlite"
"""Of annotations, in the state folder; the default of LANDCOVER_DATABASE_URL names the same."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "up",
        help="run everything on this machine: broker, cache, workers, API and map page",
        description="Run everything on this machine: an embedded broker and cache, workers, the API and its map page.\n"
        "Ctrl-C stops it all. Without --scenes a drawn demonstration is served.",
        epilog="examples:\n  landcover up\n  landcover up --scenes ortho.tif https://example.org/cog.tif\n"
        "  landcover up --scenes images/ --models mine.onnx --port 9000\n"
        "  landcover up --scenes 'gsi:seamlessphoto#bbox=139.70,35.60,139.80,35.70'\n"
        "  landcover up --scenes 'https://example.org/{z}/{x}/{y}.jpg#zoom=18&bbox=8.50,47.35,8.60,47.40'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--scenes",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="GeoTIFFs, folders, URLs, XYZ services or YAML catalogues",
    )
    parser.add_argument(
        "--models", nargs="+", action="extend", default=[], metavar="PATH", help="ONNX files or folders of them"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default: %(default)s)")
    parser.add_argument("--demo", action="store_true", help="serve the drawn demonstration beside the --scenes")
    parser.add_argument("--verbose", action="store_true", help="show what worker and API do, not only troubles")
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(".landcover"),
        metavar="DIR",
        help="folder for annotations, the cache and the demonstration scene (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    console = Console(stderr=True, highlight=False)
    if arguments.workers < 1:
        raise InvalidConfiguration("--workers must be 1 or more.")
    local.check_port(arguments.host, arguments.port)
    catalog = CatalogSettings()
    models = tuple(arguments.models) or catalog.models
    load_models(catalog.model_copy(update={"models": models}))
    locations = tuple(arguments.scenes) or catalog.scenes
    with local.state_folder(arguments.state) as folder:
        if folder != arguments.state:
            console.print(f"{arguments.state} is in use by another: this one forgets its cache and queues at its end")
        with local.leaving_on_signals():
            scenes = _usable_scenes(locations, console)
            if arguments.demo or not locations:
                scenes = (*scenes, str(_demo_scene(arguments.state, console)))
        service = local.LocalService()
        with local.stop_signals() as stopping:
            try:
                return _serve(service, folder, scenes, models, arguments, console, stopping)
            finally:
                if service.children:
                    console.print("stopping …")
                service.stop()


def _serve(
    service: local.LocalService,
    folder: Path,
    scenes: tuple[str, ...],
    models: tuple[str, ...],
    arguments: argparse.Namespace,
    console: Console,
    stopping: Any,
) -> int:
    env = {
        "LANDCOVER_BROKER_URL": local.start_broker(service, folder),
        "LANDCOVER_CACHE_URL": local.start_cache(service, folder),
        "LANDCOVER_SCENES": json.dumps(scenes),
        "LANDCOVER_MODELS": json.dumps(models),
    }
    if "LANDCOVER_DATABASE_URL" not in os.environ:
        # Always in --state, whose cache another run may be using: annotations must outlive any run, and several
        # processes may share SQLite.
        env["LANDCOVER_DATABASE_URL"] = f"sqlite:///{arguments.state.resolve() / DATABASE_FILE}"
    if "LANDCOVER_PRODUCTS" not in os.environ:
        env["LANDCOVER_PRODUCTS"] = str(arguments.state.resolve() / PRODUCTS_FOLDER)
    if "LANDCOVER_LOG_LEVEL" not in os.environ:
        env["LANDCOVER_LOG_LEVEL"] = "INFO" if arguments.verbose else "WARNING"
    if "LANDCOVER_WORKER_CPU_THREADS" not in os.environ and arguments.workers > 1:
        env["LANDCOVER_WORKER_CPU_THREADS"] = str(max(1, (os.cpu_count() or 1) // arguments.workers))
    address = local.start_landcover(service, env, workers=arguments.workers, host=arguments.host, port=arguments.port)
    console.print("starting broker, cache, worker and API …")
    service.wait_until(lambda: stopping() or local.is_ready(address, workers=arguments.workers), READY_TIMEOUT_S)
    if not stopping():
        console.print(f"Land cover is served at [bold]{address}[/bold]", soft_wrap=True)
        console.print(f"API: {address}/docs · Ctrl-C stops", soft_wrap=True)
    while not stopping():
        service.restart_dead()
        time.sleep(0.2)
    return 0


def _usable_scenes(locations: tuple[str, ...], console: Console) -> tuple[str, ...]:
    """The locations that can be served: a named file must be fit, a folder's unfit files are left out aloud.

    Raises:
        LandcoverError: a named file is missing or unfit, or nothing is left.
    """
    read = ReadSettings()
    usable: list[str] = []
    sources: list[SceneSource] = []
    for location in locations:
        in_folder = Path(location).expanduser().is_dir()
        for source in expand_scenes(location):
            try:
                describe(source, current_version(source, read), read)
            except LandcoverError as error:
                if not in_folder:
                    raise
                console.print(f"left out: {error}")
                continue
            sources.append(source)
            if in_folder:
                usable.append(source.location)
        if not in_folder:
            usable.append(settled(location))
    SceneCatalog(sources, read)  # refuses two of one name
    if locations and not usable:
        raise InvalidConfiguration(f"No image in {shlex.join(locations)} can be served.")
    return tuple(usable)


def _demo_scene(state: Path, console: Console) -> Path:
    """A catalogue of the drawn scene, which is drawn if it is not there."""
    from landcover.demo import write_scene

    folder = state.resolve() / "demo"
    scene, catalogue = folder / "demo.tif", folder / "catalogue.yaml"
    if not scene.exists():
        console.print("drawing the demonstration scene (once) …")
        folder.mkdir(parents=True, exist_ok=True)
        scene = write_scene(folder)
    catalogue.write_text(
        "scenes:\n"
        f"  - location: {scene.name}\n"
        "    title: Drawn, not a real place\n"
        "    attribution: Drawn by landcover-tiles\n",
        encoding="utf-8",
    )
    return catalogue
