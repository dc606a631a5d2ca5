"""`python -m landcover.planning.autoscaling`: three policies, one day."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from landcover.planning.autoscaling import policies
from landcover.planning.autoscaling.figures import summarize, table
from landcover.planning.autoscaling.fleet import Worker, run
from landcover.planning.autoscaling.load import a_day


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the day under each policy and print the figures."""
    words = _parser().parse_args(arguments)
    load = a_day(seed=words.seed, views_per_s=words.views_per_s)
    worker = Worker(
        batch=words.batch,
        run_s=words.run_s,
        window_s=words.window_s,
        threads=words.threads,
        cold_start_s=words.cold_start_s,
    )
    compared = (
        policies.by_list(least=words.least, most=words.most),
        policies.by_waiting(
            least=words.least,
            most=words.most,
            oldest_s=words.oldest_s,
            blocks_per_worker=words.blocks_per_worker,
            polling_s=words.polling_s,
            cooldown_s=words.cooldown_s,
            stabilization_s=words.stabilization_s,
            down_period_s=words.down_period_s,
            scrape_s=words.scrape_s,
        ),
        policies.fixed(words.fixed),
    )
    courses = [run(load, policy, worker) for policy in compared]
    summaries = [summarize(course) for course in courses]
    if words.json:
        print(json.dumps([asdict(each) for each in summaries], indent=2))
    else:
        print(f"{load.interactive_blocks} blocks for people, {load.bulk_blocks} for jobs; seed {words.seed}\n")
        print(table(summaries))
    if words.picture is not None:
        from landcover.planning.autoscaling.picture import draw

        draw(load, courses, words.picture)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m landcover.planning.autoscaling",
        description="A day of people and jobs against three ways of scaling workers: KEDA's redis trigger (the length\n"
        "of the lists), the chart's (the age of the oldest task, and all blocks waiting or in hand), and a fleet\n"
        "that never changes. Nothing is started; docs/scaling.md says what is modelled and what is not.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=7, help="the same gives the same day (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the day as a PNG (needs matplotlib)")
    load = parser.add_argument_group("load")
    _number(load, "--views-per-s", 0.8, "that people open at the busiest moment, 16 missing blocks each")
    worker = parser.add_argument_group("a worker")
    _number(worker, "--batch", Worker.batch, "windows in a run of the network")
    _number(worker, "--run-s", Worker.run_s, "of each run, and …")
    _number(worker, "--window-s", Worker.window_s, "… of each window in it")
    _number(worker, "--threads", Worker.threads, "blocks of each queue in hand")
    _number(worker, "--cold-start-s", Worker.cold_start_s, "from the decision for a pod to its first block")
    scaling = parser.add_argument_group("scaling")
    _number(scaling, "--most", 6, "pods")
    _number(scaling, "--fixed", 4, "pods of the fleet that never changes")
    _number(scaling, "--least", 0, "pods, of the two that scale")
    _number(
        scaling,
        "--oldest-s",
        policies.OLDEST_S,
        "that a person's block should wait; like all below, the chart's",
    )
    _number(scaling, "--blocks-per-worker", policies.BLOCKS_PER_WORKER, "waiting or in hand")
    _number(scaling, "--polling-s", policies.POLLING_S, "between two looks while there is no pod")
    _number(scaling, "--cooldown-s", policies.COOLDOWN_S, "without any work before the last pod goes")
    _number(scaling, "--stabilization-s", policies.STABILIZATION_S, "of less load before a pod goes")
    _number(scaling, "--down-period-s", policies.DOWN_PERIOD_S, "in which one pod goes")
    _number(scaling, "--scrape-s", policies.SCRAPE_S, "between two scrapes; 0: figures from GET /queues")
    return parser


def _number(group: argparse._ArgumentGroup, name: str, default: float, text: str) -> None:
    group.add_argument(name, type=type(default), default=default, metavar="N", help=f"{text} (default: %(default)s)")


if __name__ == "__main__":
    main()
