"""`landcover keys create|hash`."""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import Any, get_args

from landcover.api_keys import ApiKey, Role, keep, new_key


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "keys",
        help="make API keys for a service's clients",
        description="Make API keys. A client has the key; the service is given only the line with its hash, as a word\n"
        "of LANDCOVER_API_KEYS or a line of LANDCOVER_API_KEYS_FILE. That line alone goes to standard output.",
        epilog="examples:\n  landcover keys create alice\n  landcover keys create kiosk --role read >> api-keys\n"
        "  openssl rand -base64 32 | tee alice.key | landcover keys hash alice >> api-keys",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="create|hash", required=True)
    create = actions.add_parser("create", help="a new key, shown this once, and the line for the service")
    create.set_defaults(run=_create)
    of_own = actions.add_parser("hash", help="the line for a key that you have, read from standard input")
    of_own.set_defaults(run=_hash)
    for each in (create, of_own):
        each.add_argument("name", help="of the client that has the key: letters, digits, dots, dashes, underscores")
        each.add_argument(
            "--role",
            choices=get_args(Role),
            default="write",
            help="read: maps and statistics; write: also jobs and annotations (default: %(default)s)",
        )


def _create(arguments: argparse.Namespace) -> None:
    key = new_key()
    kept = keep(key, arguments.name, arguments.role)
    _say(f"the key, for the client (it is not shown again):\n{key}")
    _show_line(kept)


def _hash(arguments: argparse.Namespace) -> None:
    key = getpass.getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline()
    _show_line(keep(key.strip(), arguments.name, arguments.role))


def _show_line(kept: ApiKey) -> None:
    _say("the line for the service (LANDCOVER_API_KEYS, or the file of LANDCOVER_API_KEYS_FILE):")
    print(kept.line, flush=True)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
