"""What `/metrics` says: the counters of all processes that share the port, and what is looked up when it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

import landcover
from landcover.contract import ModelFile
from landcover.queue_state import QueueReport
from landcover_api.counters import forget_the_dead, shared_folder


class StateCollector:
    """The queues as the broker has them, and what this API serves."""

    def __init__(
        self, report: QueueReport | None, *, cache_up: bool, models: Iterable[ModelFile], default: str
    ) -> None:
        """Without a `report` the broker could not be asked in time: nothing is said of the queues then."""
        self._report = report
        self._cache_up = cache_up
        self._models = models
        self._default = default

    def collect(self) -> Iterator[Metric]:
        """For a registry."""
        yield _gauge("landcover_broker_up", "1 if the broker answered this scrape.", self._report is not None)
        yield _gauge("landcover_cache_up", "1 if the cache answered this scrape.", self._cache_up)
        yield InfoMetricFamily("landcover_api_build", "The program.", {"version": landcover.__version__})
        models = InfoMetricFamily(
            "landcover_api_model", "The models that this API serves.", labels=["model", "digest", "default"]
        )
        for each in self._models:
            default = "true" if each.digest == self._default else "false"
            models.add_metric([each.name, each.digest, default], {})
        yield models
        if self._report is not None:
            yield from _queues(self._report)


def exposition(state: StateCollector) -> bytes:
    """In Prometheus' text format."""
    if folder := shared_folder():
        forget_the_dead(folder)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    else:
        registry = REGISTRY
    looked_up = CollectorRegistry()
    looked_up.register(state)
    return generate_latest(registry) + generate_latest(looked_up)


def _queues(report: QueueReport) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "landcover_queue_blocks_waiting", "Tasks that no worker has taken yet.", labels=["queue"]
    )
    in_flight = GaugeMetricFamily(
        "landcover_queue_blocks_in_flight", "Tasks that workers have taken and not finished.", labels=["queue"]
    )
    oldest = GaugeMetricFamily(
        "landcover_queue_oldest_seconds", "Age of the task that has waited longest; 0 if none waits.", labels=["queue"]
    )
    for name, queue in report.queues.items():
        waiting.add_metric([name], queue.waiting)
        in_flight.add_metric([name], queue.in_flight)
        oldest.add_metric([name], queue.oldest_s)
    yield from (waiting, in_flight, oldest)
    yield _gauge("landcover_queue_dead_letters", "Blocks set aside for an operator to look at.", report.dead_letters)
    yield _gauge("landcover_workers", "Workers that are warm and take tasks.", report.workers)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=float(value))
