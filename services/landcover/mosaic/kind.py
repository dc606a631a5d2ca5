"""What `landcover.kinds` asks of every kind of scene, for mosaics: a source with `mosaic` options is one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from landcover.errors import InvalidConfiguration
from landcover.mosaic.describing import describe, version
from landcover.mosaic.listing import LIST_MARK
from landcover.mosaic.stores import has_wildcard, is_remote
from landcover.mosaic.windows import MosaicWindows
from landcover.scene import SceneSource, scene_id
from landcover.settings import ReadSettings

__all__ = [
    "catalogue_entry",
    "describe",
    "entry_for",
    "is_mosaic",
    "recognises",
    "settled_mosaic",
    "version",
    "version_is_instant",
    "windows",
]

PREFIX = "mosaic:"
"""Before a location that is one scene, not many: `--scenes mosaic:tiles/`."""


def recognises(source: SceneSource) -> bool:
    """Whether the operator calls it a mosaic."""
    return source.mosaic is not None


def is_mosaic(location: str) -> bool:
    """Whether a word after `--scenes` names a mosaic."""
    return location.startswith(PREFIX)


def settled_mosaic(location: str) -> str:
    """The same word as a process in another folder needs it."""
    return f"{PREFIX}{_settled(location.removeprefix(PREFIX), Path())}"


def entry_for(location: str, *, folder: Path) -> dict[str, Any] | None:
    """`mosaic:FOLDER`, `mosaic:FILE.json` and their like; None without the prefix."""
    if not is_mosaic(location):
        return None
    where = location.removeprefix(PREFIX)
    if not where:
        raise InvalidConfiguration("mosaic: needs a folder, a pattern, a URL or a file that lists images after it.")
    return {"id": _id_from(where), "location": _existing(where, folder), "mosaic": {}}


def catalogue_entry(entry: dict[str, Any], catalogue: Path) -> dict[str, Any]:
    """A catalogue's entry with `mosaic:` as fields of `SceneSource`.

    `mosaic:` is where the images are, or a list of that, or a mapping with `images:` and `MosaicOptions`. A list
    stays in the catalogue, and the location says where.

    Raises:
        InvalidConfiguration: it does not say where the images are, or has a list and no id.
    """
    said = entry["mosaic"]
    options = dict(said) if isinstance(said, dict) else {"images": said}
    images = options.pop("images", None)
    if "location" in entry:
        raise InvalidConfiguration(f"{catalogue}: an entry has either `location:` or `mosaic:`, not both.")
    if isinstance(images, str) and images:
        where, name = _existing(images, catalogue.parent), _id_from(images)
    elif isinstance(images, list) and images and all(isinstance(each, str) and each for each in images):
        if not isinstance(entry.get("id"), str):
            raise InvalidConfiguration(f"{catalogue}: a mosaic of listed images needs an `id:`.")
        name = entry["id"]
        where = f"{catalogue.resolve()}{LIST_MARK}{name}"
    else:
        raise InvalidConfiguration(
            f"{catalogue}: `mosaic:` needs a folder, a pattern, a URL, a file that lists images, or a list of images; "
            "with options, under `images:`."
        )
    return {"id": name} | entry | {"location": where, "mosaic": options}


def version_is_instant(source: SceneSource) -> bool:
    """Never: every image has to be looked at."""
    return False


def windows(settings: ReadSettings) -> MosaicWindows:
    """The reader of windows."""
    return MosaicWindows(settings)


def _settled(where: str, folder: Path) -> str:
    return where if is_remote(where) else os.path.abspath(folder / Path(where).expanduser())  # noqa: PTH100 - no links


def _existing(where: str, folder: Path) -> str:
    location = _settled(where, folder)
    if not (is_remote(where) or has_wildcard(where) or Path(location).exists()):
        raise InvalidConfiguration(f"There is no file or folder {location}.")
    return location


def _id_from(where: str) -> str:
    """`tiles/*.tif` and `tiles/` are called tiles, `city.json` is city."""
    parts = [part for part in where.partition("?")[0].split("/") if part and not any(char in part for char in "*?[")]
    return scene_id(parts[-1] if parts else "mosaic")
