"""Annotations as GeoJSON features, and features as annotations: every property is checked here."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import shapely

from landcover.annotations.geometry import Area, check_geometry, check_inside, read_geometry, to_wgs84
from landcover.annotations.model import Annotation, new_id, now
from landcover.annotations.vocabulary import ClassTable, shown
from landcover.classes import LandCoverClass
from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84
from landcover.scene import Scene

MAX_AUTHOR = 200
MAX_NOTE = 5000
MAX_SCENE = 128
MAX_VERSION = 128
"""Longest texts, in characters."""


@dataclass(kw_only=True)
class Reading:
    """What is known while the features of one request or file are read."""

    classes: ClassTable
    scene_of: Callable[[str], Scene] | None = None
    """Finds a scene, or raises `LandcoverError`. None: geometries are not checked against their scenes."""
    default_scene: str | None = None
    """Of features that name none."""
    crs: str = WGS84
    """Of the geometries."""
    file_brings_classes: bool = False
    """Whether `class_name` and `class_color` of an unknown class make it a new one, as `new_class` does."""
    brought: list[LandCoverClass] = field(default_factory=list)
    """The classes that were not known before."""

    def annotation(self, feature: Mapping[str, Any], geometry: Area | None = None) -> Annotation:
        """A GeoJSON feature as an annotation; a class that it brings is known to the next feature.

        Args:
            feature: with `properties`: `class`, `scene`, and optional `new_class`, `author`, `note`,
                `scene_version`.
            geometry: in place of the feature's own.

        Raises:
            InvalidRequest: something of it cannot be; a fragment of a sentence, to be put after "Feature 3: ".
            LandcoverError: the scene's image cannot be read.
        """
        if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
            raise InvalidRequest("is no GeoJSON Feature.")
        properties = feature.get("properties")
        if not isinstance(properties, Mapping):
            raise InvalidRequest('has no properties; it needs at least {"scene": …, "class": …}.')
        found = read_geometry(feature.get("geometry")) if geometry is None else geometry
        area = to_wgs84(found, self.crs)
        check_geometry(area)
        scene_id = _text(properties, "scene", MAX_SCENE) or self.default_scene
        if scene_id is None:
            raise InvalidRequest("scene is missing; name the scene that was annotated.")
        version = _text(properties, "scene_version", MAX_VERSION)
        if self.scene_of is not None:
            scene = self.scene_of(scene_id)
            check_inside(area, scene)
            version = version or scene.version
        kind = self._class(properties)
        created = _time(properties.get("created")) or now()
        return Annotation(
            id=_identifier(feature),
            scene=scene_id,
            scene_version=version,
            class_value=kind.value,
            class_name=kind.name,
            class_color=kind.color,
            geometry=area,
            author=_text(properties, "author", MAX_AUTHOR),
            note=_text(properties, "note", MAX_NOTE),
            created=created,
            updated=_time(properties.get("updated")) or created,
        )

    def _class(self, properties: Mapping[str, Any]) -> LandCoverClass:
        given, name = properties.get("class"), properties.get("class_name")
        if _absent(given):
            raise InvalidRequest(f"class is missing; known are {self.classes.listing()}.")
        new_class = properties.get("new_class")
        color = properties.get("class_color")
        if new_class is None and self.file_brings_classes and name and color and not self.classes.knows(given, name):
            new_class = {"name": name, "color": color}
        if new_class is None:
            return self.classes.resolve(given, name)
        brought = self.classes.admit(given, new_class)
        if brought not in self.classes.classes:
            self.classes = ClassTable.of(self.classes.classes, [brought])
            self.brought.append(brought)
        return brought


def feature_of(annotation: Annotation) -> dict[str, Any]:
    """An annotation as a GeoJSON feature, coordinates in full precision."""
    return {
        "type": "Feature",
        "id": annotation.id,
        "geometry": geometry_document(annotation.geometry),
        "properties": properties_of(annotation),
    }


def properties_of(annotation: Annotation) -> dict[str, Any]:
    """Everything but geometry and id, in the order in which tables show it."""
    return {
        "scene": annotation.scene,
        "class": annotation.class_value,
        "class_name": annotation.class_name,
        "class_color": annotation.class_color,
        "author": annotation.author,
        "note": annotation.note,
        "scene_version": annotation.scene_version,
        "created": as_text(annotation.created),
        "updated": as_text(annotation.updated),
    }


def geometry_document(geometry: Area) -> dict[str, Any]:
    """A GeoJSON geometry."""
    document: dict[str, Any] = shapely.geometry.mapping(geometry)
    return document


def as_text(when: datetime) -> str:
    """RFC 3339 in UTC."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def checked_text(text: object, name: str, longest: int) -> str | None:
    """Text that any database takes, without blanks around; None if there is none.

    Raises:
        InvalidRequest: it is no text, too long, or holds what no database takes.
    """
    if _absent(text):
        return None
    if not isinstance(text, str):
        raise InvalidRequest(f"{name} must be text (got {shown(text)}).")
    if len(text) > longest:
        raise InvalidRequest(f"{name} has {len(text)} characters; at most {longest} are kept.")
    if any((ord(each) < 32 and each not in "\t\n\r") or 0xD800 <= ord(each) <= 0xDFFF for each in text):
        raise InvalidRequest(f"{name} holds control characters; remove them.")
    return text.strip() or None


def _text(properties: Mapping[str, Any], name: str, longest: int) -> str | None:
    return checked_text(properties.get(name), name, longest)


def _absent(value: object) -> bool:
    """JSON's null, or what a table has for it."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _identifier(feature: Mapping[str, Any]) -> str:
    given = feature.get("id")
    if _absent(given):
        return new_id()
    try:
        return str(uuid.UUID(str(given)))
    except ValueError:
        raise InvalidRequest(f"id {shown(given)} is no UUID; leave it out to have one made.") from None


def _time(text: object) -> datetime | None:
    """A time that a file brought along; None where it has none that can be read, since it only informs."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
