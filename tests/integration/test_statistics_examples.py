"""What docs/statistics.md tells people to type gives what it says."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from landcover_api.settings import ApiSettings
from running import Service

PAGE = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
ANYWHERE = "http://127.0.0.1:8000"
STATISTICS = "/scenes/demo/landcover/statistics"


def blocks(language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def table(*head: str) -> list[list[str]]:
    """The cells below a table's head."""
    lines = PAGE.split("| " + " | ".join(head) + " |\n", 1)[1].splitlines()
    found: list[list[str]] = []
    for line in lines[1:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip().strip("`") for cell in line.strip("|").split(" | ")])
    return found


FIELD = blocks("json")[0]
(PYTHON,) = blocks("python")
(JAVASCRIPT,) = blocks("js")
COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]
CURLS = [line for line in COMMANDS if line.startswith("curl")]
REFUSED = table("body", "status", "sentence")
MENDED = table("body", "note")


@pytest.fixture
def mapped(shared_service: Service) -> Service:
    """The session's service, with the field mapped by both of its models."""
    until_s = time.monotonic() + 300
    with shared_service.client as client:
        for model in ("landcover-demo", "pixels"):
            while client.post(f"{STATISTICS}?model={model}&wait=60", content=FIELD).status_code != 200:
                assert time.monotonic() < until_s, "the field is not mapped"
                time.sleep(1)
    shared_service.settle()
    return shared_service


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the file that the examples read."""
    (tmp_path / "field.geojson").write_text(FIELD)
    return tmp_path


def run(command: list[str], folder: Path, **more: Any) -> str:
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_curl(service: Service, folder: Path, line: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    line = line.replace(ANYWHERE, service.url).replace("other-model", "pixels")
    return run(["bash", "-c", line.replace("curl ", "curl --silent --show-error ", 1)], folder)


def check(feature: dict[str, Any]) -> dict[str, Any]:
    """The statistics of the page's field, which must be whole."""
    sent = json.loads(FIELD)
    found: dict[str, Any] = feature["properties"]["statistics"]
    assert {**feature, "properties": {**feature["properties"], "statistics": None}} == {
        **sent,
        "properties": {**sent["properties"], "statistics": None},
    }
    printed = json.loads(re.sub(r"//.*", "", blocks("jsonc")[0]))
    assert found["total_area_m2"] == pytest.approx(printed["total_area_m2"], abs=0.1)
    assert found.keys() >= printed.keys()
    assert found["complete"]
    assert found["coverage"] == 1
    for each in found["classes"]:
        assert each.keys() == printed["classes"][0].keys()
    assert sum(each["area_m2"] for each in found["classes"]) == pytest.approx(found["total_area_m2"], rel=1e-6)
    return found


def test_all_examples_are_run() -> None:
    assert len(CURLS) == 5
    assert len(COMMANDS) == 6
    assert len(REFUSED) == 7
    assert len(MENDED) == 2


def test_the_first_request_answers_with_the_feature(mapped: Service, folder: Path) -> None:
    found = check(json.loads(run_curl(mapped, folder, CURLS[0])))
    assert all(each["adjusted_ci95_m2"][0] <= each["adjusted_area_m2"] for each in found["classes"])


def test_csv_has_the_figures_of_the_geojson(mapped: Service, folder: Path) -> None:
    assert "text/csv" in CURLS[1]
    rows = list(csv.DictReader(io.StringIO(run_curl(mapped, folder, CURLS[1]))))
    found = check(json.loads(run_curl(mapped, folder, CURLS[0])))
    assert [float(row["area_m2"]) for row in rows] == [each["area_m2"] for each in found["classes"]]
    assert {(row["feature"], row["owner"]) for row in rows} == {("field-7", "Sato")}


def test_doubtful_pixels_are_left_out(mapped: Service, folder: Path) -> None:
    assert "min_confidence=0.9" in CURLS[2]
    found = json.loads(run_curl(mapped, folder, CURLS[2]))["properties"]["statistics"]
    assert 0 < found["coverage"] < 1
    assert found["min_confidence"] == 0.9
    assert all(each["adjusted_area_m2"] is None for each in found["classes"])
    assert all(each["mean_confidence"] >= 0.9 for each in found["classes"] if each["area_m2"])


def test_change_is_from_what_against_names_to_what_the_address_names(mapped: Service, folder: Path) -> None:
    found = check_change(json.loads(run_curl(mapped, folder, CURLS[3])))
    with mapped.client as client:
        answer = client.post(f"{STATISTICS}?model=pixels&wait=30", content=FIELD).json()
    before = {each["value"]: each["area_m2"] for each in answer["properties"]["statistics"]["classes"]}
    after = {each["value"]: each["area_m2"] for each in found["classes"]}
    change = found["change"]
    rows, columns = ([each["value"] for each in change[side]] for side in ("from_classes", "to_classes"))
    for value, row in zip(rows[1:], change["area_m2"][1:], strict=True):
        assert sum(row) == pytest.approx(before[value], rel=1e-6, abs=0.01)
    for i, value in enumerate(columns[1:], 1):
        assert sum(row[i] for row in change["area_m2"]) == pytest.approx(after[value], rel=1e-6, abs=0.01)


def check_change(feature: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = feature["properties"]["statistics"]
    change = found["change"]
    assert change["from"]["model"] == "pixels"
    assert change["to"]["model"] == "landcover-demo"
    for side in ("from_classes", "to_classes"):
        assert change[side][0]["name"] == "unknown"
    for name in re.findall(r"`(changed_m2|unchanged_m2|unsure_m2)`", PAGE):
        assert name in change
    return found


def test_what_is_missing_is_a_job(service: Service, folder: Path) -> None:
    head, _, body = run_curl(service, folder, CURLS[4]).replace("\r", "").partition("\n\n")
    assert head.startswith("HTTP/1.1 202")
    job = json.loads(body)
    assert job["status"] in ("accepted", "running")
    assert f"location: {service.url}/jobs/{job['id']}" in head
    assert "retry-after: 2" in head
    with service.client as client:
        client.delete(f"/jobs/{job['id']}")
        assert client.get(f"/jobs/{job['id']}").json()["status"] == "dismissed"


def test_python_answers_and_follows_a_job(service: Service, folder: Path) -> None:
    code = PYTHON.replace(ANYWHERE, service.url).replace("json.load(file))", "json.load(file), wait=0)")
    lines = run([sys.executable, "-c", f"{code}\nprint(json.dumps(feature))"], folder).splitlines()
    found = check(json.loads(lines[-1]))
    assert re.fullmatch(r"\d+ %: .+", lines[0]), "it was no job"
    assert lines[-9:-1] == [f"{each['name']:20} {each['area_m2']:10.1f} m²" for each in found["classes"]]


def test_python_says_why_it_is_refused(mapped: Service, folder: Path) -> None:
    (folder / "field.geojson").write_text(REFUSED[1][0])
    command = [sys.executable, "-c", PYTHON.replace(ANYWHERE, mapped.url)]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"ValueError: {REFUSED[1][2]}")


def test_javascript_runs_in_node_and_follows_a_job(service: Service, folder: Path) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("there is no Node on this machine; tests/browser runs it in Chromium")
    code = JAVASCRIPT.replace(ANYWHERE, service.url)
    code += f"\nlandCover({FIELD}, {{ wait: 0 }}).then((found) => console.log(JSON.stringify(found)));"
    check(json.loads(run([node, "-e", code], folder)))


def test_command_prints_a_table_like_the_one_shown(mapped: Service, folder: Path) -> None:
    (line,) = (line for line in COMMANDS if line.startswith("landcover"))
    printed = run(
        [sys.executable, "-m", *line.split(), "--url", mapped.url], folder, env={**os.environ, "COLUMNS": "80"}
    )
    shown = next(block for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if "■" in block)
    assert shown.splitlines()[0] in printed
    assert shown.splitlines()[-1] in printed
    names = {line.split("  ")[0] for line in shown.splitlines() if line.startswith("■")}
    assert all(name in printed for name in names)


@pytest.mark.parametrize(("body", "note"), MENDED)
def test_what_is_mended_is_noted(mapped: Service, body: str, note: str) -> None:
    with mapped.client as client:
        answer = client.post(f"{STATISTICS}?wait=30", content=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["properties"]["statistics"]["notes"] == [note]


@pytest.mark.parametrize(("body", "status", "sentence"), REFUSED)
def test_what_is_refused_gets_the_sentence(mapped: Service, body: str, status: str, sentence: str) -> None:
    with mapped.client as client:
        answer = client.post(STATISTICS, content=body)
    assert answer.status_code == int(status)
    pattern = re.escape(sentence).replace("…", ".+")
    assert re.fullmatch(pattern, answer.json()["detail"]), answer.json()["detail"]
    assert mapped.broker.llen("interactive") == mapped.broker.llen("bulk") == 0


def test_a_document_too_deep_to_be_answered_is_refused(mapped: Service) -> None:
    """JSON is read to a depth of 1024, but written to 254."""
    sent = json.loads(FIELD)
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    with mapped.client as client:
        answer = client.post(STATISTICS, json={**sent, "properties": deep})
    assert answer.status_code == 422
    assert "deep" in answer.json()["detail"]


@pytest.mark.parametrize(("name", "default"), [(row[0], row[1]) for row in table("setting", "default", "of")])
def test_limits_are_the_defaults(name: str, default: str) -> None:
    assert getattr(ApiSettings(), name.removeprefix("LANDCOVER_API_").lower()) == int(default)
