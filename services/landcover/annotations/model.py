"""What an annotation is."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shapely import MultiPolygon, Polygon

from landcover.classes import LandCoverClass


def new_id() -> str:
    """A fresh identifier: a random UUID."""
    return str(uuid.uuid4())


def now() -> datetime:
    """The present, in UTC and whole microseconds, which both databases keep."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One polygon that a person gave a class. Made by `features.annotation_of`, which checks all of it."""

    scene: str
    """The scene's id in the catalogue."""
    class_value: int
    """The pixel value in a class map, 1..254."""
    class_name: str
    class_color: str
    """`#rrggbb`."""
    geometry: Polygon | MultiPolygon
    """WGS 84, x = longitude, y = latitude, degrees; two-dimensional and valid."""
    scene_version: str | None = None
    """The version of the image that the annotator saw; None where a file does not say."""
    author: str | None = None
    note: str | None = None
    id: str = field(default_factory=new_id)
    """A UUID, for life."""
    created: datetime = field(default_factory=now)
    """UTC."""
    updated: datetime = field(default_factory=now)
    """UTC."""
    revision: int = 1
    """Counts the changes; part of the ETag."""

    @property
    def land_cover_class(self) -> LandCoverClass:
        """The class as contracts have it."""
        return LandCoverClass(value=self.class_value, name=self.class_name, color=self.class_color)

    def same_content(self, other: Annotation, *, tolerance_deg: float = 1e-9) -> bool:
        """Whether both say the same, whenever and as whatever id.

        A file in another CRS gives coordinates back with errors far below a nanodegree (0.1 mm).
        """
        return (
            self.scene == other.scene
            and self.land_cover_class == other.land_cover_class
            and self.author == other.author
            and self.note == other.note
            and self.scene_version == other.scene_version
            and self.geometry.equals_exact(other.geometry, tolerance_deg)
        )
