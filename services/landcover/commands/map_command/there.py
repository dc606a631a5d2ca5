"""Having a running service map a scene, and fetching the files."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from landcover import local
from landcover.atomic import atomic_path
from landcover.commands.map_command.wanted import Wanted
from landcover.errors import InvalidRequest, LandcoverError, Unavailable
from landcover.products.destination import check_folder
from landcover.service_client import ServiceClient

if TYPE_CHECKING:
    from rich.console import Console

EXIT_STOPPED = 130
_LOOK_EVERY_S = 0.5
_PATIENCE_S = 60.0
"""How long a service may be away while its job is followed."""


def map_there(client: ServiceClient, scene: str, wanted: Wanted, model: str | None, console: Console) -> int:
    """Have `scene` mapped by the service that `client` asks; returns an exit status.

    Raises:
        LandcoverError: the service refuses, the job fails, or the files cannot be written.
    """
    if "://" in wanted.out:
        raise InvalidRequest("The files of a service's job are fetched to this machine; give --out a path.")
    out = Path(wanted.out).expanduser().resolve()
    check_folder(out.parent)
    document = {
        "type": "map",
        "scene": scene,
        "model": model,
        "bbox": wanted.bbox,
        "geometry": wanted.geometry,
        "crs": wanted.crs,
        "allow_missing": wanted.allow_missing,
        **wanted.outputs.model_dump(),
    }
    status = client.request("/jobs", method="POST", body=json.dumps(document).encode()).document()
    job = f"{client.url.rstrip('/')}/jobs/{status['id']}"
    with local.stop_signals() as asked_to_stop:
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        with bar:
            task = bar.add_task(str(status["message"]), total=None)
            while status["status"] in ("accepted", "running"):
                blocks = status["blocks"]
                bar.update(
                    task, description=str(status["message"]), completed=blocks["done"], total=blocks["total"] or None
                )
                time.sleep(_LOOK_EVERY_S)
                if asked_to_stop():
                    console.print(
                        f"the job goes on at the service; the same command follows it again, and "
                        f"`curl -X DELETE {job}` ends it",
                        soft_wrap=True,
                    )
                    return EXIT_STOPPED
                status = _look(client, job)
        if status["status"] != "successful":
            raise LandcoverError(str(status["message"]))
        _fetch_files(client, client.request(f"{job}/results").document(), out, console)
    return 0


def _look(client: ServiceClient, job: str) -> dict[str, Any]:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return client.request(job).document()
        except Unavailable:  # the job outlasts the service
            if time.monotonic() > until:
                raise
            time.sleep(1)


def _fetch_files(client: ServiceClient, result: dict[str, Any], out: Path, console: Console) -> None:
    files = result["files"]
    if not all(each["href"].startswith("http") for each in files):  # the service writes them to a store of its own
        for each in files:
            console.print(each["href"], soft_wrap=True, markup=False)
        return
    stem = next(each["name"] for each in files if each["role"] == "classes").removesuffix(".tif")
    names = {each["name"]: out.stem + each["name"].removeprefix(stem) for each in files}
    bar = Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console)
    with bar:
        for each in sorted(files, key=lambda each: each["role"] == "item"):  # the item last: it names the others
            path = out.with_name(names[each["name"]])
            task = bar.add_task(path.name, total=each["size_bytes"])
            with atomic_path(path) as temporary:
                client.download(each["href"], temporary, partial(bar.advance, task))
                if each["role"] == "item":
                    _rename_assets(temporary, names)
    for hole in result["holes"]:
        console.print(f"block {hole['row']}/{hole['col']} is missing: {hole['reason']}", soft_wrap=True, markup=False)
    for name in names.values():
        console.print(str(out.with_name(name)), soft_wrap=True, markup=False)


def _rename_assets(item: Path, names: dict[str, str]) -> None:
    """Have a STAC item name the files as they are called here."""
    document = json.loads(item.read_text(encoding="utf-8"))
    for asset in document.get("assets", {}).values():
        folder, slash, name = str(asset.get("href", "")).rpartition("/")
        asset["href"] = folder + slash + names.get(name, name)
    item.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
