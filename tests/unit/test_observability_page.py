"""`docs/observability.md` names every metric there is, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import REGISTRY

import landcover_api.metrics
import landcover_worker.metrics
from landcover.catalog import demo_model_path
from landcover.contract import read_model
from landcover.queue_state import QueueReport, QueueState
from landcover_api.scrape import StateCollector
from landcover_worker.gpu_memory import GpuMemoryCollector

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "info": ("_info",), "gauge": ("",)}


MODULES = landcover_api.metrics, landcover_worker.metrics
"""Imported for what they register."""


def families() -> dict[str, tuple[str, frozenset[str]]]:
    """Name as the page has it → type and labels, of all that both processes can say."""
    model = read_model(demo_model_path())
    queue = QueueState(waiting=0, in_flight=0, oldest_s=0.0)
    report = QueueReport(queues={"bulk": queue}, dead_letters=0, workers=0)
    looked_up = StateCollector(report, cache_up=True, models=[model], default=model.digest)
    found = {}
    for collector in (*REGISTRY._collector_to_names, looked_up):
        names = getattr(collector, "_labelnames", None)
        for family in collector.collect():
            if not family.name.startswith("landcover_"):
                continue
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            suffix = PARTS[family.type][0] if family.type in ("counter", "info") else ""
            found[family.name + suffix] = family.type, frozenset(labels if names is None else names)
    gpu = "landcover_worker_gpu_memory_bytes"
    assert gpu in (GpuMemoryCollector.collect.__code__.co_consts or ())
    return found | {gpu: ("gauge", frozenset({"gpu", "state"}))}


def test_the_tables_name_every_metric_with_its_type_and_labels() -> None:
    told = {}
    for names, kind in re.findall(r"^\| (`landcover_[^|]*) \| ([^|]*) \|", PAGE, flags=re.MULTILINE):
        form, _, labels = kind.partition(":")
        for name in re.findall(r"`(\w+)`", names):
            told[name] = form.strip(), frozenset(re.findall(r"`(\w+)`", labels))
    assert told == families()


def test_the_questions_ask_for_samples_that_there_are() -> None:
    known = families()
    samples = {
        name.removesuffix(PARTS[kind][0] if kind in ("counter", "info") else "") + part
        for name, (kind, _) in known.items()
        for part in PARTS[kind]
    }
    rows = PAGE.partition("## Questions")[2].partition("\n## ")[0]
    asked = re.findall(r"\blandcover_\w+", rows)
    assert len(asked) > 30
    assert set(asked) <= samples
    for name, matchers in re.findall(r"\b(landcover_\w+)\{([^}]*)\}", rows):
        family = next(each for each in known if name in (each, *(each + part for part in PARTS["histogram"])))
        assert set(re.findall(r"(\w+)=", matchers)) <= known[family][1]
