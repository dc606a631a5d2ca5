"""Running both measurements, and a table of each at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from landcover.commands.bench.figures import Figure, Outcome, of_rounds
from landcover.commands.bench.scale.bookkeeping import Books, keep_books
from landcover.commands.bench.scale.throughput import BATCH, Throughput, measure_throughput
from landcover.commands.bench.scale.writing import Writing, measure_writing

TINY_PX = 8
"""A side of the blocks of which there are very many: the books are the same whatever a block holds."""
WHOLE_BLOCKS = 2_000
WHOLE_PX = 512
WHOLE_BLOBS = 900
"""Patches of a block that has the size of a real one; of such there are `WHOLE_BLOCKS`."""
WRITTEN_BLOCKS = 400


COMMAND = "landcover bench scale"


def measure_scale(console: Console, *, workers: Sequence[int], blocks: int, run_s: float, seconds: float) -> Outcome:
    """Measure and print tables of its own.

    Args:
        console: where tables go.
        workers: numbers of simulated workers, each measured for itself; none for no throughput.
        blocks: how many blocks to keep books of; 0 for none.
        run_s: how long a simulated network takes for a batch.
        seconds: about how long each number of workers is measured.

    Raises:
        LandcoverError: a process does not start, or the system does not tell what processes use.
    """
    rows, books, writing = [], [], []
    with tempfile.TemporaryDirectory(prefix="landcover-bench-") as name, _progress(console) as progress:
        folder = Path(name)
        for count in workers:
            total = round(count * BATCH * seconds / run_s)
            task = progress.add_task(f"{count} worker(s) that sleep", total=total)
            rows.append(
                measure_throughput(
                    folder / f"workers-{count}",
                    count,
                    run_s=run_s,
                    seconds=seconds,
                    advance=lambda done, task=task: progress.advance(task, done),  # type: ignore[misc]
                )
            )
        for number, side, blobs in ((min(blocks, WHOLE_BLOCKS), WHOLE_PX, WHOLE_BLOBS), (blocks, TINY_PX, 1)):
            if number:
                task = progress.add_task(f"books of blocks of {side} px", total=number)
                books.append(
                    keep_books(
                        folder / f"books-{side}",
                        number,
                        block_px=side,
                        blobs=blobs,
                        advance=lambda done, task=task: progress.advance(task, done),  # type: ignore[misc]
                    )
                )
        if blocks:
            task = progress.add_task("files of a product", total=1)
            writing = measure_writing(
                folder / "written", min(blocks, WRITTEN_BLOCKS), block_px=WHOLE_PX, blobs=WHOLE_BLOBS
            )
            progress.advance(task)
    if rows:
        _print_throughput(console, rows, run_s)
    if books:
        _print_books(console, books)
    for each in writing:
        _print_writing(console, each)
    details = {
        "throughput": [asdict(row) for row in rows],
        "books": [asdict(each) for each in books],
        "writing": [asdict(each) for each in writing],
    }
    return Outcome(figures=tuple(_figure(row, run_s) for row in rows), details=details)


def _figure(row: Throughput, run_s: float) -> Figure:
    return of_rounds(
        [row.blocks_per_s],
        [row.workers * BATCH / run_s],
        name=f"scale, {row.workers} worker(s) that sleep",
        against="networks that never wait",
        unit="blocks/s",
        better="higher",
        command=COMMAND,
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _print_throughput(console: Console, rows: Sequence[Throughput], run_s: float) -> None:
    console.print(f"a network that sleeps {run_s:g} s for a batch of {BATCH}; processor time in ms a block")
    table = Table(box=None, pad_edge=False)
    for name in ("workers", "slots", "blocks", "blocks/s", "of its best", "of one worker's", *rows[0].cpu_ms):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row.workers),
            str(row.slots),
            f"{row.blocks:,}",
            f"{row.blocks_per_s:.1f}",
            f"{row.share:.1%}",
            f"{row.share / rows[0].share:.1%}",
            *(f"{used:.2f}" for used in row.cpu_ms.values()),
        )
    console.print(table)


def _print_books(console: Console, books: Sequence[Books]) -> None:
    console.print("\nfrom claim to spool, blocks that nobody makes; processor time in ms a block")
    table = Table(box=None, pad_edge=False)
    names = ("blocks", "px", "kept, B", "blocks/s", *books[0].cpu_ms, "finished", "evicted")
    for name in (*names, "broker, MB", "keys", "cache, MB", "job, MB", "spool, MB"):
        table.add_column(name, justify="right")
    for each in books:
        last = each.marks[-1]
        table.add_row(
            f"{each.blocks:,}",
            str(each.block_px),
            f"{each.bytes_a_block:,}",
            f"{each.blocks_per_s:.0f}",
            *(f"{used:.2f}" for used in each.cpu_ms.values()),
            f"{each.made:,}",
            f"{each.evicted:,}",
            f"{max(mark.broker_peak_mb for mark in each.marks):.1f}",
            str(max(mark.broker_keys for mark in each.marks)),
            f"{last.cache_mb:.0f}",
            f"{last.engine_peak_mb:.0f}",
            f"{last.spool_mb:,.0f}",
        )
    console.print(table)


def _print_writing(console: Console, writing: Writing) -> None:
    console.print(
        f"\nclasses{' and confidence' if writing.confidence else ''} of {writing.blocks:,} blocks of "
        f"{writing.block_px} px written as files: {writing.mpx_per_s:.1f} Mpx/s, "
        f"{writing.cpu_ms:.1f} ms of processor time a block"
    )
