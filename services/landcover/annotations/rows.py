"""Annotations as rows of the database, and filters as SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import shapely
import sqlalchemy as sa

from landcover.annotations.geometry import envelope
from landcover.annotations.model import Annotation
from landcover.annotations.schema import ANNOTATIONS

_COLUMNS = ANNOTATIONS.c


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which annotations are meant; None does not limit."""

    scene: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; west > east goes across the antimeridian. Envelopes are compared."""
    kind: int | str | None = None
    """A class's value or name."""
    author: str | None = None

    def clauses(self) -> list[sa.ColumnElement[bool]]:
        """The same in SQL."""
        found: list[sa.ColumnElement[bool]] = []
        if self.scene is not None:
            found.append(_COLUMNS.scene == self.scene)
        if self.bbox is not None:
            found.append(overlaps(self.bbox))
        if self.kind is not None:
            found.append((_COLUMNS.class_value if isinstance(self.kind, int) else _COLUMNS.class_name) == self.kind)
        if self.author is not None:
            found.append(_COLUMNS.author == self.author)
        return found


def overlaps(bbox: tuple[float, float, float, float]) -> sa.ColumnElement[bool]:
    """Rows whose envelope meets `bbox` (west, south, east, north; west > east: across the antimeridian)."""
    west, south, east, north = bbox
    reaches_in = [_COLUMNS.west <= east, _COLUMNS.east >= west]
    wraps = _COLUMNS.west > _COLUMNS.east
    if west <= east:
        meets = sa.or_(sa.and_(*reaches_in), sa.and_(wraps, sa.or_(*reaches_in)))
    else:
        meets = sa.or_(wraps, *reaches_in)
    return sa.and_(meets, _COLUMNS.south <= north, _COLUMNS.north >= south)


def row_of(annotation: Annotation) -> dict[str, Any]:
    """The columns of an annotation; its number is the database's."""
    west, south, east, north = envelope(annotation.geometry)
    return {
        "id": annotation.id,
        "revision": annotation.revision,
        "scene": annotation.scene,
        "scene_version": annotation.scene_version,
        "class_value": annotation.class_value,
        "class_name": annotation.class_name,
        "class_color": annotation.class_color,
        "geometry": shapely.to_wkb(annotation.geometry),
        "west": west,
        "south": south,
        "east": east,
        "north": north,
        "author": annotation.author,
        "note": annotation.note,
        "created": annotation.created,
        "updated": annotation.updated,
    }


def annotation_of(row: sa.Row[Any]) -> Annotation:
    """The annotation in a row."""
    return Annotation(
        id=row.id,
        revision=row.revision,
        scene=row.scene,
        scene_version=row.scene_version,
        class_value=row.class_value,
        class_name=row.class_name,
        class_color=row.class_color,
        geometry=shapely.from_wkb(bytes(row.geometry)),
        author=row.author,
        note=row.note,
        created=row.created,
        updated=row.updated,
    )
