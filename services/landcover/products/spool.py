"""Blocks kept for a product while it grows: a database beside it, which survives whoever dies.

The cache may drop a finished block at any time; what is here is never inferred again. SQLite's journal makes every
batch of blocks be there as a whole or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from landcover import block
from landcover.errors import Conflict, DestinationUnwritable
from landcover.grid import BlockIndex

FORMAT = "2"
BUSY_S = 5.0

FIELDS = (block.field("class", 0), block.field("confidence", 0))
"""What is kept of a block; overviews and areas of the product are made anew, for its own outline."""


class Spool:
    """The finished blocks of one product. For one thread; close it, or use it as a context."""

    def __init__(self, path: Path, identity: str) -> None:
        """Open the spool at `path`, or begin one.

        Args:
            path: the database file.
            identity: names scene, version, model and whatever else makes a block what it is.

        Raises:
            Conflict: the file holds blocks of another identity.
            DestinationUnwritable: it cannot be written, or is no spool.
        """
        self.path = path
        self._identity = identity
        with self._trouble():
            self._database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go; it stays."""
        self._database.close()

    def put(self, blocks: Iterable[tuple[BlockIndex, Mapping[str, bytes]]]) -> None:
        """Keep finished blocks, all of them or none; a block that failed before has not, after all.

        Raises:
            DestinationUnwritable: the disk is full, or the file has gone.
        """
        names = ", ".join(f'"{name}"' for name in FIELDS)
        places = ", ".join("?" * (2 + len(FIELDS)))
        insert = f'INSERT OR REPLACE INTO block ("row", "col", {names}) VALUES ({places})'
        with self._transaction():
            for index, fields in blocks:
                values = (index.row, index.col, *(fields[name] for name in FIELDS))
                self._database.execute(insert, values)
                self._database.execute('DELETE FROM failure WHERE "row" = ? AND "col" = ?', (index.row, index.col))

    def fail(self, index: BlockIndex, reason: str) -> None:
        """Note why a block cannot be had."""
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO failure VALUES (?, ?, ?)", (index.row, index.col, reason))

    def forget_failures(self) -> None:
        """Let every block that failed be tried again."""
        with self._transaction():
            self._database.execute("DELETE FROM failure")

    def failures(self) -> dict[BlockIndex, str]:
        """The blocks that cannot be had, and why."""
        with self._trouble():
            rows = self._database.execute('SELECT "row", "col", reason FROM failure ORDER BY "row", "col"').fetchall()
        return {BlockIndex(row, col): reason for row, col, reason in rows}

    def count(self) -> int:
        """How many blocks are kept."""
        with self._trouble():
            return int(self._database.execute("SELECT count(*) FROM block").fetchone()[0])

    def cols_of_row(self, row: int) -> set[int]:
        """The columns of the blocks of one row that are kept."""
        with self._trouble():
            found = self._database.execute('SELECT "col" FROM block WHERE "row" = ?', (row,)).fetchall()
        return {col for (col,) in found}

    def row(self, row: int, fields: Sequence[str]) -> Iterator[tuple[BlockIndex, tuple[bytes, ...]]]:
        """Fields of the blocks of one row, from left to right."""
        names = ", ".join(f'"{name}"' for name in fields)
        with self._trouble():
            found = self._database.execute(f'SELECT "col", {names} FROM block WHERE "row" = ? ORDER BY "col"', (row,))
            for col, *values in found:
                yield BlockIndex(row, col), tuple(values)

    def get(self, index: BlockIndex, fields: Sequence[str]) -> tuple[bytes, ...] | None:
        """Fields of one block; None if it is not kept."""
        names = ", ".join(f'"{name}"' for name in fields)
        with self._trouble():
            found = self._database.execute(
                f'SELECT {names} FROM block WHERE "row" = ? AND "col" = ?', (index.row, index.col)
            ).fetchone()
        return found if found is None else tuple(found)

    def _prepare(self) -> None:
        columns = ", ".join(f'"{name}" BLOB NOT NULL' for name in FIELDS)
        with self._transaction():
            self._database.execute("CREATE TABLE IF NOT EXISTS spool (format TEXT, identity TEXT)")
            self._database.execute(
                f'CREATE TABLE IF NOT EXISTS block ("row" INTEGER, "col" INTEGER, {columns}, UNIQUE ("row", "col"))'
            )
            self._database.execute(
                'CREATE TABLE IF NOT EXISTS failure ("row" INTEGER, "col" INTEGER, reason TEXT, '
                'PRIMARY KEY ("row", "col"))'
            )
            found = self._database.execute("SELECT format, identity FROM spool").fetchone()
            if found is None:
                self._database.execute("INSERT INTO spool VALUES (?, ?)", (FORMAT, self._identity))
        if found is not None and found != (FORMAT, self._identity):
            raise Conflict(
                f"{self.path} holds what was mapped of another image, model or area, or by another version of this "
                "program; delete it to begin anew, or give another --out."
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._trouble():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._database.in_transaction:  # a full disk has ended it already
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DestinationUnwritable(
                f"{self.path} cannot be written ({error}); what is in it already is kept. Make room, or see to the "
                "folder's permissions, and try again: it goes on from there."
            ) from error


def remove_spool(path: Path) -> None:
    """Delete a spool that is closed: the product is whole."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
