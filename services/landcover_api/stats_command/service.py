"""Where the scene is: in a running service, or in a private one that lasts as long as the command."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from landcover import local
from landcover.api_keys import WITHOUT_KEYS
from landcover.catalog import demo_model_path, expand_scenes, is_path, load_models, settled
from landcover.contract import read_model
from landcover.errors import InvalidRequest, NotFound
from landcover.scene import SceneSource, current_version, describe
from landcover.service_client import DEFAULT_URL, ServiceClient, api_key_of, scene_path
from landcover.settings import CatalogSettings, ReadSettings

if TYPE_CHECKING:
    from rich.console import Console

_IMAGE_SUFFIXES = (".tif", ".tiff", ".gtiff")
_MODEL_SUFFIX = ".onnx"
_READY_TIMEOUT_S = 120.0
_SHOWN_SCENES = 10


@dataclass(frozen=True, kw_only=True)
class Found:
    """A service, and the names by which it knows what is asked for."""

    client: ServiceClient
    scene: str
    model: str | None
    against: str | None


@contextlib.contextmanager
def find_scene(arguments: argparse.Namespace, console: Console) -> Iterator[Found]:
    """The scene of the command in a service that is there while the body runs.

    Raises:
        InvalidRequest: options that do not fit together.
        NotFound: the running service has no such scene.
        LandcoverError: the image or the model cannot be used, or no service answers.
    """
    if is_image(arguments.scene):
        with _private_service(arguments, console) as found:
            yield found
        return
    client = ServiceClient(
        url=arguments.url or DEFAULT_URL,
        advice=", or name an image file to have it mapped here",
        api_key=api_key_of(arguments),
    )
    _check_scene(client, arguments.scene)
    yield Found(client=client, scene=arguments.scene, model=arguments.model, against=arguments.against)


def is_image(name: str) -> bool:
    """Whether a scene is named by its file or URL, not by its id."""
    return not is_path(name) or Path(name).suffix.lower() in _IMAGE_SUFFIXES or Path(name).expanduser().is_file()


def _check_scene(client: ServiceClient, scene: str) -> None:
    try:
        client.request(scene_path(scene)).document()
    except NotFound as error:
        listed = client.request("/scenes").document().get("scenes", [])
        names = ", ".join(str(each["id"]) for each in listed[:_SHOWN_SCENES])
        more = f" and {len(listed) - _SHOWN_SCENES} more" if len(listed) > _SHOWN_SCENES else ""
        if names:
            raise NotFound(f"There is no scene '{scene}' at {client.url}; it has {names}{more}.") from error
        raise


@contextlib.contextmanager
def _private_service(arguments: argparse.Namespace, console: Console) -> Iterator[Found]:
    if arguments.url is not None:
        raise InvalidRequest(f"--url is for the scenes of a service; {arguments.scene} is an image, mapped here.")
    locations = [arguments.scene]
    models = [_model_path(arguments.model)]
    against = arguments.against
    if against is not None and against.lower().endswith(_MODEL_SUFFIX):
        models.append(_model_path(against))
        against = f"model:{read_model(models[-1]).digest}"
    elif against is not None:
        locations.append(against)
        against = f"scene:{_source(against).id}"
    scene = _source(arguments.scene).id
    if against == f"scene:{scene}":
        raise InvalidRequest(
            f"Both images are called '{scene}'; serve them with `landcover up` and ids in a YAML catalogue, or "
            "rename one."
        )
    model = read_model(models[0]).digest
    catalog = CatalogSettings(models=tuple(str(each.resolve()) for each in models), default_model=model)
    load_models(catalog)
    with _stopped_like_ctrl_c(), local.state_folder(arguments.state) as folder:
        service = local.LocalService()
        try:
            console.print(f"starting a private service for {scene} …")
            address = _start(service, folder, arguments.state, locations, catalog)
            yield Found(client=ServiceClient(url=address), scene=scene, model=model, against=against)
        finally:
            service.stop()


def _start(
    service: local.LocalService, folder: Path, state: Path, locations: list[str], catalog: CatalogSettings
) -> str:
    from landcover.commands.up import DATABASE_FILE

    env = {
        **WITHOUT_KEYS,
        "LANDCOVER_BROKER_URL": local.start_broker(service, folder),
        "LANDCOVER_CACHE_URL": local.start_cache(service, folder),
        "LANDCOVER_SCENES": json.dumps([settled(each) for each in locations]),
        "LANDCOVER_MODELS": json.dumps(catalog.models),
        "LANDCOVER_DEFAULT_MODEL": str(catalog.default_model),
        "LANDCOVER_DATABASE_URL": f"sqlite:///{state.resolve() / DATABASE_FILE}",
        "LANDCOVER_LOG_LEVEL": os.environ.get("LANDCOVER_LOG_LEVEL", "WARNING"),
    }
    address = local.start_landcover(service, env, port=local.free_port())
    service.wait_until(lambda: local.is_ready(address), _READY_TIMEOUT_S)
    return address


def _source(location: str) -> SceneSource:
    """The image at `location`, opened once so that an unfit one is refused before anything starts."""
    found = list(expand_scenes(location))
    if len(found) != 1:
        raise InvalidRequest(f"{location} is {len(found)} scenes; name one image.")
    read = ReadSettings()
    describe(found[0], current_version(found[0], read), read)
    return found[0]


def _model_path(name: str | None) -> Path:
    if name is None:
        return demo_model_path()
    path = Path(name).expanduser()
    if not path.is_file():
        raise InvalidRequest(f"There is no model file {path}; for an image, --model and --against name files.")
    return path


@contextlib.contextmanager
def _stopped_like_ctrl_c() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the body as Ctrl-C does: with everything put away."""
    kinds = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(kind, signal.default_int_handler) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
