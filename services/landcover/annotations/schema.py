"""The tables, as the newest migration leaves them; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

METADATA = sa.MetaData()


class UtcTime(sa.TypeDecorator[datetime]):
    """A time in UTC: `timestamp with time zone` where there is one, else without a zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To the database."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """From the database: SQLite has no zones, PostgreSQL answers in that of its session."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


ANNOTATIONS = sa.Table(
    "annotations",
    METADATA,
    # The order of insertion, by which lists are paged. SQLite counts up by itself only in an INTEGER.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("revision", sa.Integer(), nullable=False),
    sa.Column("scene", sa.String(128), nullable=False, index=True),
    sa.Column("scene_version", sa.String(128)),
    sa.Column("class_value", sa.Integer(), nullable=False, index=True),
    sa.Column("class_name", sa.String(100), nullable=False, index=True),
    sa.Column("class_color", sa.String(7), nullable=False),
    sa.Column("geometry", sa.LargeBinary(), nullable=False),  # WKB, longitude and latitude
    sa.Column("west", sa.Double(), nullable=False),  # west > east: across the antimeridian
    sa.Column("south", sa.Double(), nullable=False),
    sa.Column("east", sa.Double(), nullable=False),
    sa.Column("north", sa.Double(), nullable=False),
    sa.Column("author", sa.String(200), index=True),
    sa.Column("note", sa.Text()),
    sa.Column("created", UtcTime(), nullable=False),
    sa.Column("updated", UtcTime(), nullable=False),
    sa.Index("ix_annotations_box", "west", "east", "south", "north"),
    sqlite_autoincrement=True,
)

# Classes that annotations brought along and that no served model had at that time.
CLASSES = sa.Table(
    "annotation_classes",
    METADATA,
    sa.Column("value", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("color", sa.String(7), nullable=False),
)
