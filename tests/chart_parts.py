"""The chart as Helm renders it, for tests of `charts/landcover`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "landcover"
CI_FILES = tuple(sorted((CHART / "ci").glob("*-values.yaml")))
TOOLS = Path(sys.prefix) / "chart-tools"
HELMS = ("helm3", "helm4")
NEWEST_KUBERNETES = "1.37.0"
RELEASE, NAMESPACE = "lc", "maps"

SMALLEST: Mapping[str, Any] = {
    "broker": {"url": "redis://broker.example.org"},
    "cache": {"url": "redis://cache.example.org"},
    "scenes": {"locations": ["https://example.org/a.tif"]},
}
"""The three values that an installation needs."""

Document = dict[str, Any]


def tool(name: str) -> Path:
    """A file that tests/chart/install.py left; where npm cannot be had the test is skipped, but never in CI."""
    path = TOOLS / name
    if not path.exists():
        reason = f"{name} is not in {TOOLS}: `make install-dev` puts it there, by npm (Debian: apt-get install npm)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def helm(*arguments: str | Path, binary: str = "helm4", values: Any = None) -> subprocess.CompletedProcess[str]:
    """Run Helm; `values` reach it by standard input."""
    command = [str(tool(binary)), *map(str, arguments)]
    given = None
    if values is not None:
        command += ["--values", "-"]
        given = json.dumps(values)
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)


def render(
    values: Any = None, *files: Path, binary: str = "helm4", kubernetes: str = NEWEST_KUBERNETES
) -> list[Document]:
    """What `helm template` makes of these."""
    return list(_render(json.dumps(values), files, binary, kubernetes))


@lru_cache(maxsize=64)
def _render(values: str, files: tuple[Path, ...], binary: str, kubernetes: str) -> tuple[Document, ...]:
    named = [word for file in files for word in ("--values", str(file))]
    place = ["--namespace", NAMESPACE, "--kube-version", kubernetes]
    done = helm("template", RELEASE, CHART, *place, *named, binary=binary, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def refusal(values: Any, *, kubernetes: str = NEWEST_KUBERNETES) -> str:
    """What Helm says to values that the chart does not take."""
    done = helm("template", RELEASE, CHART, "--kube-version", kubernetes, values=values)
    assert done.returncode != 0, "the chart took the values"
    return done.stderr


def merged(base: Any, more: Any) -> Any:
    """`more` on top of `base`, as Helm adds values up; None removes."""
    if not (isinstance(base, Mapping) and isinstance(more, Mapping)):
        return more
    both = {**base, **{key: merged(base.get(key), value) for key, value in more.items()}}
    return {key: value for key, value in both.items() if value is not None}


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    """The objects of a kind, by name without the release's."""
    return {
        document["metadata"]["name"].removeprefix(f"{RELEASE}-landcover").removeprefix("-"): document
        for document in documents
        if document["kind"] == kind
    }


def pod_specs(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Name and spec of everything that runs."""
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        if document["kind"] == "Pod":
            yield name, document["spec"]
        elif "template" in document.get("spec", {}):
            yield name, document["spec"]["template"]["spec"]


def containers(spec: Document) -> list[Document]:
    """All of a pod, those that run first included."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: Document) -> dict[str, Any]:
    """Variables with their values, or where those come from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}


def expressions(documents: list[Document]) -> Iterator[tuple[str, str]]:
    """Every PromQL expression of alerts, autoscalers and dashboard, and where it is."""
    for rule in of_kind(documents, "PrometheusRule").values():
        for group in rule["spec"]["groups"]:
            for entry in group["rules"]:
                yield entry["alert"], entry["expr"]
    for scaled in of_kind(documents, "ScaledObject").values():
        for trigger in scaled["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                yield f"{scaled['metadata']['name']} {trigger['name']}", trigger["metadata"]["query"]
    for dashboard in of_kind(documents, "ConfigMap").values():
        if "landcover.json" in dashboard["data"]:
            for panel in json.loads(dashboard["data"]["landcover.json"])["panels"]:
                for target in panel.get("targets", []):
                    yield panel["title"], target["expr"]
