"""How a database is reached: SQLite or PostgreSQL by URL, and what its errors become.

SQLite: a write-ahead log, so that readers never wait for a writer, and transactions that take the writer's lock at
their beginning, so that none fails in the middle for want of it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from landcover.errors import Conflict, DatabaseUnavailable, InvalidConfiguration

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30
"""How long a writer of SQLite waits for another."""

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 30
"""PostgreSQL's: a request must not hang on a server that is away."""

ADVISORY_LOCK = 0x6C616E64
"""PostgreSQL's lock under which migrations run and rows get their numbers (the letters "land")."""


def make_engine(url: str) -> sa.Engine:
    """An engine for `url`; nothing is connected yet.

    Raises:
        InvalidConfiguration: it is no URL of a database that is supported and installed.
    """
    try:
        address = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidConfiguration(
            "The database's URL is none; LANDCOVER_DATABASE_URL is such as sqlite:///landcover.sqlite or "
            "postgresql://user:password@host/database."
        ) from None
    backend = address.drivername.partition("+")[0]
    if backend == "sqlite":
        return _sqlite(address)
    if backend in ("postgresql", "postgres"):
        return _postgresql(address)
    raise InvalidConfiguration(f"A database of the kind '{backend}' is not supported; use sqlite:// or postgresql://.")


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that sees one state of the database.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    with _translated(engine), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that no other writer comes between, stored as a whole or not at all.

    One at a time on PostgreSQL too: rows then appear in the order of their numbers, so that a page which was read
    once stays what it was. People draw annotations; they do not wait for each other.

    Raises:
        DatabaseUnavailable: it does not answer; nothing was stored.
        Conflict: a row contradicts another; nothing was stored.
    """
    writer = engine.execution_options(landcover_writes=True)
    with _translated(engine), writer.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        yield connection


@contextlib.contextmanager
def _translated(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict("Somebody else stored the same id or class at the same time; look and try again.") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        logger.warning("the database of annotations: %s", error)
        raise DatabaseUnavailable(f"The database of annotations {_trouble(engine, error)}; try again later.") from error


def _trouble(engine: sa.Engine, error: Exception) -> str:
    """What is wrong, without a path or password: clients see it."""
    if engine.dialect.name != "sqlite":
        return "does not answer as it should"
    text = str(getattr(error, "orig", error)).lower()
    if "unable to open" in text:
        return "cannot be opened (its folder must exist and be writable)"
    if "readonly" in text:
        return "cannot be written to"
    if "not a database" in text or "malformed" in text:
        return "is damaged or no SQLite file"
    if "locked" in text:
        return "is locked by another program"
    return "is full" if "full" in text else "does not answer as it should"


def _sqlite(address: sa.URL) -> sa.Engine:
    if not address.database or ":memory:" in address.database:
        raise InvalidConfiguration(
            "An SQLite database in memory keeps nothing; name a file: sqlite:///landcover.sqlite."
        )
    file = Path(address.database).absolute()  # the same one wherever the process goes
    engine = sa.create_engine(
        address.set(drivername="sqlite+pysqlite", database=str(file)),
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
        pool_timeout=BUSY_TIMEOUT_S,
    )

    @event.listens_for(engine, "do_connect")
    def make_folder(*_: object) -> None:
        with contextlib.suppress(OSError):  # SQLite will say that it cannot open the file
            file.parent.mkdir(exist_ok=True)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("landcover_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(address: sa.URL) -> sa.Engine:
    options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S}
    if "options" not in address.query:
        options["options"] = f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000}"
    try:
        return sa.create_engine(
            address.set(drivername="postgresql+psycopg"),
            connect_args=options,
            pool_pre_ping=True,
            pool_timeout=CONNECT_TIMEOUT_S,
        )
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(
            f"PostgreSQL needs the Python package '{error.name}': install landcover-tiles[postgres]."
        ) from error
