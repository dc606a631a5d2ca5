"""Bringing a database to the tables that this code expects, under a lock, whoever opens it first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from landcover.annotations.database import reading, writing
from landcover.errors import InvalidConfiguration

VERSION_TABLE = "landcover_annotations_version"
"""A name of our own: the database may hold other programs' tables."""


def revision_of(engine: sa.Engine) -> str | None:
    """The database's revision; None for one that has none of our tables.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    with reading(engine) as connection:
        return _revision(connection)


def head() -> str:
    """The revision that this code expects."""
    found = _scripts().get_current_head()
    assert found is not None
    return found


def migrate(engine: sa.Engine, target: str = "head") -> tuple[str | None, str | None]:
    """Bring the database up to date; gives its revision before and after.

    Raises:
        InvalidConfiguration: the database is newer than this code.
        DatabaseUnavailable: it does not answer.
    """
    before = revision_of(engine)
    _refuse_newer(before)
    if before == head():
        return before, before
    with writing(engine) as connection:
        before = _revision(connection)  # somebody may have been faster
        _refuse_newer(before)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, target)
        return before, _revision(connection)


def _refuse_newer(revision: str | None) -> None:
    if revision is None or revision in {each.revision for each in _scripts().walk_revisions()}:
        return
    raise InvalidConfiguration(
        f"The database of annotations has revision '{revision}', which this version of landcover-tiles does not know "
        f"(its newest is '{head()}'): a newer version made it. Upgrade landcover-tiles, or name another database."
    )


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "landcover.annotations:migrations")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
