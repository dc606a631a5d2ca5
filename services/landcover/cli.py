"""The `landcover` command. Each package brings its own subcommands through entry points; this one adds its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from landcover import __version__
from landcover.commands import annotations as annotations_command
from landcover.commands import bench, keys, map_command, models, plan, queue, up
from landcover.errors import LandcoverError
from landcover.logs import configure_logging
from landcover.redaction import redact

_EXTRAS = {"landcover_api": "api", "landcover_worker": "worker", "landcover_export": "export"}
_EXTRAS_OF_COMMANDS = {
    "annotations": "api",
    "map": "api,worker,local",
    "plan": "api",
    "bench": "api,worker,local",
    "up": "local",
    "train": "export",
    "evaluate": "export",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a `LandcoverError` becomes one sentence and exit status 1."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        configure_logging()
        return int(arguments.run(arguments) or 0)
    except (LandcoverError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"landcover: {redact(str(said))}", file=sys.stderr)
        return 1
    except ValidationError as error:
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"]))
            print(redact(f"landcover: setting '{name}': {fault['msg']} (got {fault['input']!r})"), file=sys.stderr)
        return 2
    except SettingsError as error:
        print(redact(f"landcover: {error} ({error.__cause__}); write a list or an object as JSON."), file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"landcover: {_advice(arguments.command, error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser with every command of the installed packages."""
    parser = argparse.ArgumentParser(
        prog="landcover",
        description="Land cover from aerial imagery, on demand, as map tiles and statistics.",
        epilog="start with:\n  landcover up                       a demonstration at http://127.0.0.1:8000\n"
        "  landcover up --scenes ortho.tif    your own image\n  landcover COMMAND --help           everything else",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"landcover-tiles {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    up.add_parser(subparsers)
    map_command.add_parser(subparsers)
    plan.add_parser(subparsers)
    models.add_parser(subparsers)
    annotations_command.add_parser(subparsers)
    keys.add_parser(subparsers)
    bench.add_parser(subparsers)
    queue.add_parser(subparsers)
    for entry in sorted(entry_points(group="landcover.commands"), key=lambda each: each.name):
        _load(entry, subparsers)
    return parser


def _load(entry: Any, subparsers: Any) -> None:
    try:
        entry.load()(subparsers)
    except ModuleNotFoundError as error:
        advice = _advice(entry.name, error, package=entry.value.partition(".")[0])
        absent = subparsers.add_parser(entry.name, help=f"not installed: {advice}")
        absent.set_defaults(run=lambda _: print(f"landcover: {advice}", file=sys.stderr) or 1)


def _advice(command: str, error: ModuleNotFoundError, package: str = "") -> str:
    extra = _EXTRAS.get(package) or _EXTRAS_OF_COMMANDS.get(command, command)
    return (
        f"'{command}' needs the Python package '{error.name}': install landcover-tiles[{extra}], or run "
        "`make install-dev` in a clone."
    )
