"""A PostgreSQL server of its own for tests, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from landcover.local import end_with_parent, free_port


def find_binary(name: str) -> str | None:
    """On the PATH, or where Debian keeps it."""
    found = shutil.which(name)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(versions[-1]) if versions else None)


class PostgresServer:
    """A running server."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        # It refuses to run as root, so there it runs as nobody.
        nobody = pwd.getpwnam("nobody")
        as_nobody = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._identity: dict[str, Any] = as_nobody if os.getuid() == 0 else {}
        if self._identity:
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def initialize(self) -> None:
        """Make the files."""
        command = [str(find_binary("initdb")), "-D", f"{self._folder}/data", "-U", "landcover", "-A", "trust"]
        options = ["-E", "UTF8", "--locale", "C", "--no-sync"]
        subprocess.run([*command, *options], check=True, capture_output=True, cwd="/", **self._identity)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(str(find_binary("postgres")), "-D", f"{self._folder}/data", "-p", str(self._port)),
                *("-k", str(self._folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            preexec_fn=end_with_parent,  # noqa: PLW1509 - nothing of it takes a lock
            **self._identity,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self._url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, "PostgreSQL ended"
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://landcover@127.0.0.1:{self._port}/{database}"


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server in a folder that anybody may enter, as pytest's may not."""
    with tempfile.TemporaryDirectory(prefix="landcover-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder), free_port())
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop()
