"""The command: which sections are run, what is printed, kept and compared."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from landcover import local
from landcover.catalog import demo_model_path
from landcover.commands.bench import figures, profile, records
from landcover.commands.bench.figures import Figure, Outcome
from landcover.commands.bench.options import Options
from landcover.commands.bench.profile import Profiler
from landcover.commands.bench.subject import subject_of
from landcover.errors import InvalidRequest

SCALE_SECONDS = 60.0
RUNS = Path(".landcover/bench")

_TILES = ("warm", "cold")
_QUICK = (*_TILES, "worker", "read", "encode", "scaling", "batching")
_LONG = ("statistics", "scale")
_GROUPS = {"tiles": _TILES, "quick": _QUICK, "all": (*_QUICK, *_LONG)}


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "bench",
        help="measure this machine: every figure as a ratio to a floor measured in the same run",
        description="Start services of its own and measure them. Every figure is a ratio to a floor measured in the\n"
        "same run, since machines and their load differ:\n"
        "  warm        a finished tile over 1, 16, 256 connections, to a bare Starlette endpoint that fetches the\n"
        "              same bytes from the same cache, and to a stock TiTiler with a finished map\n"
        "  cold        latency of a tile of which nothing is mapped, to read + network + encode alone\n"
        "  worker      blocks/s of a worker whose queue is full, to its network in a bare loop\n"
        "  read        Mpx/s of blocks' windows, to GDAL decoding the image once\n"
        "  encode      microseconds and bytes of a palette PNG and a WebP, to other encoders\n"
        "  scaling     workers with a core each, to as many times one\n"
        "  batching    batches and waiting under 1 to 256 clients, to a network that never waits\n"
        "  statistics  processor time and memory, to exactextract on a finished map of the same ground\n"
        "  scale       workers whose network sleeps, to as much as one can do; what a job's books cost\n"
        "groups: tiles (warm cold), quick (all but the last two; the default), all",
        epilog="examples:\n  landcover bench                            in five to ten minutes\n"
        "  landcover bench warm read --scene ortho.tif --json bench.json\n"
        "  landcover bench worker --profile profiles/    where its time goes; open them at speedscope.app\n"
        "  landcover bench --check                    fails if a ratio lost a third of what is recorded\n"
        "  landcover bench --check .landcover/bench/20261125T120000.json    … of what this machine did\n"
        "  landcover bench statistics --largest 10000    polygons; a 1.7 GB cache, twenty minutes\n"
        "  landcover bench scale --bookkeeping 1000000   as docs/scale.md has it, half an hour",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help="what to measure, or groups of it (default: quick)"
    )
    parser.add_argument("--scene", help="a GeoTIFF (default: the drawn demonstration)")
    parser.add_argument("--model", type=Path, default=demo_model_path(), help="an ONNX file (default: demonstration)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a measurement in a round (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians of so many rounds (default: 3)")
    parser.add_argument("--blocks", type=int, default=16, help="cold: tiles to time in a round (default: 16)")
    parser.add_argument(
        "--largest",
        type=int,
        choices=(10, 100, 1000, 10_000),
        default=1000,
        help="statistics: largest area, in blocks (default: 1000)",
    )
    parser.add_argument(
        "--workers", type=int, nargs="*", default=(1, 4, 8), help="scale: numbers of workers (default: 1 4 8)"
    )
    parser.add_argument(
        "--bookkeeping", type=int, default=20_000, metavar="BLOCKS", help="scale: blocks of a job (default: 20000)"
    )
    parser.add_argument(
        "--sleep", type=float, default=1.0, metavar="S", help="scale: a batch of 8 takes so long (default: 1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the run there, too")
    parser.add_argument(
        "--runs", type=Path, default=RUNS, metavar="FOLDER", help="keep every run there (default: %(default)s)"
    )
    parser.add_argument(
        "--check",
        nargs="?",
        type=Path,
        const=records.shipped(),
        metavar="FILE",
        help="fail if a ratio has lost more than a third of its value in this run, and again "
        "when it is measured once more (default: the record shipped with this)",
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FOLDER", help="run each but scale once more under py-spy; profiles go there"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    sections = sections_of(arguments.sections)
    _check_numbers(arguments)
    if arguments.json and not arguments.json.parent.is_dir():
        raise InvalidRequest(f"There is no folder {arguments.json.parent} for --json; make it first.")
    recorded = records.read(arguments.check) if arguments.check else None
    console = Console(highlight=False, width=150)
    profiler = Profiler(arguments.profile)
    with local.leaving_on_signals():
        outcomes = _measure(sections, arguments, profiler, console)
    found = _figures(outcomes)
    console.print(figures.table(found))
    for each in profiler.profiles:
        console.print(profile.table(each))
    details = {section: outcome.details for section, outcome in outcomes.items()}
    run = records.document(found, details, _said(sections, arguments))
    console.print(f"kept as {records.keep(run, arguments.runs)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    return _compare(outcomes, recorded, arguments, console) if recorded is not None else 0


def _compare(
    outcomes: Mapping[str, Outcome], recorded: Mapping[str, Figure], arguments: argparse.Namespace, console: Console
) -> int:
    """Exit status: 1 if a figure lost too much, and did so again when its section was measured once more.

    A machine that was busy for a moment is no regression.
    """
    found = _figures(outcomes)
    lost = {each.key: each for each in records.lost(found, recorded)}
    if lost:
        doubtful = [name for name, each in outcomes.items() if any(figure.key in lost for figure in each.figures)]
        console.print(f"{len(lost)} figures lost more than a third: measuring {', '.join(doubtful)} once more")
        with local.leaving_on_signals():
            again = _measure(doubtful, arguments, Profiler(None), console)
        still = records.lost(_figures(again), recorded)
        lost = {each.key: each for each in still if each.key in lost}
    for key, each in lost.items():
        print(f"landcover: {records.sentence(each, recorded[key])}", file=sys.stderr)
    if not lost:
        compared = sum(each.key in recorded for each in found)
        console.print(f"{compared} figures compared with {arguments.check}: none lost more than a third")
    return 1 if lost else 0


def _figures(outcomes: Mapping[str, Outcome]) -> list[Figure]:
    return [figure for outcome in outcomes.values() for figure in outcome.figures]


def _said(sections: Sequence[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, as a record keeps it."""
    return {
        "sections": sections,
        "scene": arguments.scene,
        "model": str(arguments.model),
        **{name: getattr(arguments, name) for name in ("seconds", "rounds", "blocks")},
    }


def sections_of(words: Sequence[str]) -> list[str]:
    """The sections that words of the command line name, each once, in their order.

    Raises:
        InvalidRequest: a word is none.
    """
    named: list[str] = []
    for word in words or ("quick",):
        if word not in _GROUPS and word not in _GROUPS["all"]:
            known = ", ".join((*_GROUPS, *_GROUPS["all"]))
            raise InvalidRequest(f"There is no section '{word}'; choose from {known}.")
        named += _GROUPS.get(word, (word,))
    return [section for section in _GROUPS["all"] if section in named]


def _check_numbers(arguments: argparse.Namespace) -> None:
    if min(arguments.workers, default=1) < 1 or arguments.bookkeeping < 0 or not 0 < arguments.sleep < math.inf:
        raise InvalidRequest("--workers and --sleep are greater than 0, --bookkeeping is not below it.")
    if not 0 < arguments.seconds < math.inf or arguments.rounds < 1 or arguments.blocks < 1:
        raise InvalidRequest("--seconds, --rounds and --blocks are greater than 0.")


def _measure(
    sections: Sequence[str], arguments: argparse.Namespace, profiler: Profiler, console: Console
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    if quick := [section for section in sections if section in _QUICK]:
        with (
            tempfile.TemporaryDirectory(prefix="landcover-bench-") as name,
            _progress(console, len(quick)) as (say, advance),
        ):
            folder = Path(name)
            say("drawing the scene")
            options = Options(
                subject=subject_of(arguments.scene or str(_demo(folder)), arguments.model),
                seconds=arguments.seconds,
                rounds=arguments.rounds,
                blocks=arguments.blocks,
                folder=folder,
                profiler=profiler,
                say=say,
            )
            for section in quick:
                outcomes[section] = _measurement(section)(options)
                advance()
    if "statistics" in sections:
        outcomes["statistics"] = _statistics(arguments, profiler, console)
    if "scale" in sections:
        outcomes["scale"] = _scale(arguments, console)
    return outcomes


@contextmanager
def _progress(console: Console, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar of sections: one function says what is done now, the other that a section has ended."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield (
            lambda words: progress.update(task, description=words),
            lambda: progress.advance(task),
        )


def _measurement(section: str) -> Callable[[Options], Outcome]:
    """What measures a section; they need libraries of the API and of workers, as little else here does."""
    from landcover.commands.bench.batching import measure_batching
    from landcover.commands.bench.cold import measure_cold
    from landcover.commands.bench.encoding import measure_encoding
    from landcover.commands.bench.reading import measure_reading
    from landcover.commands.bench.scaling import measure_scaling
    from landcover.commands.bench.warm import measure_warm
    from landcover.commands.bench.worker import measure_worker

    return {
        "warm": measure_warm,
        "cold": measure_cold,
        "worker": measure_worker,
        "read": measure_reading,
        "encode": measure_encoding,
        "scaling": measure_scaling,
        "batching": measure_batching,
    }[section]


def _demo(folder: Path) -> Path:
    from landcover.demo import write_scene

    return write_scene(folder)


def _statistics(arguments: argparse.Namespace, profiler: Profiler, console: Console) -> Outcome:
    from landcover.commands.bench.statistics.command import measure_statistics

    return measure_statistics(arguments.model, arguments.largest, console, profiler)


def _scale(arguments: argparse.Namespace, console: Console) -> Outcome:
    from landcover.commands.bench.scale.command import measure_scale

    return measure_scale(
        console,
        workers=arguments.workers,
        blocks=arguments.bookkeeping,
        run_s=arguments.sleep,
        seconds=SCALE_SECONDS,
    )
