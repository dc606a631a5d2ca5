"""The chart's values: a schema that takes nothing else, and a table in the docs that says all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart.values_table import PAGE, VALUES, described, make_table, with_table
from chart_parts import CHART, RELEASE, SMALLEST, helm, merged, of_kind, pod_specs, refusal, render

DEFAULTS: dict[str, Any] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
POOL = SCHEMA["definitions"]["pool"]


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, inner in schema["properties"].items():
        if "$ref" in inner:
            yield from leaves(POOL, (*path, name))
        elif path == () and name in ("workers", "global"):
            continue
        elif "properties" in inner and name != "resources":
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name)


def test_schema_and_defaults_name_the_same_values() -> None:
    for path in leaves(SCHEMA):
        value: Any = DEFAULTS
        for part in path:
            assert part in value, path
            value = value[part]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


def test_the_schema_is_strict_everywhere() -> None:
    found = list(objects(SCHEMA))
    assert len(found) > 30
    for each in found:
        if "properties" not in each["properties"]:
            assert each["additionalProperties"] is False or "$ref" in each["additionalProperties"]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"replicaCount": 3}, "replicaCount"),
        ({"api": {"replica": 3}}, "replica"),
        ({"workers": {"cpu": {"gpus": 1}}}, "gpus"),
        ({"workers": {"cpu": {"keda": {"minReplica": 1}}}}, "minReplica"),
        ({"workerDefaults": {"queue": ["bulk"]}}, "queue"),
        ({"workers": {"cpu": {"replicas": "two"}}}, "replicas"),
        ({"workers": {"cpu": {"hardLimitSeconds": 0}}}, "hardLimitSeconds"),
        ({"workers": {"cpu": {"keda": {"source": "graphite"}}}}, "source"),
        ({"log": {"level": "loud"}}, "level"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"api": {"image": {"digest": "latest"}}}, "digest"),
        ({"models": {"files": [{"name": "../a.pt"}]}}, "name"),
        ({"networkPolicy": {"origins": [{"cidr": "example.org", "ports": [443]}]}}, "cidr"),
        ({"networkPolicy": {"origins": [{"cidr": "10.0.0.0/8"}]}}, "ports"),
        ({"env": {"lower": "x"}}, "lower"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_misspelt_or_impossible_value_is_refused(values: dict[str, Any], where: str) -> None:
    said = refusal(merged(SMALLEST, values))
    assert "schema" in said
    assert where in said


def test_every_value_is_described() -> None:
    text = VALUES.read_text(encoding="utf-8")
    told = {path for path, _ in described(text)}
    for path in leaves(SCHEMA):
        assert any(path[:length] in told for length in range(1, len(path) + 1)), ".".join(path)


def test_the_table_in_the_docs_is_what_values_yaml_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page, make_table(VALUES.read_text(encoding="utf-8"))) == page
    assert page.count("| `workerDefaults.") > 30


def test_a_pool_is_the_defaults_and_what_it_says() -> None:
    values = merged(
        SMALLEST,
        {
            "workerDefaults": {"replicas": 4, "env": {"LANDCOVER_WORKER_MAX_BATCH": 4}},
            "workers": {
                "cpu": {"enabled": False},
                "one": {"replicas": 0, "resources": {"requests": {"cpu": "7"}}},
                "two": {},
            },
        },
    )
    deployments = of_kind(render(values), "Deployment")
    assert set(deployments) == {"api", "worker-one", "worker-two"}
    assert [deployments[f"worker-{name}"]["spec"]["replicas"] for name in ("one", "two")] == [0, 4]
    (one,) = deployments["worker-one"]["spec"]["template"]["spec"]["containers"]
    assert one["resources"]["requests"] == {"cpu": "7", "memory": "2Gi"}
    assert {"name": "LANDCOVER_WORKER_MAX_BATCH", "value": "4"} in one["env"]


def test_a_pool_that_is_set_to_null_is_the_defaults() -> None:
    (pool,) = (
        name
        for name in of_kind(render({**SMALLEST, "workers": {"gpu": {}, "cpu": None}}), "Deployment")
        if name != "api"
    )
    assert pool == "worker-gpu"


def test_a_platform_may_give_out_its_own_numbers() -> None:
    nothing = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    development = {"development": True, "valkey": {"enabled": True}, "broker": {"url": ""}, "cache": {"url": ""}}
    values = {**SMALLEST, **development, "podSecurityContext": nothing}
    pods = dict(pod_specs(render(values)))
    assert len(pods) == 5
    for spec in pods.values():
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_notes_say_where_the_map_is_and_what_is_missing() -> None:
    done = helm("install", RELEASE, CHART, "--dry-run=client", "--namespace", "maps", values=dict(SMALLEST))
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert f"port-forward service/{RELEASE}-landcover-api 8000:80" in notes
    assert f"helm test {RELEASE} --namespace maps" in notes
    assert "cpu: interactive and bulk, 1 pod\n" in notes
    assert re.search(r"There is no database: /annotations answers 503", notes)
    assert "There are no API keys" in notes
