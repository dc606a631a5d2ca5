"""The worker's port says whether it lives and is ready, by what it is at."""

from __future__ import annotations

import http.client
import json
import time
from types import SimpleNamespace

import pytest
from celery.worker import state as worker_state

from landcover import local
from landcover.errors import InvalidConfiguration
from landcover.grid import BlockIndex
from landcover.keys import BlockKey
from landcover_worker.probes import Probes
from landcover_worker.service import not_taking_tasks
from landcover_worker.supervision import BlocksInHand

KEY = BlockKey("scene", "v1", "sha256:" + "0" * 64, 1, BlockIndex(0, 0))
OTHER = BlockKey("scene", "v1", "sha256:" + "0" * 64, 1, BlockIndex(0, 1))


class Desk:
    """Renews what it is asked to."""

    def renew(self, key: BlockKey) -> bool:
        return True


@pytest.fixture
def port() -> int:
    return local.free_port()


def ask(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def in_hand(hard_limit_s: float) -> BlocksInHand:
    return BlocksInHand(Desk(), hard_limit_s, period_s=0.01, end=lambda _: None)  # type: ignore[arg-type]


def test_a_process_that_starts_lives_and_is_not_ready(port: int) -> None:
    Probes().serve("127.0.0.1", port)
    assert ask(port, "/healthz") == (200, '{"status": "alive"}')
    assert ask(port, "/startedz")[0] == 503
    status, body = ask(port, "/readyz")
    assert status == 503 and "models are not loaded" in json.loads(body)["detail"]
    status, text = ask(port, "/metrics")
    assert status == 200 and "# TYPE landcover_worker_blocks_total counter" in text
    assert ask(port, "/else")[0] == 404


def test_a_taken_port_is_a_sentence(port: int) -> None:
    Probes().serve("127.0.0.1", port)
    with pytest.raises(InvalidConfiguration, match="LANDCOVER_WORKER_METRICS_PORT"):
        Probes().serve("127.0.0.1", port)


def test_it_lives_while_something_advances(port: int) -> None:
    probes, blocks = Probes(), in_hand(0.1)
    probes.not_live = blocks.stalled
    probes.serve("127.0.0.1", port)
    assert blocks.since_progress_s() == 0
    with blocks.holding(KEY) as one, blocks.holding(OTHER) as other:
        one.wait()
        other.wait()
        assert ask(port, "/healthz")[0] == 200
        time.sleep(0.3)  # both wait for a network that no thread serves
        status, body = ask(port, "/healthz")
        assert status == 503 and "no block in hand has advanced" in body
        other.enter("infer")  # it goes on after all, with one of them
        assert ask(port, "/healthz")[0] == 200
    time.sleep(0.3)
    assert ask(port, "/healthz")[0] == 200  # nothing in hand


def test_a_block_that_ends_is_progress_for_those_that_wait() -> None:
    blocks = in_hand(60)
    with blocks.holding(KEY) as waiting:
        waiting.wait()
        time.sleep(0.2)
        before = blocks.since_progress_s()
        with blocks.holding(OTHER):
            pass
        assert blocks.since_progress_s() < before


def test_it_is_ready_while_its_consumer_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = SimpleNamespace(consumer=None)
    assert "not connected" in not_taking_tasks(worker)
    worker.consumer = SimpleNamespace(connection=None)
    assert "not connected" in not_taking_tasks(worker)
    worker.consumer.connection = object()
    assert not_taking_tasks(worker) == ""
    monkeypatch.setattr(worker_state, "should_stop", 0)
    assert "stopped" in not_taking_tasks(worker)
