"""Which scenes and models there are: from files, folders, URLs and YAML catalogues.

scenes:
  - id: chiba
    location: https://example.org/chiba.tif
    attribution: Chiba prefecture
  - location: ortho16.tif          # beside the catalogue; id from its name
    bands: [4, 3, 2]               # red, green, blue, counted from 1
    rescale: [0, 3000]             # values that become 0 and 255
  - id: tokyo
    location: https://example.org/{z}/{x}/{y}.jpg    # an XYZ service: `landcover.xyz.options` has all words
    xyz: {zoom: 18, bounds: [139.7, 35.6, 139.8, 35.7]}

docs/scenes.md explains them all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from landcover.contract import ModelFile, read_model
from landcover.errors import InvalidConfiguration, LandcoverError, ModelNotFound, SceneNotFound
from landcover.kinds import KINDS, kind_of
from landcover.mosaic.kind import catalogue_entry, is_mosaic, settled_mosaic
from landcover.scene import REMOTE_SCHEMES, Scene, SceneSource, current_version, describe, public_location, scene_id
from landcover.settings import CatalogSettings, ReadSettings

_IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".gtiff"})
_CATALOGUE_SUFFIXES = frozenset({".yaml", ".yml"})


def demo_model_path() -> Path:
    """The small trained model that is part of the package."""
    return Path(str(files("landcover"))) / "models" / "landcover-demo.onnx"


class SceneCatalog:
    """The scenes, by id. Safe to share by threads."""

    def __init__(self, sources: Iterable[SceneSource], read: ReadSettings, revalidate_s: float = 60.0) -> None:
        self._sources: dict[str, SceneSource] = {}
        for source in sources:
            if source.id in self._sources:
                raise InvalidConfiguration(
                    f"Two scenes are called '{source.id}': {_for_operator(self._sources[source.id])} and "
                    f"{_for_operator(source)}. Give them ids in a YAML catalogue."
                )
            self._sources[source.id] = source
        self._read = read
        self._revalidate_s = revalidate_s
        self._described: dict[str, tuple[Scene, float]] = {}
        self._failed: dict[str, tuple[LandcoverError, float]] = {}
        self._locks: dict[str, threading.Lock] = {scene: threading.Lock() for scene in self._sources}

    @property
    def sources(self) -> tuple[SceneSource, ...]:
        """Every scene, read or not."""
        return tuple(self._sources.values())

    def source(self, scene: str) -> SceneSource:
        """The catalogue's entry.

        Raises:
            SceneNotFound: there is none.
        """
        try:
            return self._sources[scene]
        except KeyError:
            raise SceneNotFound(f"There is no scene '{scene}'; GET /scenes lists them.") from None

    def glance(self, scene: str) -> tuple[Scene | None, bool]:
        """What is known of the scene without waiting for any server, and whether that is surely current.

        A local file costs a stat, and what is known of one that has changed counts as nothing. What is known of a
        remote one may be out of date.

        Raises:
            SceneNotFound: there is none.
            SceneUnreadable: a local file has gone.
        """
        source = self.source(scene)
        known, checked = self._described.get(scene, (None, 0.0))
        if known is None:
            return None, False
        if not kind_of(source).version_is_instant(source):
            return known, time.monotonic() - checked < self._revalidate_s
        return (known, True) if current_version(source, self._read) == known.version else (None, False)

    def forget(self, scene: str) -> None:
        """Look at the image anew when it is next asked for: somebody found it replaced."""
        self._described.pop(scene, None)

    def scene(self, scene: str) -> Scene:
        """The scene as it is now; may read its header.

        Raises:
            SceneNotFound, SceneUnreadable, SceneTooSlow, SceneUnsupported: as their names say.
        """
        known, fresh = self.glance(scene)
        if known and fresh:
            return known
        source = self.source(scene)
        asked = time.monotonic()
        with self._locks[scene]:  # one reader a scene, however many ask
            known, fresh = self.glance(scene)
            if known and fresh:
                return known
            error, failed = self._failed.get(scene, (None, 0.0))
            if error is not None and failed >= asked:  # found out for all who waited: a silent server costs one timeout
                raise type(error)(str(error))
            try:
                version = current_version(source, self._read)
                previous, _ = self._described.get(scene, (None, 0.0))
                same = previous is not None and previous.version == version
                current = previous if previous and same else describe(source, version, self._read)
            except LandcoverError as trouble:
                self._failed[scene] = trouble, time.monotonic()
                raise
            self._described[scene] = current, time.monotonic()
            return current


@dataclass(frozen=True)
class ModelCatalog:
    """The models, by digest, and which answers when none is named."""

    models: tuple[ModelFile, ...]
    default: ModelFile

    def model(self, name: str | None) -> ModelFile:
        """The model of that name or digest, or the default for None.

        Raises:
            ModelNotFound: there is none.
        """
        if name is None:
            return self.default
        for model in self.models:
            if name in (model.name, model.digest):
                return model
        raise ModelNotFound(f"There is no model '{name}'; GET /models lists them.")


def load_scenes(settings: CatalogSettings, read: ReadSettings) -> SceneCatalog:
    """The catalogue that `settings.scenes` describes; no image is opened yet.

    Raises:
        InvalidConfiguration: a location is missing, or a catalogue file is not one.
    """
    sources = [source for location in settings.scenes for source in expand_scenes(location)]
    return SceneCatalog(sources, read, settings.scene_revalidate_s)


def load_models(settings: CatalogSettings) -> ModelCatalog:
    """The models that `settings.models` names, each checked against its contract.

    Raises:
        InvalidConfiguration: a file is missing, or two models share a name.
        InvalidModel: a file does not keep its contract, or has another digest than the pinned one.
    """
    models: list[ModelFile] = []
    for location in settings.models or (str(demo_model_path()),):
        for path, digest in _expand_models(location):
            model = read_model(path, expected_digest=digest)
            if any(other.name == model.name and other.digest != model.digest for other in models):
                raise InvalidConfiguration(
                    f"Two models are called '{model.name}'; export one of them under another name."
                )
            if all(other.digest != model.digest for other in models):
                models.append(model)
    if not models:
        raise InvalidConfiguration(
            f"There is no .onnx file in {', '.join(settings.models)}; name one with LANDCOVER_MODELS or --models."
        )
    catalog = ModelCatalog(tuple(models), models[0])
    if settings.default_model is None:
        return catalog
    return ModelCatalog(catalog.models, catalog.model(settings.default_model))


def expand_scenes(location: str) -> Iterator[SceneSource]:
    """The scenes under one location: a file, a folder's images, a URL, or a catalogue's entries."""
    entry = _entry_by_kind(location, Path())
    if entry is not None:
        yield _checked(location.partition("?")[0], entry)
        return
    if urlsplit(location).scheme in REMOTE_SCHEMES:
        yield SceneSource(id=scene_id(urlsplit(location).path), location=location)
        return
    path = Path(location).expanduser()
    if path.is_dir():
        images = sorted(
            each
            for each in path.iterdir()
            if each.suffix.lower() in _IMAGE_SUFFIXES and not each.name.startswith(".")  # files being written
        )
        if not images:
            raise InvalidConfiguration(f"There is no GeoTIFF (.tif, .tiff) in the folder {path}.")
        for image in images:
            yield SceneSource(id=scene_id(image.name), location=str(image.resolve()))
    elif not path.exists():
        raise InvalidConfiguration(f"There is no file or folder {path}.")
    elif path.suffix.lower() in _CATALOGUE_SUFFIXES:
        yield from _read_catalogue(path)
    else:
        yield SceneSource(id=scene_id(path.name), location=str(path.resolve()))


def is_path(location: str) -> bool:
    """Whether `location` can only be a path: it is no URL and no word such as `gsi:seamlessphoto`."""
    return "://" not in location and _entry_by_kind(location, Path()) is None


def settled(location: str) -> str:
    """`location` as a process in another folder needs it: paths made absolute, all else as it is."""
    if is_path(location):
        return str(Path(location).expanduser().resolve())
    return settled_mosaic(location) if is_mosaic(location) else location


def _for_operator(source: SceneSource) -> str:
    return public_location(source) if source.is_remote else source.location


def _read_catalogue(path: Path) -> Iterator[SceneSource]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries: list[dict[str, Any]] = document["scenes"]
        for entry in entries:
            if "mosaic" in entry:
                yield _checked(str(path), catalogue_entry(entry, path))
                continue
            location = entry["location"]
            own = _entry_by_kind(location, path.parent)
            if own is None and urlsplit(location).scheme in REMOTE_SCHEMES:
                own = {"id": scene_id(urlsplit(location).path)}
            elif own is None:
                location = str((path.parent / Path(location).expanduser()).resolve())
                own = {"id": scene_id(Path(location).name)}
            yield _checked(
                str(path), {"location": location} | own | {k: v for k, v in entry.items() if k != "location"}
            )
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError, OSError) as error:
        raise InvalidConfiguration(
            f"{path} is no catalogue of scenes; it needs `scenes:` and under it entries with a `location:` ({error})."
        ) from error


def _entry_by_kind(location: str, folder: Path) -> dict[str, Any] | None:
    return next((entry for kind in KINDS if (entry := kind.entry_for(location, folder=folder)) is not None), None)


def _checked(where: str, entry: dict[str, Any]) -> SceneSource:
    try:
        return SceneSource.model_validate(entry)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "entry"
        raise InvalidConfiguration(f"{where}: {place}: {fault['msg']}.") from error


def _expand_models(location: str) -> Iterator[tuple[Path, str | None]]:
    name, _, digest = location.partition("@sha256:")
    path = Path(name).expanduser()
    if path.is_dir():
        if digest:
            raise InvalidConfiguration(f"{path} is a folder; a digest pins one file.")
        for file in sorted(path.glob("[!.]*.onnx")):
            yield file, None
    elif path.exists():
        yield path, f"sha256:{digest}" if digest else None
    else:
        raise InvalidConfiguration(f"There is no model file {path}.")
