"""Where annotations are kept: a database behind a few verbs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import sqlalchemy as sa

from landcover.annotations.database import make_engine, reading, writing
from landcover.annotations.migration import migrate
from landcover.annotations.model import Annotation, now
from landcover.annotations.rows import Filter, annotation_of, row_of
from landcover.annotations.schema import ANNOTATIONS, CLASSES
from landcover.classes import LandCoverClass
from landcover.errors import AnnotationNotFound, Conflict, PreconditionFailed

_COLUMNS = ANNOTATIONS.c


EVERYTHING = Filter()

MAX_PAGE_BYTES = 8 << 20
"""Of the geometries of one page, 16 bytes a vertex."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of the annotations that a filter matches."""

    annotations: tuple[Annotation, ...]
    """In the order in which they were added."""
    matched: int
    """How many there are in all, counted at the same moment."""


class AnnotationStore:
    """Annotations in the database at `url`, SQLite or PostgreSQL. Safe to share by threads.

    Nothing is connected before the first call, and a database that was away is tried anew with each; the first that
    finds it brings its tables up to date. So every method may raise `DatabaseUnavailable`, or `InvalidConfiguration`
    for a database that is newer than this code.
    """

    def __init__(self, url: str) -> None:
        """Raise `InvalidConfiguration` for what is no URL of a supported database."""
        self._unmigrated = make_engine(url)
        self._migrated = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._unmigrated.dispose()

    @property
    def address(self) -> str:
        """The URL as people write it, its password hidden."""
        url = self._unmigrated.url
        return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)

    def migrate(self) -> tuple[str | None, str | None]:
        """Bring the tables up to date; their revision before and after."""
        revisions = migrate(self._unmigrated)
        self._migrated = True
        return revisions

    def check(self) -> None:
        """Raise what a call would raise."""
        with reading(self._engine()) as connection:
            connection.execute(sa.select(sa.literal(1)))

    def add(self, annotation: Annotation) -> None:
        """Store a new annotation.

        Raises:
            Conflict: its id is taken.
        """
        self.add_many([annotation])

    def add_many(self, annotations: Sequence[Annotation], new_classes: Iterable[LandCoverClass] = ()) -> None:
        """Store new annotations and the classes they bring, all of them or none.

        Raises:
            Conflict: an id is taken, or a class contradicts one that was stored meanwhile.
        """
        self.save(annotations, (), new_classes)

    def save(
        self,
        added: Sequence[Annotation],
        changed: Sequence[Annotation],
        new_classes: Iterable[LandCoverClass] = (),
    ) -> None:
        """Store new annotations, overwrite others whatever their revision, and store classes: all of it or nothing.

        Raises:
            Conflict: as `add_many`.
            AnnotationNotFound: one to be changed is not there.
        """
        with writing(self._engine()) as connection:
            for new in new_classes:
                _store_class(connection, new)
            if added:
                taken = _stored_ids(connection, [each.id for each in added])
                if taken or len({each.id for each in added}) < len(added):
                    named = f"'{sorted(taken)[0]}' is taken" if taken else "is given twice"
                    raise Conflict(f"The id {named}; leave it out to have one made, or PUT to /annotations/{{id}}.")
                connection.execute(sa.insert(ANNOTATIONS), [row_of(each) for each in added])
            for each in changed:
                _update(connection, each)

    def get(self, annotation_id: str) -> Annotation:
        """One annotation.

        Raises:
            AnnotationNotFound: there is none.
        """
        with reading(self._engine()) as connection:
            return _get(connection, annotation_id)

    def existing(self, ids: Sequence[str]) -> dict[str, Annotation]:
        """Those of `ids` that are there."""
        with reading(self._engine()) as connection:
            found = [
                row
                for chunk in _chunks(ids)
                for row in connection.execute(sa.select(ANNOTATIONS).where(_COLUMNS.id.in_(chunk)))
            ]
        return {row.id: annotation_of(row) for row in found}

    def replace(
        self,
        annotation: Annotation,
        *,
        expected_revision: int | None = None,
        new_classes: Iterable[LandCoverClass] = (),
    ) -> Annotation:
        """Store another state of the annotation with this id; gives it as stored, with its own time of creation.

        Raises:
            AnnotationNotFound: there is none.
            PreconditionFailed: its revision is not `expected_revision`.
            Conflict: a class contradicts one that was stored meanwhile.
        """
        with writing(self._engine()) as connection:
            _expect(connection, annotation.id, expected_revision)
            for new in new_classes:
                _store_class(connection, new)
            _update(connection, annotation)
            return _get(connection, annotation.id)

    def delete(self, annotation_id: str, *, expected_revision: int | None = None) -> None:
        """Remove an annotation.

        Raises:
            AnnotationNotFound: there is none.
            PreconditionFailed: its revision is not `expected_revision`.
        """
        with writing(self._engine()) as connection:
            _expect(connection, annotation_id, expected_revision)
            connection.execute(sa.delete(ANNOTATIONS).where(_COLUMNS.id == annotation_id))

    def page(self, wanted: Filter = EVERYTHING, *, limit: int, offset: int = 0) -> Page:
        """Up to `limit` of the annotations that match, after the first `offset`, oldest first.

        Fewer where they are so intricate that together they exceed `MAX_PAGE_BYTES`. What is added meanwhile comes
        last, so it moves nothing; what is deleted moves all that follows it.
        """
        clauses = wanted.clauses()
        counting = sa.select(sa.func.count()).select_from(ANNOTATIONS).where(*clauses)
        rows = sa.select(ANNOTATIONS).where(*clauses).order_by(_COLUMNS.number).limit(limit).offset(offset)
        found: list[Annotation] = []
        size = 0
        with reading(self._engine()) as connection:
            matched = connection.execute(counting).scalar_one()
            with connection.execute(rows.execution_options(yield_per=500)) as result:
                for row in result:
                    size += len(row.geometry)
                    if found and size > MAX_PAGE_BYTES:
                        break
                    found.append(annotation_of(row))
        return Page(annotations=tuple(found), matched=matched)

    def all(self, wanted: Filter = EVERYTHING) -> list[Annotation]:
        """Every annotation that matches, oldest first."""
        with reading(self._engine()) as connection:
            statement = sa.select(ANNOTATIONS).where(*wanted.clauses()).order_by(_COLUMNS.number)
            return [annotation_of(row) for row in connection.execute(statement)]

    def for_scene(self, scene_id: str) -> list[Annotation]:
        """Every annotation of one scene, oldest first."""
        return self.all(Filter(scene=scene_id))

    def scenes(self) -> list[str]:
        """Ids of the scenes that have annotations, sorted."""
        with reading(self._engine()) as connection:
            return sorted(connection.execute(sa.select(_COLUMNS.scene).distinct()).scalars())

    def counts(self) -> list[tuple[str, LandCoverClass, int]]:
        """How many annotations each scene has of each class, sorted."""
        kind = (_COLUMNS.scene, _COLUMNS.class_value, _COLUMNS.class_name)
        statement = sa.select(*kind, sa.func.min(_COLUMNS.class_color), sa.func.count()).group_by(*kind).order_by(*kind)
        with reading(self._engine()) as connection:
            rows = connection.execute(statement).all()
        return [
            (scene, LandCoverClass(value=v, name=name, color=color), count) for scene, v, name, color, count in rows
        ]

    def classes(self) -> tuple[LandCoverClass, ...]:
        """The classes that annotations brought along, by value."""
        with reading(self._engine()) as connection:
            rows = connection.execute(sa.select(CLASSES).order_by(CLASSES.c.value)).all()
        return tuple(LandCoverClass(value=row.value, name=row.name, color=row.color) for row in rows)

    def _engine(self) -> sa.Engine:
        if not self._migrated:
            with self._lock:
                if not self._migrated:
                    self.migrate()
        return self._unmigrated


def _get(connection: sa.Connection, annotation_id: str) -> Annotation:
    row = connection.execute(sa.select(ANNOTATIONS).where(_COLUMNS.id == annotation_id)).first()
    if row is None:
        raise AnnotationNotFound(f"There is no annotation '{annotation_id}'; GET /annotations lists them.")
    return annotation_of(row)


def _expect(connection: sa.Connection, annotation_id: str, revision: int | None) -> None:
    current = _get(connection, annotation_id)
    if revision is not None and revision != current.revision:
        raise PreconditionFailed(
            f"Annotation '{annotation_id}' has been changed since you read it; GET it again and repeat your change."
        )


def _update(connection: sa.Connection, annotation: Annotation) -> None:
    values = row_of(replace(annotation, updated=now())) | {"revision": _COLUMNS.revision + 1}
    del values["created"]
    done = connection.execute(sa.update(ANNOTATIONS).where(_COLUMNS.id == annotation.id).values(values))
    if done.rowcount == 0:
        raise AnnotationNotFound(f"There is no annotation '{annotation.id}' any more.")


def _store_class(connection: sa.Connection, each: LandCoverClass) -> None:
    clash = sa.or_(CLASSES.c.value == each.value, CLASSES.c.name == each.name)
    for row in connection.execute(sa.select(CLASSES).where(clash)):
        if (row.value, row.name) == (each.value, each.name):
            return
        raise Conflict(
            f"Class {row.value} '{row.name}' was added meanwhile; it contradicts {each.value} '{each.name}'."
        )
    connection.execute(sa.insert(CLASSES).values(value=each.value, name=each.name, color=each.color))


def _stored_ids(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    return {
        found
        for chunk in _chunks(ids)
        for found in connection.execute(sa.select(_COLUMNS.id).where(_COLUMNS.id.in_(chunk))).scalars()
    }


def _chunks(ids: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    """Databases limit the parameters of one statement."""
    return (ids[start : start + size] for start in range(0, len(ids), size))
