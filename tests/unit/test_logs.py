"""What a log line looks like, whoever wrote it, and what it never says."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from landcover.cli import main
from landcover.correlation import is_sane, new_id, request_of, task_headers, working_for
from landcover.errors import InvalidConfiguration
from landcover.logs import configure_logging

SIGNED = "https://bucket.example/a.tif?X-Amz-Signature=5eC4e7"
BROKER = "redis://:hunter2@broker:6379/0"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # `force` would close pytest's
    yield
    root.handlers = handlers
    root.setLevel(level)


Written = pytest.CaptureFixture[str]


def fail(logger: str) -> None:
    try:
        raise OSError(f"{SIGNED} is away")
    except OSError:
        logging.getLogger(logger).exception("no answer from %s", BROKER)


@pytest.mark.parametrize("logger", ["landcover_api.blocks", "uvicorn.error", "celery.worker", "kombu.connection"])
@pytest.mark.parametrize("form", ["console", "json"])
def test_every_logger_has_the_same_format_and_no_secrets(capsys: Written, form: str, logger: str) -> None:
    configure_logging("INFO", form)
    with working_for("abc-1"):
        fail(logger)
    text = capsys.readouterr().err
    assert "hunter2" not in text and "5eC4e7" not in text
    if form == "json":
        (line,) = text.splitlines()
        document = json.loads(line)
        assert document["level"] == "ERROR" and document["logger"] == logger
        assert document["message"] == "no answer from redis://***@broker:6379/0"
        assert document["request_id"] == "abc-1"
        assert (
            document["exception"].startswith("Traceback") and "OSError: https://bucket.example" in document["exception"]
        )
    else:
        head, *traceback = text.splitlines()
        assert head.endswith(f"ERROR   {logger}: no answer from redis://***@broker:6379/0 [request abc-1]")
        assert traceback[0].startswith("Traceback") and traceback[-1].startswith(
            "OSError: https://bucket.example/a.tif"
        )


def test_a_message_of_several_lines_is_one_line_of_json(capsys: Written) -> None:
    configure_logging("INFO", "json")
    logging.getLogger("landcover").warning("one\ntwo %s", '"three"')
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == 'one\ntwo "three"'
    assert "request_id" not in json.loads(line)


def test_a_record_may_name_the_request_itself(capsys: Written) -> None:
    configure_logging("INFO", "json")
    logging.getLogger("landcover").error("hung", extra={"request_id": "theirs"})
    assert json.loads(capsys.readouterr().err)["request_id"] == "theirs"


@pytest.mark.parametrize(("level", "form"), [("LOUD", "console"), ("INFO", "xml")])
def test_a_wrong_setting_is_a_sentence(level: str, form: str) -> None:
    with pytest.raises(InvalidConfiguration, match="must be"):
        configure_logging(level, form)


def test_the_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: Written) -> None:
    monkeypatch.setenv("LANDCOVER_LOG_FORMAT", "xml")
    assert main(["models", "list"]) == 1
    assert "LANDCOVER_LOG_FORMAT must be console or json" in capsys.readouterr().err


def test_what_ends_a_process_or_a_thread_is_logged_too() -> None:
    program = (
        "import threading\n"
        "from landcover.logs import configure_logging, log_uncaught\n"
        "configure_logging('INFO', 'json'); log_uncaught()\n"
        f"def fail(): raise OSError('{SIGNED}')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "fail()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert [line["message"] for line in lines] == ["uncaught error", "uncaught error"]
    assert all("OSError" in line["exception"] for line in lines)
    assert "5eC4e7" not in done.stderr


@pytest.mark.parametrize(
    ("text", "sane"),
    [
        ("5f2a-1", True),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", True),
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        ("a b", False),
        ("a\nlevel=ERROR", False),
        ("<script>", False),
        ("é", False),
    ],
)
def test_ids_of_clients_are_taken_if_they_are_sane(text: str, sane: bool) -> None:
    assert is_sane(text) is sane


def test_ids_are_sane_and_differ() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000 and all(map(is_sane, ids))


def test_a_task_takes_the_id_along() -> None:
    assert task_headers() == {}
    with working_for("abc-1"):
        assert request_of(task_headers()) == "abc-1"
    assert (
        request_of({"landcover_request_id": "a\nb"}) == request_of({"landcover_request_id": 7}) == request_of({}) == ""
    )
