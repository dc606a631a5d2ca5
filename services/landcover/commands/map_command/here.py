"""Mapping an image on this machine: a broker, a cache and workers as long as the command lasts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from landcover import local
from landcover.catalog import demo_model_path, expand_scenes
from landcover.commands.map_command.wanted import Wanted
from landcover.connections import connect
from landcover.contract import ModelFile, read_model
from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84
from landcover.mapping.request import MapRequest, plan
from landcover.mapping.run import MapRun
from landcover.mapping.run import Progress as RunProgress
from landcover.products.destination import check_folder
from landcover.products.spec import ProductSpec
from landcover.products.spool import remove_spool
from landcover.queue import make_celery
from landcover.scene import REMOTE_SCHEMES, Scene, current_version, describe
from landcover.settings import ReadSettings

if TYPE_CHECKING:
    from rich.console import Console

EXIT_STOPPED = 130
_IMAGE_SUFFIXES = (".tif", ".tiff", ".gtiff", ".yaml", ".yml")


class _Stopped(Exception):
    """Ctrl-C, or the like."""


def is_image(name: str) -> bool:
    """Whether a scene is named by its file or URL, not by its id."""
    path = Path(name)
    remote = urlsplit(name).scheme in REMOTE_SCHEMES
    return remote or ":" in name or path.suffix.lower() in _IMAGE_SUFFIXES or path.expanduser().exists()


def map_here(
    location: str, wanted: Wanted, model_name: str | None, *, workers: int, state: Path, console: Console
) -> int:
    """Map the image at `location`; returns an exit status.

    Raises:
        LandcoverError: the image, the model, the area or the destination cannot be used, or blocks cannot be had.
    """
    scene, model = _scene(location), _model(model_name)
    request = MapRequest(
        scene=scene.id,
        model=model.digest,
        bbox=wanted.bbox,
        geometry=wanted.geometry,
        crs=wanted.crs or WGS84,
        outputs=wanted.outputs,
        allow_missing=wanted.allow_missing,
    )
    spec = plan(request, scene, model)
    spool = _spool_path(wanted.out, state)
    check_folder(spool.parent)
    with local.state_folder(state) as folder, local.stop_signals() as asked_to_stop:
        service = local.LocalService()
        try:
            console.print(f"starting workers for {scene.id} …")
            broker_url, cache_url = _start(service, folder, model, workers)
            _run(spec, wanted, spool, (broker_url, cache_url), service, asked_to_stop, console)
        except _Stopped:
            console.print(f"stopped; the same command goes on where it was ({spool} keeps what is mapped)")
            return EXIT_STOPPED
        finally:
            service.stop()
    remove_spool(spool)
    return 0


def _run(
    spec: ProductSpec,
    wanted: Wanted,
    spool: Path,
    urls: tuple[str, str],
    service: local.LocalService,
    asked_to_stop: Callable[[], bool],
    console: Console,
) -> None:
    broker_url, cache_url = urls
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("mapping blocks", total=None, note="")

        def check() -> None:
            if asked_to_stop():
                raise _Stopped
            service.restart_dead()
            _show(bar, task, run.progress)

        run = MapRun(
            spec,
            cache=connect(cache_url),
            broker=connect(broker_url),
            celery=make_celery(broker_url),
            spool=spool,
            read=ReadSettings(),
            check=check,
        )
        files = run.run(wanted.out, wanted.outputs, allow_missing=wanted.allow_missing)
        _show(bar, task, run.progress)
    for index, reason in run.progress.failures.items():
        console.print(f"block {index.row}/{index.col} is missing: {reason}", soft_wrap=True, markup=False)
    for each in files:
        console.print(f"{each.location} ({each.size_bytes / 1e6:.1f} MB)", soft_wrap=True, markup=False)


def _show(bar: Progress, task: object, progress: RunProgress) -> None:
    if progress.stage == "mapping":
        bar.update(task, total=progress.total or None, completed=progress.done, note=progress.trouble or "")  # type: ignore[arg-type]
    else:
        bar.update(task, description=progress.stage, total=100, completed=round(100 * progress.stage_share), note="%")  # type: ignore[arg-type]


def _start(service: local.LocalService, folder: Path, model: ModelFile, workers: int) -> tuple[str, str]:
    broker_url, cache_url = local.start_broker(service, folder), local.start_cache(service, folder)
    env = {
        "LANDCOVER_BROKER_URL": broker_url,
        "LANDCOVER_CACHE_URL": cache_url,
        "LANDCOVER_MODELS": json.dumps([str(model.path.resolve())]),
        "LANDCOVER_DEFAULT_MODEL": model.digest,
        "LANDCOVER_LOG_LEVEL": os.environ.get("LANDCOVER_LOG_LEVEL", "WARNING"),
    }
    if workers > 1:
        env.setdefault("LANDCOVER_WORKER_CPU_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    for number in range(workers):
        service.add(f"worker {number + 1}", local.landcover_command("worker"), env)
    return broker_url, cache_url


def _scene(location: str) -> Scene:
    sources = list(expand_scenes(location))
    if len(sources) != 1:
        names = ", ".join(source.id for source in sources[:10])
        raise InvalidRequest(f"{location} is {len(sources)} scenes ({names}); name one image.")
    read = ReadSettings()
    return describe(sources[0], current_version(sources[0], read), read)


def _model(name: str | None) -> ModelFile:
    path = demo_model_path() if name is None else Path(name).expanduser()
    if not path.is_file():
        raise InvalidRequest(f"There is no model file {path}; for an image, --model names an ONNX file.")
    return read_model(path)


def _spool_path(out: str, state: Path) -> Path:
    if "://" in out:
        return state / "maps" / f"{out.rpartition('://')[2].replace('/', '_')}.part"
    path = Path(out).expanduser().resolve()
    return path.with_name(f"{path.name}.part")
