"""Services whose catalogue entries come with this package, by short names such as `gsi:seamlessphoto`."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import yaml

from landcover.errors import InvalidConfiguration


def shipped_entry(name: str) -> dict[str, Any] | None:
    """The entry that `catalogue:id` names; None if there is no such catalogue.

    Raises:
        InvalidConfiguration: the catalogue has no entry of that id.
    """
    match = re.fullmatch(r"([a-z0-9-]+):([A-Za-z0-9][A-Za-z0-9._-]*)", name)
    if match is None:
        return None
    catalogue = files("landcover") / "catalogues" / f"{match[1]}.yaml"
    if not catalogue.is_file():
        return None
    entries: list[dict[str, Any]] = yaml.safe_load(catalogue.read_text(encoding="utf-8"))["scenes"]
    for entry in entries:
        if entry["id"] == match[2]:
            return entry
    known = ", ".join(f"{match[1]}:{entry['id']}" for entry in entries)
    raise InvalidConfiguration(f"{name}: there is no such service; there is {known}.")
