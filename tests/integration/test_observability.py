"""What a running service says of itself is what was done with it: metrics, probes, traces, logs of real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import morecantile
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rasterio.warp import transform as transform_points

from landcover import local
from landcover.catalog import expand_scenes
from landcover.contract import read_model
from landcover.grid import Grid, grid_for
from landcover.scene import current_version, describe
from landcover.settings import ReadSettings
from onnx_models import pixel_contract, write_pixel_model
from otlp_receiver import running_receiver
from running import descendants

BLOCKS = 24


class Scrape(dict[str, float]):
    """Samples by name and labels, as Prometheus writes them: `name{a="1",b="2"}`."""

    def sum(self, name: str) -> float:
        return sum(value for sample, value in self.items() if sample.partition("{")[0] == name)


def scrape(url: str) -> Scrape:
    """Over a connection of its own, so that any of several processes may answer."""
    answer = httpx.get(f"{url}/metrics", timeout=20)
    assert answer.status_code == 200
    found = Scrape()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found, f"{key} is told twice"
            found[key] = sample.value
    return found


def ask(url: str) -> int:
    """Until it is there; how many requests that took."""
    for number in range(1, 5):
        answer = httpx.get(url, timeout=90)
        assert answer.status_code == 200
        if not answer.json()["pending"]:
            return number
    raise AssertionError("it does not come")


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@dataclass
class Running:
    """Processes whose logs are in files."""

    folder: Path
    env: dict[str, str]
    scene: str
    grid: Grid
    processes: local.LocalService = field(default_factory=local.LocalService)
    api: str = ""
    worker: str = ""

    def _start(self, name: str, *words: str, **env: str) -> None:
        command = ["sh", "-c", 'exec "$0" "$@" 2>>"$LOG"', *local.landcover_command(*words)]
        self.processes.add(name, command, self.env | env | {"LOG": str(self.folder / f"{name}.log")})

    def start_api(self, *words: str) -> None:
        port = local.free_port()
        self._start("api", "api", "--port", str(port), *words)
        self.api = f"http://127.0.0.1:{port}"
        wait_for(lambda: bool(local.readiness(self.api)), "the API is not ready")

    def start_worker(self) -> None:
        port = local.free_port()
        self._start("worker", "worker", LANDCOVER_WORKER_METRICS_PORT=str(port))
        self.worker = f"http://127.0.0.1:{port}"

    def child(self, name: str) -> local.Child:
        return next(child for child in self.processes.children if child.name == name)

    def stop(self, name: str) -> None:
        self.child(name).stop()

    def pid(self, name: str) -> int:
        process = self.child(name).process
        assert process is not None
        return process.pid

    def log(self, name: str) -> list[str]:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8").splitlines()

    def point(self, number: int) -> str:
        """The address of a point in the middle of a block: each number another block."""
        across = self.grid.width_px // self.grid.block_px
        row, col = divmod(number, across)
        half = self.grid.block_px / 2
        x, y = self.grid.transform @ (col * self.grid.block_px + half, row * self.grid.block_px + half)
        (lon,), (lat,) = transform_points(self.grid.crs, "OGC:CRS84", [x], [y])
        return f"{self.api}/scenes/{self.scene}/landcover/point/{lon},{lat}?wait=60"


@pytest.fixture
def running(demo_scene: Path, tmp_path: Path) -> Iterator[Running]:
    """A broker and a cache, and settings for processes that a test starts itself."""
    model = write_pixel_model(tmp_path / "pixels.onnx", pixel_contract("pixels"), busy_loops=10)
    (source,) = expand_scenes(str(demo_scene))
    read = ReadSettings()
    scene = describe(source, current_version(source, read), read)
    env = {"LANDCOVER_SCENES": str(demo_scene), "LANDCOVER_MODELS": str(model)}
    found = Running(tmp_path, env, source.id, grid_for(scene, read_model(model).contract))
    try:
        found.env["LANDCOVER_BROKER_URL"] = local.start_broker(found.processes, tmp_path)
        found.env["LANDCOVER_CACHE_URL"] = local.start_cache(found.processes, tmp_path)
        yield found
    finally:
        found.processes.stop()


def test_scrapes_tell_what_the_load_did_whichever_process_answers(running: Running) -> None:
    running.start_api("--processes", "2")
    with ThreadPoolExecutor(BLOCKS) as clients:
        asked = [clients.submit(ask, running.point(number)) for number in range(BLOCKS)]
        wait_for(
            lambda: scrape(running.api)['landcover_queue_blocks_waiting{queue="interactive"}'] == BLOCKS, "no tasks"
        )
        for _ in range(6):  # nobody works yet, so nothing changes but the age
            found = scrape(running.api)
            assert found['landcover_queue_blocks_waiting{queue="interactive"}'] == BLOCKS
            assert found['landcover_queue_blocks_in_flight{queue="interactive"}'] == 0
            assert found['landcover_queue_blocks_waiting{queue="bulk"}'] == 0
            assert found['landcover_queue_oldest_seconds{queue="interactive"}'] > 0
            assert found['landcover_queue_oldest_seconds{queue="bulk"}'] == 0
            assert found["landcover_workers"] == 0
            assert found["landcover_broker_up"] == found["landcover_cache_up"] == 1
            assert found["landcover_api_requests_waiting"] == BLOCKS
            assert found["landcover_api_blocks_queued_total"] == BLOCKS
            assert found['landcover_api_cache_lookups_total{outcome="miss",tier="block"}'] == BLOCKS
        running.start_worker()
        during = [scrape(running.api) for _ in range(3)]
        wait_for(lambda: during.append(scrape(running.api)) or all(each.done() for each in asked), "no answers")
        requests = sum(each.result() for each in asked)
    waiting = [each['landcover_queue_blocks_waiting{queue="interactive"}'] for each in during]
    assert waiting == sorted(waiting, reverse=True)  # tasks are taken, and none is put back
    assert max(each['landcover_queue_blocks_in_flight{queue="interactive"}'] for each in during) > 0

    wait_for(lambda: scrape(running.worker)["landcover_worker_blocks_running"] == 0, "blocks stay in hand")
    worker = scrape(running.worker)
    assert worker['landcover_worker_blocks_total{outcome="made"}'] == worker.sum("landcover_worker_blocks_total")
    assert worker['landcover_worker_blocks_total{outcome="made"}'] == BLOCKS
    assert worker["landcover_worker_attempts_total"] == BLOCKS
    assert worker["landcover_worker_dead_letters_total"] == 0
    assert worker['landcover_worker_task_wait_seconds_count{queue="interactive"}'] == BLOCKS
    assert worker['landcover_worker_task_wait_seconds_count{queue="bulk"}'] == 0
    assert worker["landcover_worker_batch_windows_sum"] == BLOCKS
    assert worker["landcover_worker_batch_wait_seconds_count"] == BLOCKS
    stages = {stage: worker[f'landcover_worker_stage_seconds_count{{stage="{stage}"}}'] for stage in ("read", "encode")}
    assert stages == {"read": BLOCKS, "encode": BLOCKS}
    assert worker['landcover_worker_stage_seconds_count{stage="store"}'] == BLOCKS
    assert (
        worker['landcover_worker_stage_seconds_count{stage="infer"}'] == worker["landcover_worker_batch_windows_count"]
    )
    assert worker["landcover_worker_pixels_total"] == BLOCKS * running.grid.block_px**2
    assert worker["landcover_worker_last_progress_seconds"] == 0
    model = read_model(Path(running.env["LANDCOVER_MODELS"]))
    named = f'digest="{model.digest}",model="pixels"'
    assert worker[f'landcover_worker_model_info{{{named},provider="CPUExecutionProvider"}}'] == 1

    route = "/scenes/{scene}/landcover/point/{lon},{lat}"
    wait_for(lambda: scrape(running.api).sum("landcover_queue_blocks_in_flight") == 0, "tasks stay in flight")
    for _ in range(6):
        found = scrape(running.api)
        assert found[f'landcover_api_requests_total{{route="{route}",status="200"}}'] == requests
        assert found[f'landcover_api_request_seconds_count{{route="{route}"}}'] == requests
        assert found["landcover_api_requests_waiting"] == 0
        assert found["landcover_workers"] == 1
        assert found.sum("landcover_queue_blocks_waiting") == found.sum("landcover_queue_oldest_seconds") == 0
        assert found[f'landcover_api_model_info{{default="true",{named}}}'] == 1
    for number in range(BLOCKS):
        assert httpx.get(running.point(number)).status_code == 200
    assert scrape(running.api)['landcover_api_cache_lookups_total{outcome="hit",tier="block"}'] == BLOCKS
    assert scrape(running.worker)["landcover_worker_attempts_total"] == BLOCKS
    queues = httpx.get(f"{running.api}/queues").json()
    idle = {"waiting": 0, "in_flight": 0, "oldest_s": 0.0}
    assert queues == {"queues": dict.fromkeys(("interactive", "bulk", "train"), idle), "dead_letters": 0, "workers": 1}
    _check_that_the_killed_leave_their_counts_and_no_waiters(running)


def _check_that_the_killed_leave_their_counts_and_no_waiters(running: Running) -> None:
    """With both processes of the API gone, and two others in their place."""
    running.stop("worker")
    before = scrape(running.api)["landcover_api_blocks_queued_total"]
    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(httpx.get, running.point(BLOCKS + number), timeout=90) for number in range(4)]
        wait_for(lambda: scrape(running.api)["landcover_api_blocks_queued_total"] == before + 4, "nothing is queued")
        assert scrape(running.api)["landcover_api_requests_waiting"] == 4
        children = descendants(running.pid("api"))
        serving = {pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}
        assert len(serving) == 2
        for pid in serving:
            os.kill(pid, signal.SIGKILL)
        assert all(isinstance(each.exception(), httpx.TransportError) for each in asked)
    wait_for(lambda: bool(local.readiness(running.api)), "no new process")
    found = scrape(running.api)
    assert found["landcover_api_requests_waiting"] == 0
    assert found["landcover_api_blocks_queued_total"] == before + 4


def test_a_broker_that_is_silent_or_gone_is_told_and_holds_up_nothing(running: Running) -> None:
    running.start_api()
    running.start_worker()
    wait_for(lambda: _status(f"{running.worker}/readyz") == 200, "the worker is not ready")
    assert _status(f"{running.worker}/healthz") == 200
    os.kill(running.pid("broker"), signal.SIGSTOP)
    try:
        found = scrape(running.api)
        assert httpx.get(f"{running.api}/queues", timeout=20).status_code == 503
    finally:
        os.kill(running.pid("broker"), signal.SIGCONT)
    assert (found["landcover_broker_up"], found["landcover_cache_up"]) == (0, 1)
    assert not [name for name in found if name.startswith(("landcover_queue_", "landcover_workers"))]
    wait_for(lambda: scrape(running.api)["landcover_broker_up"] == 1, "the broker is not back")

    os.kill(running.pid("broker"), signal.SIGKILL)
    wait_for(lambda: _status(f"{running.worker}/readyz") == 503, "the worker has not noticed")
    assert _status(f"{running.worker}/healthz") == 200  # to end it would help nobody
    found = scrape(running.api)
    assert found["landcover_broker_up"] == 0
    assert not [name for name in found if name.startswith("landcover_queue_")]


def test_one_trace_and_one_request_id_from_the_client_to_the_network(running: Running) -> None:
    trace, caller, request = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "client:7"
    with running_receiver() as receiver:
        running.env |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "LANDCOVER_LOG_FORMAT": "json",
            "LANDCOVER_LOG_LEVEL": "DEBUG",
        }
        running.start_api()
        running.start_worker()
        wait_for(lambda: _status(f"{running.worker}/readyz") == 200, "the worker is not ready")
        tile = re.sub(r"/point/.*", "", running.point(0)) + f"/tiles/WebMercatorQuad/{_tile_of(running)}.png"
        headers = {"X-Request-ID": request, "traceparent": f"00-{trace}-{caller}-01"}
        cold = httpx.get(tile, params={"wait": 60, "key": "hunter2"}, headers=headers, timeout=90)
        assert cold.status_code == 200 and "Landcover-Pending" not in cold.headers
        warm = [httpx.get(tile, headers={"X-Request-ID": sent}) for sent in ("sane-1", "<not sane>")]
        wanted = {"block", "read", "infer", "encode", "store", "batch", "blocks send", "draw", "GET warm tile"}
        wait_for(lambda: wanted <= {span.name for span in receiver.spans}, f"of {wanted} some spans do not come")
        time.sleep(0.5)  # whatever else is on its way
    assert cold.headers["X-Request-ID"] == request
    assert warm[0].headers["X-Request-ID"] == "sane-1"
    assert "sane" not in warm[1].headers["X-Request-ID"] and warm[1].headers["X-Request-ID"]

    ours = [span for span in receiver.spans if span.trace == trace]
    by_name = {span.name: span for span in ours}
    by_id = {span.id: span for span in ours}
    server = by_name["GET /scenes/{scene}/landcover/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}"]
    assert (server.service, server.parent) == ("landcover-api", caller)
    assert server.attributes["landcover.request_id"] == request
    assert server.attributes["http.response.status_code"] == 200
    blocks = [span for span in ours if span.name == "block"]
    assert blocks and {span.service for span in blocks} == {"landcover-worker"}
    assert {by_id[span.parent].name for span in blocks} == {"blocks send"}
    assert {span.attributes["landcover.outcome"] for span in blocks} == {"made"}
    for stage in ("describe", "read", "infer", "encode", "store"):
        spans = [span for span in ours if span.name == stage]
        assert sorted(span.parent for span in spans) == sorted(span.id for span in blocks)
    batches = [span for span in receiver.spans if span.name == "batch"]
    infers = {span.id for span in ours if span.name == "infer"}
    assert set().union(*(span.links for span in batches)) == infers
    assert sum(int(span.attributes["landcover.windows"]) for span in batches) == len(blocks)
    assert not any(span.failed for span in receiver.spans)
    assert "hunter2" not in repr(receiver.spans)

    logs = {name: [json.loads(line) for line in running.log(name)] for name in ("api", "worker")}
    assert {record["logger"] for record in logs["api"]} >= {"uvicorn.error", "landcover_api.correlate"}
    made = [record for record in logs["worker"] if record["message"].endswith(": made")]
    assert len(made) == len(blocks)
    assert {record["request_id"] for record in made} == {request}
    answered = [each["request_id"] for each in logs["api"] if re.match(r"GET .*/tiles/", each["message"])]
    assert answered[0] == request and answered.count(request) == 1
    assert {record["trace_id"] for record in made} == {trace}
    assert "hunter2" not in repr(logs)


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=20).status_code
    except httpx.TransportError:
        return 0


def _tile_of(running: Running) -> str:
    scene = httpx.get(
        f"{running.api}/scenes/{running.scene}/landcover/WebMercatorQuad/tilejson.json?tilesize=256"
    ).json()
    lon, lat, _ = scene["center"]
    tile = morecantile.tms.get("WebMercatorQuad").tile(lon, lat, int(scene["maxzoom"]) - 1)
    return f"{tile.z}/{tile.x}/{tile.y}"
