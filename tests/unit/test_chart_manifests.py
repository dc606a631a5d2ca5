"""What the chart renders: valid for Kubernetes and for others' resources, alike by Helm 3 and 4, and locked down."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import redis
import yaml
from kombu import Connection

from chart_parts import (
    CHART,
    CI_FILES,
    HELMS,
    NEWEST_KUBERNETES,
    RELEASE,
    ROOT,
    SMALLEST,
    Document,
    containers,
    environment,
    helm,
    merged,
    of_kind,
    pod_specs,
    render,
    tool,
)
from landcover.cli import make_parser
from landcover.local import LocalService, start_broker
from landcover.mapping.engine import IN_FLIGHT_PER_SLOT
from landcover.queue import BULK_QUEUE, BlockTask, make_celery, send_block
from landcover.scene import SceneSource
from landcover.settings import CatalogSettings, ProductSettings
from landcover_worker.service import slots_for
from landcover_worker.settings import WorkerSettings

OLDEST = {"gpu-scale-to-zero-values.yaml": "1.33.0"}
"""Of Kubernetes, where it is not the chart's own: an image volume."""
CI_IDS = [path.name.removesuffix("-values.yaml") for path in CI_FILES]
CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")

every_ci_file = pytest.mark.parametrize("path", CI_FILES, ids=CI_IDS)


def ci(name: str) -> list[Document]:
    return render(None, CHART / "ci" / f"{name}-values.yaml")


def custom_faults(documents: list[Document]) -> list[str]:
    ours = [document for document in documents if document["apiVersion"].startswith(CUSTOM)]
    script = tool("validate.mjs")
    done = subprocess.run(
        ["node", script.name], cwd=script.parent, input=json.dumps(ours), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    faults: list[str] = json.loads(done.stdout)
    return faults


# --- valid -------------------------------------------------------------------------------------------------------


def test_there_is_a_file_for_each_way_to_run_it() -> None:
    assert set(CI_IDS) == {"cpu", "gpu", "gpu-scale-to-zero"}


@pytest.mark.parametrize("binary", HELMS)
@every_ci_file
def test_helm_finds_nothing_to_say(path: Path, binary: str) -> None:
    done = helm("lint", "--strict", CHART, "--kube-version", NEWEST_KUBERNETES, "--values", path, binary=binary)
    assert done.returncode == 0, done.stdout + done.stderr


@every_ci_file
def test_helm_3_and_4_render_the_same(path: Path) -> None:
    assert render(None, path, binary="helm3") == render(None, path, binary="helm4")


@every_ci_file
@pytest.mark.parametrize("newest", [True, False], ids=["newest", "oldest"])
def test_kubernetes_takes_every_object(path: Path, newest: bool) -> None:
    oldest = re.search(r'kubeVersion: ">=([\d.]+)-0"', (CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert oldest
    version = NEWEST_KUBERNETES if newest else OLDEST.get(path.name, oldest[1])
    documents = render(None, path, kubernetes=version)
    assert documents
    for document in documents:
        if not document["apiVersion"].startswith(CUSTOM):
            kubernetes_validate.validate(document, version, strict=True)


@every_ci_file
def test_their_operators_take_the_custom_resources(path: Path) -> None:
    assert custom_faults(render(None, path)) == []


def test_the_check_of_custom_resources_finds_faults() -> None:
    (scaled,) = of_kind(ci("cpu"), "ScaledObject").values()
    wrong = merged(scaled, {"spec": {"cooldownPeriods": 3, "maxReplicaCount": "many"}})
    assert "maxReplicaCount must be integer" in " ".join(custom_faults([wrong]))
    misspelt = merged(scaled, {"spec": {"cooldownPeriods": 3}})
    assert custom_faults([misspelt]) == [
        f"ScaledObject {RELEASE}-landcover-worker-bulk: unknown field spec/cooldownPeriods"
    ]


def test_three_values_install_it() -> None:
    documents = render(SMALLEST)
    assert set(of_kind(documents, "Deployment")) == {"api", "worker-cpu"}
    for document in documents:
        kubernetes_validate.validate(document, NEWEST_KUBERNETES, strict=True)


def test_names_stay_within_limits() -> None:
    for document in render(merged(SMALLEST, {"fullnameOverride": "a" * 60, "workers": {"a-pool-of-15-cc": {}}})):
        assert len(document["metadata"]["name"]) <= 63


# --- locked down: Pod Security "restricted", and more ---------------------------------------------------------------


@every_ci_file
def test_every_pod_is_restricted(path: Path) -> None:
    pods = dict(pod_specs(render(None, path)))
    assert len(pods) >= 3
    for name, spec in pods.items():
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] == security["runAsGroup"] == 10001, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), name
        assert not [volume for volume in spec["volumes"] if "hostPath" in volume], name
        for container in containers(spec):
            inner = container["securityContext"]
            assert inner["allowPrivilegeEscalation"] is False, name
            assert inner["readOnlyRootFilesystem"] is True, name
            assert inner["capabilities"] == {"drop": ["ALL"]}, name
            assert "privileged" not in inner, name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
            assert re.search(r":[^/]*\d|@sha256:[0-9a-f]{64}$", container["image"]), name
            assert not [port for port in container.get("ports", []) if "hostPort" in port], name


@every_ci_file
def test_every_writable_place_is_bounded(path: Path) -> None:
    for name, spec in pod_specs(render(None, path)):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for volume in volumes.values():
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], name
        for container in containers(spec):
            for mount in container["volumeMounts"]:
                volume = volumes[mount["name"]]
                writable = "emptyDir" in volume or mount["name"] == "products"
                assert writable or mount.get("readOnly"), (name, mount)


@every_ci_file
def test_no_password_is_in_a_manifest_that_anybody_reads(path: Path) -> None:
    for document in render(None, path):
        if document["kind"] != "Secret":
            assert not re.search(r"rediss?://[^\s\"]*@|secret@|maps:read:sha256", json.dumps(document))


@every_ci_file
def test_every_deployment_of_ours_has_three_probes(path: Path) -> None:
    deployments = of_kind(render(None, path), "Deployment")
    for name, document in deployments.items():
        if name in ("broker", "cache"):
            continue
        (container,) = document["spec"]["template"]["spec"]["containers"]
        port = "http" if name == "api" else "metrics"
        paths = {
            kind: (container[kind]["httpGet"]["path"], container[kind]["httpGet"]["port"])
            for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert paths == {
            "startupProbe": ("/healthz" if name == "api" else "/startedz", port),
            "livenessProbe": ("/healthz", port),
            "readinessProbe": ("/readyz", port),
        }
        assert {each["name"] for each in container["ports"]} == {port}


@every_ci_file
def test_a_worker_may_finish_what_it_has_begun(path: Path) -> None:
    workers = {name: each for name, each in of_kind(render(None, path), "Deployment").items() if "worker" in name}
    assert workers
    for document in workers.values():
        spec = document["spec"]["template"]["spec"]
        limit = float(environment(spec["containers"][0])["LANDCOVER_WORKER_HARD_LIMIT_S"])
        assert spec["terminationGracePeriodSeconds"] > limit


@every_ci_file
def test_selectors_hold_what_a_new_version_does_not_change(path: Path) -> None:
    for document in of_kind(render(None, path), "Deployment").values():
        labels = document["spec"]["template"]["metadata"]["labels"]
        assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert not [label for label in labels if "version" in label or "chart" in label]


# --- the network ---------------------------------------------------------------------------------------------------


def policies_of(documents: list[Document], component: str) -> list[Document]:
    labels = {
        "app.kubernetes.io/name": "landcover",
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/component": component,
    }

    def selects(selector: Document) -> bool:
        wanted = selector.get("matchLabels", {}).items() <= labels.items()
        return wanted and all(
            labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
        )

    return [each for each in of_kind(documents, "NetworkPolicy").values() if selects(each["spec"]["podSelector"])]


def may_go_to(documents: list[Document], component: str, address: str, port: int) -> bool:
    """Whether a policy lets pods of the component out to an address beyond the cluster's pods."""
    target = ipaddress.ip_address(address)

    def holds(peer: Document) -> bool:
        block = peer.get("ipBlock")
        return bool(
            block
            and target in ipaddress.ip_network(block["cidr"])
            and not any(target in ipaddress.ip_network(hole) for hole in block.get("except", []))
        )

    return any(
        port in [each["port"] for each in rule["ports"]] and ("to" not in rule or any(map(holds, rule["to"])))
        for policy in policies_of(documents, component)
        for rule in policy["spec"].get("egress", [])
    )


def test_everything_is_denied_first() -> None:
    documents = render(SMALLEST)
    deny = of_kind(documents, "NetworkPolicy")["deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    assert all(deny in [each["spec"] for each in policies_of(documents, part)] for part in ("api", "worker", "test"))


@pytest.mark.parametrize("component", ["api", "worker"])
@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("203.0.113.7", 443, True),
        ("203.0.113.7", 80, False),
        ("169.254.169.254", 443, False),  # a cloud's metadata service
        ("10.0.0.1", 443, False),
        ("192.168.1.1", 443, False),
        ("10.0.0.1", 6379, True),  # broker and cache may be anywhere, unless `storesTo` says where
        ("10.0.0.1", 5432, False),
        ("10.0.0.1", 9100, False),
    ],
)
def test_ways_out_by_default(component: str, address: str, port: int, expected: bool) -> None:
    assert may_go_to(render(SMALLEST), component, address, port) is expected


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("10.20.0.9", 6380, True),  # the broker's port, from its URL
        ("10.20.0.9", 6390, True),  # the cache's, from `cache.address`
        ("10.20.0.9", 5432, True),
        ("10.21.0.9", 6380, False),
        ("10.21.0.9", 4318, True),  # the collector of traces
    ],
)
def test_ways_out_where_stores_are_named(address: str, port: int, expected: bool) -> None:
    assert may_go_to(ci("cpu"), "worker", address, port) is expected


def test_listed_origins_are_the_only_ones() -> None:
    documents = ci("gpu-scale-to-zero")
    assert may_go_to(documents, "worker", "203.0.113.9", 8443)
    assert not may_go_to(documents, "worker", "198.51.100.1", 443)


def test_only_the_metrics_port_of_a_worker_is_open() -> None:
    ports = [
        port["port"]
        for policy in policies_of(ci("cpu"), "worker")
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    ]
    assert ports == [9100]


# --- what is said to the processes ---------------------------------------------------------------------------------


def variables_of(documents: list[Document], deployment: str) -> dict[str, Any]:
    spec = of_kind(documents, "Deployment")[deployment]["spec"]["template"]["spec"]
    return environment(spec["containers"][0])


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any]) -> None:
    for name, value in variables.items():
        if isinstance(value, str):
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("name", "deployment", "device", "queues"),
    [
        ("cpu", "worker-cpu", "cpu", ("interactive", "bulk")),
        ("cpu", "worker-bulk", "cpu", ("bulk",)),
        ("gpu", "worker-gpu", "cuda", ("interactive", "bulk")),
        ("gpu-scale-to-zero", "worker-people", "cuda", ("interactive",)),
    ],
)
def test_a_worker_reads_its_pool(
    name: str, deployment: str, device: str, queues: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables_of(ci(name), deployment))
    settings = WorkerSettings()
    assert settings.device == device
    assert settings.queues == queues
    assert settings.metrics_port == 9100
    assert settings.hard_limit_s == (120 if deployment == "worker-bulk" else 60)


def test_the_processes_read_scenes_models_and_products(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = ci("cpu")
    variables = variables_of(documents, "api")
    set_variables(monkeypatch, variables)
    catalogue = CatalogSettings()
    assert catalogue.scenes == ("gsi:seamlessphoto?bbox=139.7,35.6,139.8,35.7", "/etc/landcover/scenes/scenes.yaml")
    (model,) = catalogue.models
    assert re.fullmatch(r"/data/models/landcover-b4\.onnx@sha256:[0-9a-f]{64}", model)
    assert ProductSettings().products == "s3://ortho/landcover"
    assert ProductSettings().products_work == Path("/work")
    listed = yaml.safe_load(of_kind(documents, "ConfigMap")["scenes"]["data"]["scenes.yaml"])["scenes"]
    assert [entry["location"] for entry in listed] == [
        "https://imagery.example.org/chiba.tif",
        "s3://ortho/2025/city.tif",
    ]


@pytest.mark.parametrize("binary", HELMS)
def test_numbers_reach_the_processes_as_they_were_written(binary: str) -> None:
    numbers = {
        "LANDCOVER_READ_MAX_BLOCK_BYTES": 268435456,
        "LANDCOVER_READ_TIMEOUT_S": 7.5,
        "AWS_NO_SIGN_REQUEST": True,
    }
    values = merged(SMALLEST, {"env": numbers, "workers": {"cpu": {"env": {"LANDCOVER_WORKER_THREADS": 12}}}})
    documents = render(values, binary=binary)
    for deployment in ("api", "worker-cpu"):
        variables = variables_of(documents, deployment)
        assert [variables[name] for name in numbers] == ["268435456", "7.5", "true"]
    assert variables_of(documents, "worker-cpu")["LANDCOVER_WORKER_THREADS"] == "12"


@every_ci_file
def test_containers_start_a_command_of_an_image_that_there_is(path: Path) -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    started = set()
    for document in of_kind(render(None, path), "Deployment").values():
        (container,) = document["spec"]["template"]["spec"]["containers"]
        if container["name"] != "valkey":
            image = container["image"].rpartition("/")[2].partition(":")[0]
            assert image.removeprefix("landcover-") in targets
            make_parser().parse_args(container["args"])
            started.add((container["args"][0], image))
    assert ("api", "landcover-api") in started
    assert {command for command, _ in started} == {"api", "worker"}


def test_without_models_the_demonstration_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, variables_of(render(SMALLEST), "api"))
    assert CatalogSettings().models == ()


@every_ci_file
def test_every_variable_is_one_that_is_documented(path: Path) -> None:
    pages = "".join(
        each.read_text(encoding="utf-8") for each in (ROOT / "docs").glob("*.md") if each.name != "kubernetes.md"
    )
    for _, spec in pod_specs(render(None, path)):
        for container in containers(spec):
            for name in environment(container):
                assert not name.startswith("LANDCOVER_") or name in pages, name


def test_a_mig_slice_is_asked_for_by_its_own_name() -> None:
    spec = of_kind(ci("gpu-scale-to-zero"), "Deployment")["worker-people"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert container["image"].startswith("landcover-worker-gpu:")
    assert spec["runtimeClassName"] == "nvidia"
    assert "LANDCOVER_WORKER_CPU_THREADS" not in environment(container)


OCI = "registry.example.org/models/landcover@sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("cpu", {"emptyDir": {"sizeLimit": "2Gi"}}),
        ("gpu", {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}),
        ("gpu-scale-to-zero", {"image": {"reference": OCI, "pullPolicy": "IfNotPresent"}}),
    ],
)
def test_models_come_from_one_place_to_all(name: str, volume: Document) -> None:
    ours = [each for key, each in of_kind(ci(name), "Deployment").items() if key not in ("broker", "cache")]
    assert len(ours) >= 2
    for document in ours:
        spec = document["spec"]["template"]["spec"]
        assert {"name": "models", **volume} in spec["volumes"]
        (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "models")
        assert mount["mountPath"] == "/data/models"
        assert mount["readOnly"] is True


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("rediss://h:1", "rediss://h:1?ssl_cert_reqs=required&ssl_ca_certs=/etc/landcover/broker-ca/ca.crt"),
        (
            "rediss://h:1/0?ssl_cert_reqs=none",
            "rediss://h:1/0?ssl_cert_reqs=none&ssl_ca_certs=/etc/landcover/broker-ca/ca.crt",
        ),
    ],
)
def test_tls_checks_certificates_unless_told_not_to(given: str, expected: str) -> None:
    values = merged(SMALLEST, {"broker": {"url": given, "tls": {"caSecret": "ca"}}})
    url = of_kind(render(values), "Secret")["settings"]["stringData"]["broker-url"]
    assert url == expected


def test_both_clients_of_the_broker_check_certificates() -> None:
    values = merged(SMALLEST, {"broker": {"url": "rediss://h:1/2"}})
    url = of_kind(render(values), "Secret")["settings"]["stringData"]["broker-url"]
    assert Connection(url).ssl["ssl_cert_reqs"].name == "CERT_REQUIRED"
    made = redis.ConnectionPool.from_url(url).make_connection()
    assert made.cert_reqs.name == "CERT_REQUIRED"
    # What the chart adds is needed: kombu alone checks nothing.
    assert Connection("rediss://h:1/2").ssl["ssl_cert_reqs"].name == "CERT_NONE"


# --- scaling -------------------------------------------------------------------------------------------------------


def triggers_of(name: str, pool: str) -> list[Document]:
    found: list[Document] = of_kind(ci(name), "ScaledObject")[f"worker-{pool}"]["spec"]["triggers"]
    return found


def test_a_pool_scales_by_age_and_by_all_work_and_the_list_only_wakes_it() -> None:
    assert [
        (each["type"], each["name"], each.get("metricType")) for each in triggers_of("gpu-scale-to-zero", "people")
    ] == [
        ("metrics-api", "interactive-oldest", "Value"),
        ("metrics-api", "interactive-waiting", "AverageValue"),
        ("metrics-api", "interactive-in-flight", "AverageValue"),
        ("redis", "interactive-wake", None),
    ]
    assert [(each["type"], each["name"]) for each in triggers_of("cpu", "bulk")] == [("prometheus", "blocks")]
    wake = triggers_of("gpu-scale-to-zero", "people")[-1]["metadata"]
    assert (wake["activationListLength"], int(wake["listLength"])) == ("0", 1_000_000)
    assert wake["address"] == "broker.example.org:6380"
    assert wake["enableTLS"] == "true"


@pytest.mark.parametrize(
    ("pool", "max_batch"),
    [
        ({}, 1),
        ({"gpu": {"count": 1}}, 8),
        ({"gpu": {"count": 1}, "env": {"LANDCOVER_WORKER_MAX_BATCH": 32}}, 32),
    ],
    ids=["cpu", "gpu", "large batches"],
)
def test_a_pool_grows_by_what_a_job_keeps_in_the_queue(pool: Document, max_batch: int) -> None:
    slots = slots_for(max_batch)
    scale = {"keda": {"enabled": True, "prometheus": {"serverAddress": "http://p:9090"}}}
    values = merged(
        SMALLEST, {"monitoring": {"serviceMonitor": {"enabled": True}}, "workers": {"cpu": {**pool, **scale}}}
    )
    (scaled,) = of_kind(render(values), "ScaledObject").values()
    threshold = next(each["metadata"]["threshold"] for each in scaled["spec"]["triggers"] if each["name"] == "blocks")
    assert int(threshold) == slots * 3 // 2 < IN_FLIGHT_PER_SLOT * slots

    (scaled,) = of_kind(
        render(merged(values, {"workers": {"cpu": {"keda": {"source": "api"}}}})), "ScaledObject"
    ).values()
    targets = {each["name"]: int(each["metadata"]["targetValue"]) for each in scaled["spec"]["triggers"]}
    # A job that keeps workers busy has `slots` blocks for each in hand, and as many waiting.
    assert targets["bulk-waiting"] == targets["bulk-in-flight"] == slots * 3 // 4 < slots


@every_ci_file
def test_an_autoscaler_and_a_number_of_pods_exclude_each_other(path: Path) -> None:
    documents = render(None, path)
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for kind in ("ScaledObject", "HorizontalPodAutoscaler")
        for each in of_kind(documents, kind).values()
    }
    for document in of_kind(documents, "Deployment").values():
        assert ("replicas" in document["spec"]) is (document["metadata"]["name"] not in scaled)


def test_the_list_that_wakes_a_pool_is_the_one_tasks_are_put_in(tmp_path: Path) -> None:
    documents = ci("gpu-scale-to-zero")
    lists = [
        trigger["metadata"]["listName"]
        for scaled in of_kind(documents, "ScaledObject").values()
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == "redis"
    ]
    assert len(lists) == 2
    service = LocalService()
    try:
        url = start_broker(service, tmp_path)
        app = make_celery(url)
        source = SceneSource(id="a", location="/a.tif")
        task = BlockTask(source=source, version="1", digest="sha256:0", decimation=1, row=0, col=0)
        send_block(app, task)
        send_block(app, task, queue=BULK_QUEUE)
        with redis.Redis.from_url(url) as broker:
            assert [broker.llen(each) for each in lists] == [1, 1]
        app.close()
    finally:
        service.stop()


# --- the dashboard -------------------------------------------------------------------------------------------------


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    (text,) = (
        each["data"]["landcover.json"] for name, each in of_kind(ci("cpu"), "ConfigMap").items() if "dash" in name
    )
    panels = json.loads(text)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_dashboard_begins_with_what_is_wrong() -> None:
    (text,) = (
        each["data"]["landcover.json"] for name, each in of_kind(ci("cpu"), "ConfigMap").items() if "dash" in name
    )
    title, *first = json.loads(text)["panels"][:7]
    assert title["title"].startswith("What is wrong")
    for panel in first:
        assert panel["type"] == "stat"
        assert len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) >= 2


def egress_ports(documents: list[Document]) -> set[int]:
    rules = of_kind(documents, "NetworkPolicy")["out"]["spec"]["egress"]
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_a_number_at_the_end_of_a_host_is_no_port() -> None:
    values = {"database": {"url": "postgresql://u:p@db1/land"}, "tracing": {"endpoint": "http://collector2"}}
    assert egress_ports(render(merged(SMALLEST, values))) == {6379, 5432, 80, 443}
    values = {"database": {"url": "postgresql://u:p@db1:5433/land"}, "tracing": {"endpoint": "http://10.0.0.5:4318"}}
    assert egress_ports(render(merged(SMALLEST, values))) == {6379, 5433, 4318, 443}


def test_what_an_owner_sets_goes_before_what_is_set_for_all() -> None:
    """Zero and false, too."""
    names = {"LANDCOVER_API_MAP_JOBS": (2, 0), "LANDCOVER_API_MAX_JOBS": (1, 9), "LANDCOVER_CACHE_TTL_S": (7, "")}
    everybody = {name: values[0] for name, values in names.items()}
    api = {name: values[1] for name, values in names.items()}
    worker = {"LANDCOVER_WORKER_CUDA_GRAPHS": False}
    documents = render(
        merged(
            SMALLEST,
            {
                "env": everybody | {"LANDCOVER_WORKER_CUDA_GRAPHS": True},
                "api": {"env": api},
                "workers": {"cpu": {"env": worker}},
            },
        )
    )
    found = {name: environment(containers(spec)[-1]) for name, spec in pod_specs(documents)}
    (ours,) = (each for name, each in found.items() if name.endswith("api"))
    (theirs,) = (each for name, each in found.items() if name.endswith("worker-cpu"))
    assert {name: ours[name] for name in names} == {name: str(value) for name, value in api.items()}
    assert theirs["LANDCOVER_WORKER_CUDA_GRAPHS"] == "false"
    assert theirs["LANDCOVER_API_MAX_JOBS"] == "1"


def test_a_new_chart_alone_starts_no_pod_anew(tmp_path: Path) -> None:
    values = json.dumps(merged(SMALLEST, {"scenes": {"catalogue": [{"location": "https://example.org/b.tif"}]}}))
    given = tmp_path / "values.json"
    given.write_text(values)
    copy = tmp_path / "landcover"
    shutil.copytree(CHART, copy)
    manifest = (copy / "Chart.yaml").read_text()
    (copy / "Chart.yaml").write_text(re.sub(r"(?m)^version: .*$", "version: 9.9.9", manifest))
    pods = []
    for chart in (CHART, copy):
        done = helm("template", RELEASE, chart, "--values", given)
        assert done.returncode == 0, done.stderr
        documents = [each for each in yaml.safe_load_all(done.stdout) if each]
        pods.append([each["spec"]["template"] for each in documents if each["kind"] == "Deployment"])
    assert "9.9.9" in done.stdout
    assert pods[0] == pods[1]


def test_keda_is_let_in_where_it_asks_the_api() -> None:
    pool = {"keda": {"enabled": True, "source": "api"}}
    outside = {"apiFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    documents = render(merged(SMALLEST, {"workers": {"cpu": pool}, "networkPolicy": outside}))
    (rule,) = of_kind(documents, "NetworkPolicy")["api"]["spec"]["ingress"]
    assert {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "keda-operator"}}} in rule["from"]


def test_a_gateway_takes_the_path_away_that_it_serves_this_under() -> None:
    route = {"enabled": True, "parentRefs": [{"name": "gateway"}], "path": "/maps"}
    documents = render(merged(SMALLEST, {"httpRoute": route, "api": {"rootPath": "/maps"}}))
    (rule,) = of_kind(documents, "HTTPRoute")["api"]["spec"]["rules"]
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    assert rule["filters"] == [{"type": "URLRewrite", "urlRewrite": rewrite}]


def test_the_api_has_the_time_that_its_pod_has() -> None:
    values = {"api": {"terminationGracePeriodSeconds": 100, "preStopSeconds": 20}}
    (spec,) = (each for name, each in pod_specs(render(merged(SMALLEST, values))) if name.endswith("api"))
    assert environment(containers(spec)[-1])["LANDCOVER_API_SHUTDOWN_S"] == "75"
