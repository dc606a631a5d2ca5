"""What the chart believes of the running service: its probes, its figures, and what autoscalers ask it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from typing import Any

import httpx
import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import VectorSelector

from chart_parts import (
    CHART,
    NAMESPACE,
    RELEASE,
    expressions,
    of_kind,
    pod_specs,
    render,
)
from running import Service

ONLY_WITH_A_GPU = {"landcover_worker_gpu_memory_bytes"}
GIVEN_BY_PROMETHEUS = {"namespace", "pod", "service"}
"""Labels that a ServiceMonitor and a PodMonitor add to every series."""


def watched() -> list[dict[str, Any]]:
    """All that watches, and a pool for each source of an autoscaler's figures."""
    values = {
        "workers": {
            "bulk": None,
            "people": {"queues": ["interactive"], "keda": {"enabled": True, "source": "api", "minReplicas": 0}},
            "rest": {"queues": ["bulk"], "keda": {"enabled": True, "prometheus": {"serverAddress": "http://p:9090"}}},
        }
    }
    return render(values, CHART / "ci" / "cpu-values.yaml")


def metrics_address(service: Service) -> str:
    return f"http://127.0.0.1:{service.child('worker').env['LANDCOVER_WORKER_METRICS_PORT']}"


def scrape(url: str) -> dict[str, set[str]]:
    """Every name that a scrape knows, with the labels of its series; a family without series has none yet."""
    known: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        known.setdefault(family.name, set())
        if family.type == "counter":
            known.setdefault(f"{family.name}_total", set())
        if family.type == "info":
            known.setdefault(f"{family.name}_info", set())
        if family.type == "histogram":
            for suffix in ("bucket", "sum", "count"):
                known.setdefault(f"{family.name}_{suffix}", set())
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    return known


@pytest.fixture(scope="module")
def scraped(shared_service: Service) -> dict[str, set[str]]:
    """API and worker, after a tile."""
    with shared_service.client as client:
        tilejson = client.get(f"/scenes/{shared_service.scene}/landcover/WebMercatorQuad/tilejson.json").json()
        west, south, east, north = tilejson["bounds"]
        point = f"{(west + east) / 2},{(south + north) / 2}"
        assert client.get(f"/scenes/{shared_service.scene}/landcover/point/{point}").status_code == 200
    api, worker = scrape(shared_service.url), scrape(metrics_address(shared_service))
    return {name: api.get(name, set()) | worker.get(name, set()) for name in api | worker}


def selectors(expression: promql_parser.Expr) -> Iterator[VectorSelector]:
    found: list[VectorSelector] = []

    def look(each: Any) -> None:
        if isinstance(each, VectorSelector):
            found.append(each)

    promql_parser.walk(expression, look)
    yield from found


def parsed() -> list[tuple[str, str, promql_parser.Expr]]:
    """Where, text and tree of each expression; Grafana's own variable is a time."""
    return [
        (where, text, promql_parser.parse(text.replace("$__rate_interval", "1m")))
        for where, text in expressions(watched())
    ]


def test_there_are_expressions_of_all_three_kinds() -> None:
    places = {where for where, _, _ in parsed()}
    assert {"LandcoverPeopleWait", "People wait for", f"{RELEASE}-landcover-worker-rest blocks"} <= places
    assert len(parsed()) > 35


def test_every_metric_of_dashboard_alerts_and_autoscalers_is_exported(scraped: dict[str, set[str]]) -> None:
    wanted = {(each.name, where) for where, _, tree in parsed() for each in selectors(tree)}
    assert all(name.startswith("landcover_") for name, _ in wanted)
    missing = {(name, where) for name, where in wanted if name not in scraped and name not in ONLY_WITH_A_GPU}
    assert not missing


def test_every_label_that_they_go_by_is_exported(scraped: dict[str, set[str]]) -> None:
    for where, text, tree in parsed():
        names = {each.name for each in selectors(tree)} - ONLY_WITH_A_GPU
        labels = {matcher.name for each in selectors(tree) for matcher in each.matchers.matchers}
        labels |= {label for group in re.findall(r"\bby \(([^)]*)\)", text) for label in group.split(", ")}
        seen = reduce(set.union, (scraped[name] for name in names), set(GIVEN_BY_PROMETHEUS))
        if names and all(scraped[name] for name in names):
            assert labels - {"le"} <= seen, (where, labels - seen)


def test_values_that_expressions_compare_with_are_values_that_exist(service: Service) -> None:
    text = httpx.get(f"{service.url}/metrics").text
    queues = set(re.findall(r'landcover_queue_blocks_waiting\{queue="(\w+)"\}', text))
    assert queues == {"interactive", "bulk", "train"}
    asked = {
        value
        for _, each, _ in parsed()
        for group in re.findall(r'queue=~?"([^"]+)"', each)
        for value in group.split("|")
    }
    assert asked <= queues


def test_autoscalers_without_prometheus_find_their_figures(service: Service) -> None:
    scaled = of_kind(watched(), "ScaledObject")["worker-people"]
    triggers = [each["metadata"] for each in scaled["spec"]["triggers"] if each["type"] == "metrics-api"]
    assert len(triggers) == 3
    for trigger in triggers:
        assert trigger["url"] == f"http://{RELEASE}-landcover-api.{NAMESPACE}.svc:80/queues"
        found: Any = httpx.get(f"{service.url}/queues").json()
        for part in trigger["valueLocation"].split("."):
            found = found[part]
        assert isinstance(found, int | float)


def test_every_probe_finds_its_address(service: Service) -> None:
    asked = set()
    for name, spec in pod_specs(watched()):
        for container in spec["containers"]:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe := container.get(kind):
                    base = service.url if "api" in name else metrics_address(service)
                    path = probe["httpGet"]["path"]
                    answer = httpx.get(f"{base}{path}")
                    assert answer.status_code == 200, (name, kind, answer.text)
                    assert "# HELP" not in answer.text, (name, kind)  # a page of metrics says nothing of health
                    asked.add((base, path))
    assert len(asked) == 5


def test_helm_test_passes_on_a_running_service_and_fails_without(service: Service) -> None:
    (spec,) = (spec for name, spec in pod_specs(watched()) if name.startswith("Pod "))
    (container,) = spec["containers"]
    script, address = container["args"]
    assert address == f"http://{RELEASE}-landcover-api:80"
    done = subprocess.run([sys.executable, "-c", script, service.url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"status": "ready"' in done.stdout
    quick = script.replace("range(60)", "range(1)").replace("time.sleep(2)", "pass")
    done = subprocess.run(
        [sys.executable, "-c", quick, "http://127.0.0.1:9"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "is not ready" in done.stderr


def test_every_alert_is_in_the_runbook() -> None:
    page = (CHART.parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", page, re.M)
    }
    (rule,) = of_kind(watched(), "PrometheusRule").values()
    alerts = [entry for group in rule["spec"]["groups"] for entry in group["rules"]]
    assert len(alerts) >= 7
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].partition("#")[2] in anchors, alert["alert"]
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
