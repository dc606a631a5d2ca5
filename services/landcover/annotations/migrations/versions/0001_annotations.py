"""Annotations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table and its indices."""
    op.create_table(
        "annotations",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("scene", sa.String(128), nullable=False),
        sa.Column("scene_version", sa.String(128)),
        sa.Column("class_value", sa.Integer(), nullable=False),
        sa.Column("class_name", sa.String(100), nullable=False),
        sa.Column("class_color", sa.String(7), nullable=False),
        sa.Column("geometry", sa.LargeBinary(), nullable=False),
        sa.Column("west", sa.Double(), nullable=False),
        sa.Column("south", sa.Double(), nullable=False),
        sa.Column("east", sa.Double(), nullable=False),
        sa.Column("north", sa.Double(), nullable=False),
        sa.Column("author", sa.String(200)),
        sa.Column("note", sa.Text()),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    for column in ("scene", "class_value", "class_name", "author"):
        op.create_index(f"ix_annotations_{column}", "annotations", [column])
    op.create_index("ix_annotations_box", "annotations", ["west", "east", "south", "north"])
