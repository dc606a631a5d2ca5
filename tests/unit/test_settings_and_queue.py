"""Settings from the environment, and what a task carries."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import OperationalError
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from landcover import cli
from landcover.coordination import REQUEUE_AFTER_S
from landcover.local import free_port
from landcover.queue import (
    BLOCK_TASK,
    HARD_LIMIT_S,
    SENT_AT,
    TASK_EXPIRES_S,
    BlockTask,
    make_celery,
    send_block,
    send_blocks,
)
from landcover.scene import SceneSource
from landcover.settings import CatalogSettings, ReadSettings, split_locations
from landcover_worker.intake import Intake
from landcover_worker.service import register
from landcover_worker.settings import WorkerSettings
from servers import Servers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.tif", ("a.tif",)),
        ("a.tif b.tif", ("a.tif", "b.tif")),
        (" a.tif,\n b.tif ,", ("a.tif", "b.tif")),
        ('["a b.tif", "c, d.tif"]', ("a b.tif", "c, d.tif")),
        ("https://host/a.tif?sig=1&x=2", ("https://host/a.tif?sig=1&x=2",)),
        ("", ()),
        ("[]", ()),
    ],
)
def test_locations(monkeypatch: pytest.MonkeyPatch, value: str, expected: tuple[str, ...]) -> None:
    monkeypatch.setenv("LANDCOVER_SCENES", value)
    assert CatalogSettings().scenes == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("interactive", ("interactive",)),
        ("bulk, interactive", ("bulk", "interactive")),
        ("bulk interactive", ("bulk", "interactive")),
        ('["bulk"]', ("bulk",)),
    ],
)
def test_queues(monkeypatch: pytest.MonkeyPatch, value: str, expected: tuple[str, ...]) -> None:
    monkeypatch.setenv("LANDCOVER_WORKER_QUEUES", value)
    assert WorkerSettings().queues == expected


def test_what_is_no_text_passes_unchanged() -> None:
    assert split_locations(("a b",)) == ("a b",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LANDCOVER_SCENES", "[1"),
        ("LANDCOVER_SCENE_REVALIDATE_S", "0"),
        ("LANDCOVER_READ_TIMEOUT_S", "-1"),
        ("LANDCOVER_WORKER_MAX_BATCH", "0"),
        ("LANDCOVER_WORKER_DEVICE", "tpu"),
        ("LANDCOVER_WORKER_QUEUES", '["other"]'),
        ("LANDCOVER_WORKER_QUEUES", "interactive,other"),
        ("LANDCOVER_WORKER_QUEUES", ""),
    ],
)
def test_settings_that_cannot_be(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        (CatalogSettings(), ReadSettings(), WorkerSettings())


def test_a_silent_server_cannot_hold_a_block_past_the_hard_limit() -> None:
    """Its version and five requests in a row, as `ReadSettings.timeout_s` says."""
    assert 6 * ReadSettings().timeout_s <= WorkerSettings().hard_limit_s


def test_the_broker_redelivers_only_after_a_worker_has_surely_given_up() -> None:
    app = make_celery("memory://")
    assert app.conf.broker_transport_options["visibility_timeout"] >= 2 * HARD_LIMIT_S
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_acks_late
    assert not app.conf.task_reject_on_worker_lost
    patient = make_celery("memory://", hard_limit_s=200.5)
    assert patient.conf.broker_transport_options["visibility_timeout"] == 602


TASK = BlockTask(
    source=SceneSource(id="a", location="/a b,ü.tif", bands=(3, 2, 1), rescale=(0, 3000)),
    version="v1", digest="sha256:" + "0" * 64, decimation=2, row=3, col=4,
)  # fmt: skip


@given(st.integers(1, 100), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_task_survives_json_and_keeps_its_key(decimation: int, row: int, col: int) -> None:
    task = TASK.model_copy(update={"decimation": decimation, "row": row, "col": col})
    back = BlockTask.model_validate_json(task.model_dump_json())
    assert back == task
    assert (back.key.index.row, back.key.index.col, back.key.decimation) == (row, col, decimation)
    assert back.key == task.key


@pytest.mark.parametrize("fault", [{"row": -1}, {"decimation": 0}, {"version": None}, {"extra": 1}], ids=str)
def test_a_message_that_is_no_task(fault: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BlockTask.model_validate(TASK.model_dump(mode="json") | fault)


@pytest.mark.parametrize("queue", ["interactive", "bulk"])
def test_sending(queue: str) -> None:
    """The message is on the queue by the task's name, as JSON, and expires long after it may be queued anew.

    A worker whose clock is minutes ahead takes it all the same: the time is absolute, and the sender's.
    """
    app = make_celery("memory://")
    send_block(app, TASK, queue=queue)
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(queue).get(block=False)
    _, arguments, _ = message.payload
    assert message.content_type == "application/json"
    assert message.headers["task"] == BLOCK_TASK
    expires_s = (datetime.fromisoformat(message.headers["expires"]) - datetime.now(UTC)).total_seconds()
    assert 590 < expires_s <= TASK_EXPIRES_S
    assert BlockTask.model_validate(arguments) == TASK
    assert TASK_EXPIRES_S >= 5 * REQUEUE_AFTER_S


def test_sending_many(servers: Servers) -> None:
    """In their order, each as if it were sent alone."""
    url = "redis://{host}:{port}/0".format(**servers.broker.connection_pool.connection_kwargs)
    app = make_celery(url)
    tasks = [TASK.model_copy(update={"col": col}) for col in range(3)]
    send_blocks(app, tasks, queue="bulk")
    send_block(app, TASK, queue="bulk")
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("bulk")
        messages = [queue.get(block=False) for _ in range(4)]
    assert [BlockTask.model_validate(message.payload[1]) for message in messages] == [*tasks, TASK]
    kinds = [{**message.headers, "id": "", "root_id": "", "expires": "", SENT_AT: 0} for message in messages]
    assert all(kind == kinds[-1] for kind in kinds)


def test_sending_many_without_a_broker() -> None:
    app = make_celery(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(OperationalError):
        send_blocks(app, [TASK], queue="bulk")


def test_a_message_that_is_no_task_is_dropped_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    class Maker:
        def make(self, task: BlockTask, *, urgent: bool) -> str:
            raise AssertionError(f"{task} is none")

    app = make_celery("memory://")
    register(app, Maker(), Intake(1, ["interactive"]))
    message = TASK.model_dump(mode="json") | {"row": -7, "version": None}
    message["source"] |= {"location": "", "bands": ["s3cr3t", 2, 3]}
    app.tasks[BLOCK_TASK](**message)
    (record,) = caplog.records
    assert all(field in record.getMessage() for field in ("row", "version", "source.location", "source.bands.0"))
    assert not any(content in caplog.text for content in ("s3cr3t", "-7"))


def test_settings_that_cannot_be_parsed_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Listing(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="LANDCOVER_TEST_")

        limits: tuple[int, ...] = ()

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=lambda _: Listing())
    monkeypatch.setattr(cli, "make_parser", lambda: parser)
    monkeypatch.setattr(cli, "configure_logging", lambda: None)
    monkeypatch.setenv("LANDCOVER_TEST_LIMITS", "1,2")
    assert cli.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith('landcover: error parsing value for field "limits"')
    assert error.count("\n") == 1
