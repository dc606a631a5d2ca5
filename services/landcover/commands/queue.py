"""`landcover queue [requeue|drop]`: what waits, what is set aside, and what an operator does about it by hand."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from landcover.connections import connect
from landcover.errors import InvalidRequest, NotFound, Unavailable
from landcover.settings import BrokerSettings, CacheSettings

if TYPE_CHECKING:
    from landcover.dead_letters import DeadLetter
    from landcover.queue_state import QueueReport

BLOCK_QUEUES = ("interactive", "bulk")
SHOWN_LETTERS = 20
WATCH_S = 2.0

_Letters = Mapping[str, "DeadLetter | None"]


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "queue",
        help="what waits for workers, and blocks that were set aside; queue them again, or drop them",
        description="Show what waits in each queue, since when, how much workers have in hand, and the dead letters:\n"
        "blocks that failed or ended their worker so often that they were set aside. Whoever asks for one is refused\n"
        "for ten minutes; then it is tried again. Nothing is changed by looking.",
        epilog="queues: 'interactive' is what people wait for, 'bulk' what jobs map, 'train' rounds of training.\n\n"
        "examples:\n"
        "  landcover queue                              look\n"
        "  landcover queue --watch                      look again every two seconds, until Ctrl-C\n"
        "  landcover queue --json | jq .dead_letters    everything, for programs\n"
        "  landcover queue requeue --all                the reason is gone: make these blocks after all\n"
        "  landcover queue drop --queue bulk            take all out that waits for jobs\n\n"
        "settings: LANDCOVER_BROKER_URL, LANDCOVER_CACHE_URL. docs/operations.md#requeue-and-drop has what to do when.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=WATCH_S,
        metavar="SECONDS",
        help=f"look again and again (default: every {WATCH_S:g} s)",
    )
    parser.set_defaults(run=_show)
    actions = parser.add_subparsers(dest="action", metavar="requeue|drop")
    _add_requeue(actions)
    _add_drop(actions)


def _add_requeue(actions: Any) -> None:
    parser = actions.add_parser(
        "requeue",
        help="have dead letters made after all",
        description="Queue blocks that were set aside again, as if they had never failed: their attempts are counted\n"
        "anew, and nobody is refused any more. First take the reason away (the worker's log has it): a block that\n"
        "ends its worker will do so again, as often as is allowed, before it is set aside anew.",
        epilog="examples:\n"
        "  landcover queue requeue 'g1:chiba:*'             all of the scene 'chiba'\n"
        "  landcover queue requeue --all --yes              everything, without a question",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_letters(parser)
    parser.add_argument(
        "--queue",
        choices=BLOCK_QUEUES,
        default="bulk",
        help="where to queue them (default: bulk, behind what people wait for)",
    )
    parser.set_defaults(run=_requeue)


def _add_drop(actions: Any) -> None:
    parser = actions.add_parser(
        "drop",
        help="forget dead letters, or drop all that waits in a queue",
        description="Forget dead letters (KEY or --all): they are seen to, and no longer listed or counted. Such a\n"
        "block is tried again when somebody asks for it and its ten minutes are over.\n\n"
        "Or drop what waits in a queue (--queue): what workers have in hand goes on. No map is lost by that: whoever\n"
        "still waits for a block asks for it anew within seconds. So to be rid of a job's blocks, dismiss the job\n"
        "first (DELETE /jobs/ID).",
        epilog="examples:\n"
        "  landcover queue drop --all\n"
        "  landcover queue drop --queue interactive         nobody waits any more for what piled up",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_letters(parser)
    parser.add_argument("--queue", choices=BLOCK_QUEUES, help="instead: drop the tasks that wait in this queue")
    parser.set_defaults(run=_drop)


def _add_letters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "keys", nargs="*", metavar="KEY", help="a dead letter's key, or a pattern of keys with * and ? in it"
    )
    parser.add_argument("--all", action="store_true", help="every dead letter")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _show(arguments: argparse.Namespace) -> None:
    look = _print_json if arguments.json else _print_once
    if arguments.watch is None:
        look()
    elif arguments.json:
        while True:
            look()
            time.sleep(arguments.watch)
    else:
        with Live(auto_refresh=False, screen=True) as live:
            while True:
                live.update(_watched(), refresh=True)
                time.sleep(arguments.watch)


def _print_json() -> None:
    report, letters = _read()
    document = asdict(report) | {
        "dead_letters": [
            {"key": key, "unreadable": True}
            if letter is None
            else {
                "key": key,
                "scene": letter.task.source.id,
                "row": letter.task.row,
                "col": letter.task.col,
                "model": letter.task.digest,
                "at": letter.at,
                "error": letter.error,
                "detail": letter.detail,
            }
            for key, letter in letters.items()
        ]
    }
    print(json.dumps(document, ensure_ascii=False), flush=True)


def _print_once() -> None:
    Console(highlight=False, emoji=False).print(_page(*_read()))


def _watched() -> RenderableType:
    try:
        return _page(*_read())
    except Unavailable as error:  # it may come back while somebody watches
        return Text(str(error))


def _read() -> tuple[QueueReport, _Letters]:
    from landcover.dead_letters import read_dead_letters
    from landcover.queue_state import read_queues

    with _servers() as (broker, _):
        return read_queues(broker), read_dead_letters(broker)


def _page(report: QueueReport, letters: _Letters) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("queue")
    for name in ("waiting", "oldest", "in flight"):
        table.add_column(name, justify="right")
    for name, state in report.queues.items():
        oldest = _duration(state.oldest_s) if state.waiting else "-"
        table.add_row(name, f"{state.waiting:,}", oldest, f"{state.in_flight:,}")
    parts: list[RenderableType] = [table, "", f"workers: {report.workers}"]
    if not report.workers and any(report.queues[name].waiting for name in BLOCK_QUEUES):
        parts.append("Tasks wait, and no worker is there to take them.")
    parts.append(f"dead letters: {len(letters)}")
    if letters:
        parts += ["", _letters_table(letters)]
    if len(letters) > SHOWN_LETTERS:
        parts.append(f"… and {len(letters) - SHOWN_LETTERS:,} older ones; --json has all of them")
    return Group(*parts)


def _letters_table(letters: _Letters) -> Table:
    from landcover.dead_letters import age_s

    table = Table(box=None, pad_edge=False)
    table.add_column("set aside", justify="right")
    table.add_column("key", no_wrap=True)  # to be copied
    table.add_column("reason", overflow="fold")
    for key, letter in list(letters.items())[:SHOWN_LETTERS]:
        if letter is None:
            table.add_row("", Text(key), "It cannot be read, so it can only be dropped.")
        else:
            table.add_row(f"{_duration(age_s(letter))} ago", Text(key), Text(letter.detail))
    return table


def _requeue(arguments: argparse.Namespace) -> None:
    from landcover.dead_letters import read_dead_letters, requeue
    from landcover.queue import TASK_EXPIRES_S, make_celery
    from landcover.queue_state import read_queues

    _check_named(arguments)
    with _servers() as (broker, cache):
        chosen = _choose(read_dead_letters(broker), arguments)
        letters = [letter for letter in chosen.values() if letter is not None]
        if unreadable := len(chosen) - len(letters):
            print(f"{_count_text(unreadable)} cannot be read and stay; `landcover queue drop` forgets them.")
        if not letters:
            print("There is nothing to queue.")
            return
        if not read_queues(broker).workers:
            print(
                f"No worker is there: what waits for {TASK_EXPIRES_S // 60} minutes is dropped, and its letter is gone."
            )
        if len(letters) > 1:
            _ask(f"Queue {_count_text(len(letters))} again, in '{arguments.queue}'?", arguments)
        celery = make_celery(BrokerSettings().broker_url)
        with celery:
            done = requeue(letters, broker, cache, celery, queue=arguments.queue)
    print(f"{done.queued} queued, {done.pending} asked for by others meanwhile, {done.ready} made meanwhile.")


def _drop(arguments: argparse.Namespace) -> None:
    from landcover.dead_letters import forget, read_dead_letters
    from landcover.waiting_tasks import drop_waiting

    if arguments.queue and (arguments.keys or arguments.all):
        raise InvalidRequest("Say either which dead letters (KEY or --all), or which queue (--queue), not both.")
    with _servers() as (broker, cache):
        if arguments.queue:
            waiting = broker.llen(arguments.queue)
            if not waiting:
                print(f"Nothing waits in '{arguments.queue}'.")
                return
            _ask(f"Drop {waiting:,} waiting tasks of '{arguments.queue}'?", arguments)
            print(f"{drop_waiting(arguments.queue, broker, cache):,} tasks dropped.")
            return
        _check_named(arguments)
        chosen = _choose(read_dead_letters(broker), arguments)
        if not chosen:
            print("There are no dead letters.")
            return
        _ask(f"Forget {_count_text(len(chosen))}?", arguments)
        print(f"{_count_text(forget(list(chosen), broker))} forgotten.")


def _check_named(arguments: argparse.Namespace) -> None:
    if bool(arguments.keys) == arguments.all:
        also = ", or --queue NAME" if arguments.action == "drop" else ""
        raise InvalidRequest(f"Say which dead letters: their KEYs (`landcover queue` shows them), or --all{also}.")


def _choose(letters: _Letters, arguments: argparse.Namespace) -> _Letters:
    """Those that are named.

    Raises:
        NotFound: a name means none.
    """
    if arguments.all:
        return letters
    for pattern in arguments.keys:
        if not any(fnmatchcase(key, pattern) for key in letters):
            raise NotFound(f"There is no dead letter '{pattern}'; `landcover queue` shows them.")
    return {key: letter for key, letter in letters.items() if any(fnmatchcase(key, each) for each in arguments.keys)}


def _ask(question: str, arguments: argparse.Namespace) -> None:
    """Go on only if that is what is wanted.

    Raises:
        InvalidRequest: it is not, or there is nobody to ask.
    """
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(f"{question} There is nobody to ask here: say --yes.")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise InvalidRequest("Nothing was changed.")


@contextmanager
def _servers() -> Iterator[Sequence[redis.Redis]]:
    """The broker and the cache.

    Raises:
        Unavailable: one of them is away.
    """
    urls = BrokerSettings().broker_url, CacheSettings().cache_url
    clients = [connect(url) for url in urls]
    try:
        yield clients
    except (redis.ConnectionError, redis.TimeoutError) as error:
        where = " and ".join(f"{urlsplit(url).hostname}:{urlsplit(url).port or 6379}" for url in urls)
        raise Unavailable(
            f"The broker or the cache ({where}) is not reachable; LANDCOVER_BROKER_URL and LANDCOVER_CACHE_URL say "
            "where they are."
        ) from error
    finally:
        for client in clients:
            client.close()


def _count_text(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"0.1 to 3600 seconds, not {text}")
    return seconds
