"""`landcover study`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def study(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "study",
        help="measure what annotating the worst places first is worth",
        description="Repeat the study of docs/studies: train a base model, map a new scene, annotate its most\n"
        "doubtful windows (with their true labels), fine-tune, and measure on ground that nobody annotated.\n"
        "Runs that have a result in --out are not run again: the study may be stopped and started at any time.",
        epilog="the study of docs/studies/dubai.md (about two hours of one core):\n"
        "  landcover study --data ../shared/data/dubai --out runs/study\n\n"
        "a quick look at the machinery:\n"
        "  echo '{base_steps: 40, round_steps: 10, full_steps: 20, seeds: [1], ablation: false}' > quick.yaml\n"
        "  landcover study --data ../shared/data/dubai --out runs/quick --config quick.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the Dubai set: tileN/images, tileN/labels")
    parser.add_argument("--out", type=Path, required=True, help="folder for models, results, table and plot")
    parser.add_argument("--config", type=Path, help="YAML file; what it leaves out is as in docs/studies/dubai.md")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, which share the cores (1)")
    parser.add_argument("--report", action="store_true", help="only write the report of what is there")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from landcover.errors import InvalidConfiguration
    from landcover_export.study.config import read_study
    from landcover_export.study.report import write_report
    from landcover_export.study.runs import plan, result_path, run_all

    console = Console()
    config = read_study(arguments.config)
    if arguments.jobs < 1:
        raise InvalidConfiguration("--jobs must be 1 or more.")
    runs = plan(config)
    if not arguments.report:
        with Progress(console=console) as progress:
            task = progress.add_task("runs", total=len(runs))
            run_all(config, arguments.data, arguments.out, arguments.jobs, lambda _: progress.advance(task))
    missing = sum(not result_path(arguments.out, run.name).is_file() for run in runs)
    if missing == len(runs):
        raise InvalidConfiguration(f"There is no result in {arguments.out}; run the study without --report first.")
    console.print(write_report(config, arguments.out), markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(runs) - missing} of {len(runs)} runs; table and plot: {arguments.out}/results.md, results.png")
    return 0
