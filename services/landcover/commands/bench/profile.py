"""Where the processor's time goes in a process while it is measured: py-spy's samples, as a file and as a table.

The profiled round is one more, whose figures are not used: sampling costs the process something.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from landcover.errors import InvalidConfiguration

_SAMPLES_PER_S = 200
_ATTACH_S = 1.0
"""py-spy needs about so long to find the process's threads."""
_WRITE_S = 30.0
_ROWS = 12
_WAITING = frozenset({"wait", "poll", "select", "accept", "sleep", "_worker", "_watch", "get"})
"""Innermost functions of threads that have nothing to do. py-spy leaves such out where the system says which they are;
not all do."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The samples of one process in which a thread of it ran."""

    name: str
    file: Path
    """For https://www.speedscope.app."""
    shares: Mapping[str, float]
    """Of the samples, by the innermost Python function: what it calls in C counts as its own."""


@dataclass
class Profiler:
    """Records processes into `folder`; without one it does nothing."""

    folder: Path | None
    profiles: list[Profile] = field(default_factory=list)

    @property
    def on(self) -> bool:
        """Whether it records."""
        return self.folder is not None

    @contextmanager
    def recording(self, name: str, pid: int) -> Iterator[None]:
        """Sample process `pid` while the body runs.

        Raises:
            InvalidConfiguration: py-spy is not here, or may not look into the process.
        """
        if self.folder is None:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.speedscope.json"
        command = [_py_spy(), "record", "--pid", str(pid), "--rate", str(_SAMPLES_PER_S), "--format", "speedscope"]
        spy = subprocess.Popen(
            [*command, "--output", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours alone; it ends with the process that it looks into
        )
        try:
            time.sleep(_ATTACH_S)
            yield
        finally:
            spy.send_signal(signal.SIGINT)
            try:
                _, said = spy.communicate(timeout=_WRITE_S)
            except subprocess.TimeoutExpired:
                spy.kill()
                _, said = spy.communicate()
        if not path.exists():
            raise InvalidConfiguration(
                f"py-spy cannot look into the process ({said.decode(errors='replace').strip()[-200:]}); "
                "run this as root, or in a container with --cap-add SYS_PTRACE."
            )
        self.profiles.append(Profile(name=name, file=path, shares=shares(json.loads(path.read_text(encoding="utf-8")))))


def shares(speedscope: Mapping[str, Any]) -> dict[str, float]:
    """Of all samples the share of each innermost function, `package.module: function`, the largest first.

    What imports modules is left out, since a process does that once, and so is whoever waits.
    """
    frames: Sequence[Mapping[str, Any]] = speedscope["shared"]["frames"]
    importing = {number for number, frame in enumerate(frames) if frame["file"].startswith("<frozen importlib")}
    counted: Counter[str] = Counter()
    for thread in speedscope["profiles"]:
        counted.update(
            _called(frames[stack[-1]])
            for stack in thread["samples"]
            if stack and importing.isdisjoint(stack) and not _waits(frames[stack[-1]])
        )
    total = counted.total()
    return {name: count / total for name, count in counted.most_common()}


def table(profile: Profile) -> Table:
    """The groups that take most, the function that takes most of each, and what all others take together."""
    drawn = Table(f"profile of {profile.name}", "share", "most of it", box=None, pad_edge=False)
    drawn.columns[1].justify = "right"
    rows = groups(profile.shares)
    for each in rows[:_ROWS]:
        drawn.add_row(each.name, f"{each.share:.1%}", f"{each.most} {each.most_share:.1%}")
    if rest := rows[_ROWS:]:
        drawn.add_row(f"{len(rest)} others", f"{sum(each.share for each in rest):.1%}", "")
    return drawn


@dataclass(frozen=True, kw_only=True)
class Group:
    """One of our modules, or somebody else's package."""

    name: str
    share: float
    most: str
    """The function in it that takes most."""
    most_share: float


def groups(by_function: Mapping[str, float]) -> list[Group]:
    """Shares of functions summed by our module or others' package, the largest first."""
    members: dict[str, dict[str, float]] = {}
    for called, share in by_function.items():
        module, _, function = called.partition(": ")
        members.setdefault(module if module.startswith("landcover") else module.split(".")[0], {})[function] = share
    found = []
    for name, functions in members.items():
        most = max(functions, key=functions.__getitem__)
        found.append(Group(name=name, share=sum(functions.values()), most=most, most_share=functions[most]))
    return sorted(found, key=lambda group: -group.share)


def _called(frame: Mapping[str, Any]) -> str:
    """A frame's function as Python would name it: the module's path below where packages lie."""
    path = Path(frame["file"])
    homes = (sysconfig.get_path("purelib"), *sys.path, sysconfig.get_path("stdlib"))
    home = max((each for each in homes if each and path.is_relative_to(each)), key=len, default="")
    module = ".".join(path.relative_to(home).with_suffix("").parts) if home else path.stem
    return f"{module}: {frame['name']}"


def _waits(frame: Mapping[str, Any]) -> bool:
    return str(frame["name"]).rpartition(".")[2] in _WAITING


def _py_spy() -> str:
    path = Path(sysconfig.get_path("scripts")) / "py-spy"
    if not path.exists():
        raise InvalidConfiguration("--profile needs py-spy: `pip install py-spy`.")
    return str(path)
