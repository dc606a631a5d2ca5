"""`landcover queue` and `GET /queues`, against real servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from test_dead_letters import bury, claim, take, task, url_of

from landcover.catalog import demo_model_path
from landcover.cli import main
from landcover.coordination import Claim
from landcover.dead_letters import read_dead_letters
from landcover.keys import WORKER_PREFIX
from landcover.local import free_port
from landcover.queue import make_celery, send_blocks
from landcover.settings import BrokerSettings, CacheSettings, CatalogSettings, DatabaseSettings
from landcover_api.app import create_app
from rasters import noise, write_tif
from servers import Servers


@pytest.fixture(autouse=True)
def settings(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDCOVER_BROKER_URL", url_of(servers))
    monkeypatch.setenv("LANDCOVER_CACHE_URL", "redis://{host}:{port}/0".format(**_address(servers)))
    monkeypatch.setenv("COLUMNS", "200")


def _address(servers: Servers) -> dict[str, object]:
    found: dict[str, object] = servers.cache.connection_pool.connection_kwargs
    return found


def run(*words: str) -> int:
    return main(["queue", *words])


def send(servers: Servers, *columns: int, queue: str = "interactive") -> None:
    for col in columns:
        claim(servers, task(col), queue)
    with make_celery(url_of(servers)) as app:
        send_blocks(app, [task(col) for col in columns], queue=queue)


def test_it_shows_what_waits_and_what_is_set_aside(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    send(servers, 0, 1)
    bury(servers, task(7))
    assert run() == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["interactive", "2"] in [line[:2] for line in lines]
    assert ["bulk", "0", "-", "0"] in lines
    assert "no worker is there to take them" in shown
    assert "dead letters: 1" in shown
    assert task(7).key.text in shown and "failed 3 times." in shown
    assert "/a.tif" not in shown  # a location may be signed


def test_of_many_letters_the_newest_are_shown(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    for col in range(23):
        bury(servers, task(col))
    run()
    shown = capsys.readouterr().out
    assert task(22).key.text in shown and f"{task(2).key.text} " not in shown
    assert "… and 3 older ones" in shown


def test_as_json(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    send(servers, 0, queue="bulk")
    servers.broker.set(f"{WORKER_PREFIX}1", "{}")
    bury(servers, task(7))
    assert run("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["queues"]["bulk"]["waiting"] == 1
    assert found["workers"] == 1
    (letter,) = found["dead_letters"]
    assert (letter["key"], letter["scene"], letter["row"], letter["col"]) == (task(7).key.text, "a", 3, 7)
    assert "location" not in json.dumps(found)


def test_letters_are_queued_again_by_name_and_by_pattern(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    for col in range(4):
        bury(servers, task(col))
    assert run("requeue", task(2).key.text) == 0
    assert take(servers, "bulk") == [task(2)]
    assert run("requeue", "g1:a:*", "--queue", "interactive", "--yes") == 0
    assert {each.col for each in take(servers, "interactive")} == {0, 1, 3}
    assert read_dead_letters(servers.broker) == {}
    assert "3 queued, 0 asked for by others meanwhile, 0 made meanwhile" in capsys.readouterr().out
    assert run("requeue", "--all") == 0
    assert "There is nothing to queue." in capsys.readouterr().out


def test_what_waits_is_dropped(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    send(servers, 0, 1, queue="bulk")
    assert run("drop", "--queue", "bulk", "--yes") == 0
    assert "2 tasks dropped." in capsys.readouterr().out
    assert claim(servers, task(0), "bulk") is Claim.CLAIMED
    assert run("drop", "--queue", "bulk", "--yes") == 0
    assert "Nothing waits in 'bulk'." in capsys.readouterr().out


def test_a_question_first(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(servers, task(0))
    assert run("drop", "--all") == 1
    assert "Forget 1 dead letter? There is nobody to ask here: say --yes." in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert run("drop", "--all") == 1
    assert "Nothing was changed." in capsys.readouterr().err
    assert len(read_dead_letters(servers.broker)) == 1
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert run("drop", "--all") == 0
    assert "1 dead letter forgotten." in capsys.readouterr().out
    assert read_dead_letters(servers.broker) == {}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["requeue"], "Say which dead letters: their KEYs (`landcover queue` shows them), or --all."),
        (["requeue", "x", "--all"], "Say which dead letters"),
        (["requeue", "x"], "There is no dead letter 'x'"),
        (["drop"], "or --all, or --queue NAME."),
        (["drop", "--queue", "bulk", "--all"], "not both"),
    ],
)
def test_what_cannot_be_meant(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 1
    assert sentence in capsys.readouterr().err


def test_without_a_broker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    monkeypatch.setenv("LANDCOVER_BROKER_URL", f"redis://:secret@127.0.0.1:{port}/0")
    assert run() == 1
    said = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in said and "not reachable" in said
    assert "secret" not in said


def client(servers: Servers, folder: Path, broker_url: str) -> TestClient:
    app = create_app(
        catalog=CatalogSettings(
            scenes=(str(write_tif(folder / "a.tif", noise(64, 64))),), models=(str(demo_model_path()),)
        ),
        broker=BrokerSettings(broker_url=broker_url),
        cache=CacheSettings(),
        database=DatabaseSettings(database_url=f"sqlite:///{folder / 'a.sqlite'}"),
    )
    return TestClient(app)


def test_the_queues_over_http(servers: Servers, tmp_path: Path) -> None:
    send(servers, 0, 1, queue="bulk")
    bury(servers, task(7))
    with client(servers, tmp_path, url_of(servers)) as http:
        answer = http.get("/queues")
    assert answer.status_code == 200
    found = answer.json()
    assert 0 < found["queues"]["bulk"].pop("oldest_s") < 60
    nothing = {"waiting": 0, "in_flight": 0, "oldest_s": 0.0}
    assert found == {
        "queues": {"interactive": nothing, "bulk": {"waiting": 2, "in_flight": 0}, "train": nothing},
        "dead_letters": 1,
        "workers": 0,
    }


def test_the_queues_over_http_without_a_broker(servers: Servers, tmp_path: Path) -> None:
    with client(servers, tmp_path, f"redis://127.0.0.1:{free_port()}/0") as http:
        answer = http.get("/queues")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The broker is not reachable at the moment; try again in a few seconds."
    assert "retry-after" in answer.headers


def test_without_a_worker_it_says_that_tasks_do_not_wait_for_ever(
    servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(servers, task(7))
    assert run("requeue", "--all", "--yes") == 0
    assert "No worker is there: what waits for 10 minutes is dropped" in capsys.readouterr().out
    bury(servers, task(8))
    servers.broker.set(f"{WORKER_PREFIX}a", "{}")
    assert run("requeue", "--all", "--yes") == 0
    assert "No worker" not in capsys.readouterr().out
