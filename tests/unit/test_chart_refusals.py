"""Combinations that the chart refuses, each with a sentence that says what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chart_parts import CHART, SMALLEST, merged, refusal, render
from landcover.queue import TASK_EXPIRES_S

DIGEST = "sha256:" + "0" * 64
MODEL = {"name": "a.onnx", "digest": DIGEST}
NONE: dict[str, Any] = {"url": ""}
KEDA = {
    "monitoring": {"serviceMonitor": {"enabled": True}},
    "workers": {"cpu": {"keda": {"enabled": True, "prometheus": {"serverAddress": "http://p:9090"}}}},
}


def keda(**more: Any) -> dict[str, Any]:
    both: dict[str, Any] = merged(KEDA, {"workers": {"cpu": {"keda": more}}})
    return both


def cpu(**pool: Any) -> dict[str, Any]:
    return {"workers": {"cpu": pool}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "valkey in production": (
        {"valkey": {"enabled": True}, "broker": NONE, "cache": NONE},
        "valkey.enabled starts two servers without a password that keep nothing. Say development=true if that is what "
        "you want, or name your own with broker.url and cache.url.",
    ),
    "valkey and a broker": (
        {"valkey": {"enabled": True}, "development": True},
        "Both valkey.enabled and broker.url or its secret are given: leave one out.",
    ),
    "two brokers": (
        {"broker": {"existingSecret": {"name": "s"}}},
        "Both broker.url and broker.existingSecret.name are given: leave one out.",
    ),
    "no broker": (
        {"broker": NONE},
        "There is no broker: give broker.url (redis:// or rediss://) or broker.existingSecret.name.",
    ),
    "no cache": (
        {"cache": NONE},
        "There is no cache: give cache.url (redis:// or rediss://) or cache.existingSecret.name.",
    ),
    "another scheme": ({"cache": {"url": "http://c"}}, "cache.url has to begin with redis:// or rediss://."),
    "an authority without TLS": (
        {"broker": {"tls": {"caSecret": "ca"}}},
        "broker.tls.caSecret is given, but broker.url speaks no TLS: let it begin with rediss://.",
    ),
    "one server for both": (
        {"cache": {"url": "redis://broker.example.org"}},
        "broker.url and cache.url are one server's. A cache that drops what it used least would drop queued tasks: "
        "give each a server of its own.",
    ),
    "one secret for both": (
        {
            "broker": {"url": "", "existingSecret": {"name": "s", "key": "url"}},
            "cache": {"url": "", "existingSecret": {"name": "s", "key": "url"}},
        },
        "broker.existingSecret and cache.existingSecret are one key of one secret: give broker and cache a "
        "server each.",
    ),
    "two databases": (
        {"database": {"url": "postgresql://d/a", "existingSecret": {"name": "s"}}},
        "Both database.url and database.existingSecret.name are given: leave one out.",
    ),
    "SQLite": (
        {"database": {"url": "sqlite:////tmp/a"}},
        "database.url is SQLite, a file of one pod that ends with it: give a postgresql:// URL.",
    ),
    "two lists of keys": (
        {"apiKeys": {"hashed": [f"a:{DIGEST}"], "existingSecret": {"name": "s"}}},
        "Both apiKeys.hashed and apiKeys.existingSecret.name are given: leave one out.",
    ),
    "a key that is not hashed": (
        {"apiKeys": {"hashed": ["open-sesame"]}},
        "apiKeys.hashed takes hashes only (NAME:read:sha256:…), and one of its entries is none. Keys themselves are "
        "kept by those who use them.",
    ),
    "keys for all, and none": (
        {"apiKeys": {"for": "all"}},
        "apiKeys.for is all, and there are no keys: nobody could read. Give apiKeys.hashed or "
        "apiKeys.existingSecret.name.",
    ),
    "no scenes": (
        {"scenes": {"locations": []}},
        "There is no image to map: give scenes.locations, scenes.catalogue or scenes.existingConfigMap.name.",
    ),
    "two catalogues": (
        {"scenes": {"catalogue": [{"location": "https://e/a.tif"}], "existingConfigMap": {"name": "c"}}},
        "Both scenes.catalogue and scenes.existingConfigMap.name are given: leave one out.",
    ),
    "a file without a volume": (
        {"scenes": {"locations": ["/data/scenes/a.tif"]}},
        "/data/scenes/a.tif is a file in the pods, and there is no volume with it: give scenes.volume, which is "
        "mounted "
        "at /data/scenes.",
    ),
    "an origin that nobody may reach": (
        {"scenes": {"locations": ["https://e/a.tif?signature=hush"]}, "networkPolicy": {"origins": []}},
        "https://e/a.tif lies outside, and networkPolicy.origins lets nobody out: list its network there.",
    ),
    "models from two places": (
        {"models": {"files": [MODEL], "pvc": {"claimName": "m"}, "initContainer": {"image": "i"}}},
        "Models come from one place, and these are given: models.pvc.claimName, models.initContainer.image.",
    ),
    "models from nowhere": (
        {"models": {"files": [MODEL]}},
        "models.files are named, and nothing holds them: give models.pvc.claimName, models.ociImage.reference or "
        "models.initContainer.image.",
    ),
    "a place without models": (
        {"models": {"pvc": {"claimName": "m"}}},
        "models.pvc.claimName is given, and none of its files is named: list them in models.files with their digests.",
    ),
    "a model that is not pinned": (
        {"models": {"files": [{"name": "a.onnx"}], "pvc": {"claimName": "m"}}},
        "The model a.onnx is not pinned: give its digest as sha256:… and 64 hexadecimal digits (landcover models list "
        "shows it).",
    ),
    "an image volume that is not pinned": (
        {"models": {"files": [MODEL], "ociImage": {"reference": "r/m:1"}}},
        "models.ociImage.reference r/m:1 is not pinned: let it end with @sha256:…",
    ),
    "autoscaling upside down": (
        {"api": {"autoscaling": {"minReplicas": 9}}},
        "api.autoscaling.minReplicas is more than its maxReplicas.",
    ),
    "autoscaling by nothing": (
        {"api": {"resources": {"requests": {"cpu": None}}}},
        "api.autoscaling goes by the share of the requested CPU, and api.resources.requests.cpu is not given.",
    ),
    "no time to answer": (
        {"api": {"terminationGracePeriodSeconds": 5}},
        "api.terminationGracePeriodSeconds has to be more than api.preStopSeconds + 5: nothing would be left "
        "for answering.",
    ),
    "products in two places": (
        {"products": {"location": "s3://b", "volume": {"emptyDir": {}}}},
        "Both products.location and products.volume are given: leave one out.",
    ),
    "products in a path": (
        {"products": {"location": "/data/products"}},
        "products.location has to begin with s3://; a folder is given as products.volume.",
    ),
    "a variable of the chart's own": (
        {"env": {"LANDCOVER_BROKER_URL": "redis://other"}},
        "env sets LANDCOVER_BROKER_URL, which the chart sets itself; it comes from broker.",
    ),
    "one in the API": (
        {"api": {"env": {"LANDCOVER_SCENES": "a.tif"}}},
        "api.env sets LANDCOVER_SCENES, which the chart sets itself; it comes from scenes.",
    ),
    "one in a pool": (
        cpu(env={"LANDCOVER_WORKER_DEVICE": "cuda"}),
        "workers.cpu.env sets LANDCOVER_WORKER_DEVICE, which the chart sets itself; it comes from gpu.count of "
        "the pool.",
    ),
    "a pool's name": (
        {"workers": {"A_pool": {}}},
        "workers.A_pool: a pool's name is part of names in the cluster: at most 15 of a-z, 0-9 and -.",
    ),
    "trainers": (
        cpu(queues=["interactive", "bulk", "train"]),
        "workers.cpu takes from 'train', whose rounds need landcover trainer and a disk that is shared with who "
        "submits "
        "them; this chart runs none.",
    ),
    "threads of the network": (
        cpu(env={"LANDCOVER_WORKER_CPU_THREADS": 8}),
        "workers.cpu.env sets LANDCOVER_WORKER_CPU_THREADS, which the chart sets itself; it comes from "
        "resources.requests.cpu of the pool.",
    ),
    "a path that the API does not know": (
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "path": "/maps"}},
        "httpRoute.path is /maps, and api.rootPath is not: the addresses in the API's answers would lead elsewhere. "
        "Make them the same.",
    ),
    "a login that KEDA would leave out": (
        keda(prometheus={"authenticationRef": "login"}),
        "workers.cpu.keda.prometheus.authenticationRef is given without authModes: KEDA would leave it out. Say "
        "bearer, basic, tls or custom.",
    ),
    "an unknown queue": (
        cpu(queues=["fast"]),
        "workers.cpu takes from 'fast', and there is no such queue: they are interactive and bulk.",
    ),
    "no queue": (cpu(queues=[]), "workers.cpu takes from no queue: name interactive, bulk or both."),
    "a queue that nobody takes from": (
        cpu(queues=["interactive"]),
        "No pool takes from 'bulk': what is queued there would wait for ever.",
    ),
    "no pool": (cpu(enabled=False), "No pool of workers is enabled: nothing would ever be mapped."),
    "no time to finish": (
        cpu(terminationGracePeriodSeconds=60),
        "workers.cpu.terminationGracePeriodSeconds is 60, and one block may take hardLimitSeconds (60): a "
        "worker that is "
        "told to stop would be killed over its work. Give it more.",
    ),
    "no GPU's name": (
        cpu(gpu={"count": 1, "resource": "gpu"}),
        "workers.cpu.gpu.resource 'gpu' is no extended resource: they have a slash, as nvidia.com/gpu or "
        "nvidia.com/mig-1g.10gb.",
    ),
    "an update that cannot begin": (
        cpu(rollingUpdate={"maxSurge": 0, "maxUnavailable": 0}),
        "workers.cpu.rollingUpdate allows neither a pod more nor one fewer: no update could begin.",
    ),
    "scaling upside down": (keda(minReplicas=5), "workers.cpu.keda.minReplicas is more than its maxReplicas."),
    "scaling to nothing": (
        keda(minReplicas=0, maxReplicas=0),
        "workers.cpu.keda.maxReplicas is 0: nothing would ever be mapped.",
    ),
    "scaling without Prometheus": (
        keda(prometheus={"serverAddress": ""}),
        "workers.cpu.keda asks Prometheus, and prometheus.serverAddress is not given. Without a Prometheus, say "
        "source: api.",
    ),
    "scaling by what nobody scrapes": (
        merged(keda(), {"monitoring": {"serviceMonitor": {"enabled": False}}}),
        "workers.cpu.keda asks Prometheus for what the API exports, and monitoring.serviceMonitor.enabled is false: "
        "nobody would scrape it.",
    ),
    "a cooldown that is too short": (
        keda(cooldownSeconds=300),
        "workers.cpu.keda.cooldownSeconds is 300, not more than hardLimitSeconds + coldStartSeconds (300): a pod would "
        "go before it has paid for its start.",
    ),
    "a pool that never grows": (
        keda(blocksPerWorker=8),
        "workers.cpu.keda.blocksPerWorker is 8, and a job keeps no more than 8 blocks in the queue for each worker "
        "(twice what it has in hand): the pool would never grow. Give less.",
    ),
    "a cold start that outlasts the tasks": (
        keda(coldStartSeconds=TASK_EXPIRES_S, cooldownSeconds=900),
        "workers.cpu.keda.coldStartSeconds is 600, and a queued block is dropped unread after 600: keep a pod "
        "(minReplicas: 1), or have nodes and images nearer.",
    ),
    "no cold start": (
        keda(coldStartSeconds=0),
        "workers.cpu.keda.coldStartSeconds has to be what a first pod takes: measure it once.",
    ),
    "a broker that KEDA does not find": (
        merged(keda(minReplicas=0), {"broker": {"url": "", "existingSecret": {"name": "s"}}}),
        "workers.cpu.keda.minReplicas is 0, and only a secret knows where the broker is: give broker.address "
        "(host:port), since KEDA looks there for the first task.",
    ),
    "a password that KEDA does not read": (
        merged(keda(minReplicas=0), {"broker": {"url": "redis://:a%40b@h"}}),
        "workers.cpu.keda.minReplicas is 0, and broker.url has a password with %-escapes, which KEDA does not "
        "read: put "
        "it into a secret and name broker.existingSecret.passwordKey.",
    ),
    "an ingress without a host": (
        {"ingress": {"enabled": True}},
        "ingress.enabled is true, and ingress.hosts names none.",
    ),
    "a route without a gateway": (
        {"httpRoute": {"enabled": True}},
        "httpRoute.enabled is true, and httpRoute.parentRefs names no gateway.",
    ),
    "alerts by what nobody scrapes": (
        {"monitoring": {"prometheusRule": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
        "monitoring.prometheusRule goes by figures of API and workers, and nobody scrapes both: enable serviceMonitor "
        "and podMonitor.",
    ),
    "a policy that keeps Prometheus out": (
        {"monitoring": {"serviceMonitor": {"enabled": True}}, "networkPolicy": {"apiFrom": [{"podSelector": {}}]}},
        "networkPolicy.apiFrom names who may reach the API, and Prometheus is not among them: name it in "
        "networkPolicy.metricsFrom.",
    ),
    "a collector with a path": (
        {"tracing": {"endpoint": "http://c:4318/v1/traces"}},
        "tracing.endpoint has to be http://HOST:PORT or https://HOST:PORT, without a path.",
    ),
}


@pytest.mark.parametrize(("values", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_bad_combination_is_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(_on_top(values))


def test_an_image_volume_needs_a_kubernetes_that_has_them() -> None:
    values = merged(SMALLEST, {"models": {"files": [MODEL], "ociImage": {"reference": f"r/m@{DIGEST}"}}})
    assert "which Kubernetes v1.32.0 does not have (1.33 and newer;" in refusal(values, kubernetes="1.32.0")
    assert render(values, kubernetes="1.33.0")


def test_every_sentence_of_the_chart_is_tested() -> None:
    text = (CHART / "templates" / "_check.tpl").read_text(encoding="utf-8")
    written = re.findall(r'fail (?:\(printf )?"((?:[^"\\]|\\.)*)"', text)
    assert len(written) > 40
    said = [sentence for _, sentence in REFUSED.values()]
    for template in written:
        parts = (re.escape(part) for part in re.split(r"%[sd]", template.replace("%%", "%")))
        pattern = ".*".join(parts)
        if "image volume, which Kubernetes" not in template:
            assert any(re.fullmatch(pattern, each) for each in said), template


def _on_top(values: dict[str, Any]) -> dict[str, Any]:
    """`values` on the smallest ones; a None stays, since Helm takes it as "without the default"."""

    def add(base: Any, more: Any) -> Any:
        if not (isinstance(base, dict) and isinstance(more, dict)):
            return more
        return {**base, **{key: add(base.get(key), value) for key, value in more.items()}}

    both: dict[str, Any] = add(dict(SMALLEST), values)
    return both
