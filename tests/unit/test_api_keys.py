"""API keys: how they are written, which are good now, and that nothing is reached without one."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from starlette.testclient import TestClient

from landcover import cli
from landcover.api_keys import KEY_PREFIX, WITHOUT_KEYS, Role, keep, new_key, parse_keys
from landcover.errors import InvalidConfiguration, InvalidRequest
from landcover.settings import CatalogSettings, DatabaseSettings
from landcover_api import api_keys
from landcover_api.api_keys import LONGEST_KEY, ApiKeySettings, KeyRing
from landcover_api.app import create_app
from landcover_api.cli import is_loopback
from landcover_api.key_guard import OPEN_FOLDERS, OPEN_PATHS, make_guard
from rasters import noise, write_tif

READER, WRITER, STRANGER = (
    KEY_PREFIX + urlsafe_b64encode(hashlib.sha256(name).digest()).decode().rstrip("=")
    for name in (b"reader", b"writer", b"stranger")
)
"""Like those that `new_key` makes, but the same in every process: tests are named after them."""
LINES = f"{keep(READER, 'kiosk', 'read').line}\n{keep(WRITER, 'alice', 'write').line}"
HERE = "https://maps.example.org"


def settings(**values: str) -> ApiKeySettings:
    return ApiKeySettings.model_validate({"keys": LINES, **values})


def make_app(folder: Path, keys: ApiKeySettings) -> FastAPI:
    app = create_app(
        catalog=CatalogSettings(scenes=(str(write_tif(folder / "a.tif", noise(64, 64), crs="EPSG:32654")),)),
        database=DatabaseSettings(database_url=f"sqlite:///{folder / 'a.sqlite'}"),
        api_keys=keys,
    )

    @app.get("/kept/{control}", include_in_schema=False)
    async def kept(control: str) -> Response:
        return Response(headers={} if control == "none" else {"Cache-Control": control, "Vary": "Accept"})

    return app


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """Reading needs a key, too."""
    return make_app(tmp_path_factory.mktemp("closed"), settings(keys_for="all"))


@pytest.fixture(scope="module")
def open_to_read(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return make_app(tmp_path_factory.mktemp("open"), settings())


def client(app: FastAPI) -> TestClient:
    """Without a lifespan: what reaches a route that needs the cache is a 500, and so told apart from a refusal."""
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


async def status_of(app: FastAPI, method: str, path: str, **headers: str) -> int:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as asking:
        return (await asking.request(method, path, headers=headers)).status_code


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and address, the parts of which one is told apart by are filled with something."""
    for path, found in app.openapi()["paths"].items():
        for method in found:
            yield method.upper(), re.sub(r"\{[^}]*\}", "1", path)


# What a key is


def test_a_key_is_of_256_random_bits_and_kept_as_its_hash() -> None:
    key = new_key()
    assert key.startswith(KEY_PREFIX)
    assert len(key.removeprefix(KEY_PREFIX)) == 43  # 32 bytes, 6 bits a character
    assert len({new_key() for _ in range(100)}) == 100
    kept = keep(key, "alice", "read")
    assert kept.line == f"alice:read:sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    assert parse_keys(kept.line).keys == (kept,)


@pytest.mark.parametrize(
    ("role", "need", "expected"),
    [("read", "read", True), ("read", "write", False), ("write", "read", True), ("write", "write", True)],
)
def test_who_may_write_may_read(role: Role, need: Role, expected: bool) -> None:
    assert keep(new_key(), "a", role).may(need) is expected


def test_keys_are_words_or_lines_and_a_role_may_be_left_out() -> None:
    one, two = keep(READER, "one", "read"), keep(WRITER, "two", "write")
    short = two.line.replace(":write:", ":").upper().replace("TWO:SHA256", "two:sha256")
    parsed = parse_keys(f"# of {new_key()}\n\n  {one.line}\t{short}\r\n")
    assert parsed.keys == (one, two)
    assert not parsed.faults


@pytest.mark.parametrize("word", [STRANGER, "a:admin:sha256:" + "0" * 64, "a:sha256:12", "ä:sha256:" + "0" * 64])
def test_what_is_no_hash_is_a_fault_that_does_not_repeat_it(word: str) -> None:
    parsed = parse_keys(f"{LINES}\n{word}")
    assert len(parsed.keys) == 2
    assert len(parsed.faults) == 1
    assert word not in parsed.faults[0]
    assert "line 3" in parsed.faults[0]


@pytest.mark.parametrize("key", ["", "short", "a" * 31, "with a blank" * 9, "ünïcode" * 9, "a\n" * 40])
def test_a_key_of_ones_own_must_be_long_and_such_that_it_can_be_sent(key: str) -> None:
    with pytest.raises(InvalidRequest, match="landcover keys create"):
        keep(key, "alice", "write")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ü", "a" * 65, "a\n"])
def test_a_name_fits_into_a_line(name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        keep(new_key(), name, "write")


def test_the_command_prints_a_key_once_and_a_line_that_is_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cli.main(["keys", "create", "alice", "--role", "read"]) == 0
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    (key,) = (word for word in said.err.split() if word.startswith(KEY_PREFIX))
    assert KeyRing(settings(keys=line)).find(key.encode()) == keep(key, "alice", "read")
    own = tmp_path / "own.key"
    own.write_text(f"{key}\n")
    with own.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert cli.main(["keys", "hash", "alice", "--role", "read"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [line]
    assert key not in said.err


# Which keys are good


def test_without_keys_there_is_no_guard() -> None:
    assert make_guard(ApiKeySettings()) is None


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"keys": " \n"}, "LANDCOVER_API_KEYS has no key"),
        ({"keys": "# none yet"}, "LANDCOVER_API_KEYS has no key"),
        ({"keys": f"{LINES} {STRANGER}"}, "a key itself does not belong there"),
        ({"keys": "", "keys_file": "/nowhere/keys"}, "cannot be read"),
        ({"keys": "", "keys_for": "all"}, "LANDCOVER_API_KEYS_FOR=all needs keys"),
    ],
)
def test_a_service_does_not_start_open_by_mistake(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence) as refused:
        make_guard(settings(**values))
    assert STRANGER not in str(refused.value)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in WITHOUT_KEYS.items():
        monkeypatch.setenv(name, value)
    assert not ApiKeySettings().given
    monkeypatch.setenv("LANDCOVER_API_KEYS", LINES)
    monkeypatch.setenv("LANDCOVER_API_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("LANDCOVER_API_KEYS_FOR", "all")
    read = ApiKeySettings()
    assert read.keys.get_secret_value() == LINES
    assert (read.keys_file, read.keys_for) == (tmp_path / "keys", "all")


def test_a_command_that_is_given_a_key_in_place_of_its_hash_does_not_repeat_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANDCOVER_API_KEYS", STRANGER)
    assert cli.main(["api"]) == 1
    said = capsys.readouterr()
    assert "landcover keys create" in said.err
    assert STRANGER not in said.err + said.out


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is looked at for each request."""
    monkeypatch.setattr(api_keys, "LOOK_EVERY_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_a_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By being replaced as Kubernetes does it, and by being written over."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "keys").write_text(keep(READER, "kiosk", "read").line)
    (tmp_path / "now").symlink_to("1")
    ring = KeyRing(settings(keys=keep(WRITER, "alice", "write").line, keys_file=str(tmp_path / "now" / "keys")))

    def good() -> list[str]:
        return [key for key in (READER, WRITER, STRANGER) if ring.find(key.encode())]

    assert good() == [READER, WRITER]
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "keys").write_text(keep(STRANGER, "other", "read").line)
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "now")
    assert good() == [WRITER, STRANGER]
    with caplog.at_level(logging.ERROR):  # a slip does not keep alive what was taken out
        (tmp_path / "2" / "keys").write_text(f"{keep(READER, 'kiosk', 'read').line}\n{STRANGER}")
        assert good() == [READER, WRITER]
    assert "line 2" in caplog.text
    assert STRANGER not in caplog.text
    caplog.clear()
    (tmp_path / "now").unlink()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert good() == [READER, WRITER]
    assert len(caplog.records) == 1
    (tmp_path / "now").symlink_to("2")
    (tmp_path / "2" / "keys").write_text("")
    assert good() == [WRITER], "an empty file takes all its keys away"


def test_a_file_is_not_looked_at_for_each_request(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(LINES)
    ring = KeyRing(settings(keys="", keys_file=str(path)))
    path.unlink()
    assert ring.find(READER.encode())


def test_every_key_is_compared_with_and_by_hash_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of a key is right, and wherever it stands, the same is done."""
    kept = [keep(new_key(), str(number), "read") for number in range(5)]
    ring = KeyRing(settings(keys=" ".join(each.line for each in (*kept, keep(READER, "kiosk", "read")))))
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return secrets.compare_digest(one, other)

    monkeypatch.setattr("landcover_api.api_keys.hmac.compare_digest", compare)
    for key in (READER, READER[:-1] + "-", STRANGER):
        compared.clear()
        assert (ring.find(key.encode()) is not None) is (key == READER)
        assert len(compared) == 6
        assert {other for _, other in compared} == {hashlib.sha256(key.encode()).digest()}


# What needs one


async def test_nothing_is_reached_without_a_key_but_what_is_named_as_open(closed: FastAPI) -> None:
    """A new route needs a key unless it is put among the open ones, and then here."""
    reached = {path for method, path in operations(closed) if await status_of(closed, method, path) != 401}
    assert reached | {"/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/queues"} == OPEN_PATHS
    assert OPEN_FOLDERS == ("/assets/", "/static-offline-docs/")
    assert len(list(operations(closed))) > 40
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
        assert await status_of(closed, "GET", path) == 200


async def test_where_reading_is_open_all_else_needs_a_key(open_to_read: FastAPI) -> None:
    for method, path in operations(open_to_read):
        status = await status_of(open_to_read, method, path)
        assert (status == 401) is (method not in ("GET", "HEAD")), (method, path, status)


@pytest.mark.parametrize("app", ["closed", "open_to_read"])
async def test_a_key_that_may_read_may_do_nothing_else(app: str, request: pytest.FixtureRequest) -> None:
    served: FastAPI = request.getfixturevalue(app)
    refused = set()
    for method, path in operations(served):
        assert await status_of(served, method, path, **bearer(WRITER)) not in (401, 403)
        if await status_of(served, method, path, **bearer(READER)) == 403:
            refused.add((method, path))
    assert refused == {
        ("POST", "/jobs"),
        ("DELETE", "/jobs/1"),
        ("POST", "/annotations"),
        ("PUT", "/annotations/1"),
        ("DELETE", "/annotations/1"),
    }


@pytest.mark.parametrize(
    "path",
    [
        "//scenes", "/scenes/", "/SCENES", "/healthz/", "/healthz/../scenes", "/./scenes", "/scenes;/healthz", "",
        "/assets/../scenes", "/assets/x/../../scenes", "/assets", "/static-offline-docs", "/nowhere", "/healthz\n",
        "/scenes\0/healthz", "/healthz ", "/scenes?/healthz", "/scenes#/healthz", "scenes", "\\scenes",
        "/static-offline-docs/../scenes",
    ],
)  # fmt: skip
@pytest.mark.parametrize("root", ["", "/below"])
async def test_no_way_of_writing_a_path_leads_around(closed: FastAPI, path: str, root: str) -> None:
    """Paths as a server hands them on, decoded; below that under which a proxy serves this, or beside it."""
    for sent in {path, root + path}:
        status, body = await ask(closed, sent, root)
        assert status in (401, 404), sent
        assert set(body) == {"detail"}


async def ask(app: FastAPI, path: str, root: str) -> tuple[int, Any]:
    """Status and document of an answer to a GET without a key."""
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": path, "root_path": root, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    return told[0]["status"], json.loads(b"".join(each.get("body", b"") for each in told))


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "PROPFIND", "get", "OPTIONS", "HEAD"])
def test_no_method_leads_around(closed: FastAPI, method: str) -> None:
    assert client(closed).request(method, "/scenes").status_code == 401


# How it is sent, and what is answered


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        (bearer(READER), ""),
        ({"Authorization": f"bEARER   {READER} "}, ""),
        ({"X-API-Key": READER}, ""),
        ({"x-api-key": f" {READER}"}, ""),
        ({}, f"?api_key={READER}"),
        ({}, f"?a=%ff&api_key={READER.replace('_', '%5F')}&b"),
        ({"Authorization": "Basic cHJveHk6cHJveHk="}, f"?api_key={READER}"),
        ({**bearer(READER), "X-API-Key": READER}, f"?api_key={READER}&api_key="),
    ],
)
def test_a_key_may_be_sent_in_three_ways(closed: FastAPI, headers: dict[str, str], query: str) -> None:
    assert client(closed).get(f"/tileMatrixSets{query}", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer"), ("x-api-key", "")],
        [("authorization", f"Basic {READER}")],
        [("authorization", READER)],
        [("authorization", f"Bearer {READER}x")],
        [("authorization", f"Bearer {READER[:-1]}")],
        [("authorization", f"Bearer {READER.swapcase()}")],
        [("authorization", f"Bearer {READER},{READER}")],
        [("authorization", f"Bearer {READER}"), ("authorization", f"Bearer {STRANGER}")],
        [("authorization", f"Bearer {READER}"), ("x-api-key", WRITER)],
        [("x-api-key", keep(READER, "kiosk", "read").digest.hex())],
        [("x-api-key", b"\xff\xfe\x00" * 20)],
        [("x-api-key", "☃".encode())],
        [("x-api-key", "k" * 1_000_000)],
        [("x_api_key", READER)],
        [("cookie", f"api_key={READER}")],
    ],
    ids=range(16),
)
def test_no_other_way_of_sending_it_is_good(closed: FastAPI, headers: list[tuple[str, str | bytes]]) -> None:
    answer = client(closed).get("/scenes", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="landcover-tiles"')
    assert answer.headers["cache-control"] == "no-store"
    for key in (READER, WRITER, STRANGER):
        assert key not in answer.text + str(answer.headers)


def test_a_long_key_is_not_hashed(closed: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    monkeypatch.setattr(api_keys, "digest_of", lambda key: hashed.append(key) or hashlib.sha256(key).digest())
    for length in (LONGEST_KEY, LONGEST_KEY + 1):
        assert client(closed).get("/scenes", headers={"X-API-Key": "k" * length}).status_code == 401
    assert [len(each) for each in hashed] == [LONGEST_KEY]


def test_refusals_say_what_to_do(closed: FastAPI) -> None:
    answers = client(closed)
    none = answers.get("/scenes")
    assert "X-API-Key: KEY" in none.json()["detail"]
    assert none.headers["www-authenticate"] == 'Bearer realm="landcover-tiles"'
    unknown = answers.get("/scenes", headers=bearer(STRANGER))
    assert "not known here" in unknown.json()["detail"]
    assert 'error="invalid_token"' in unknown.headers["www-authenticate"]
    weak = answers.post("/jobs", headers=bearer(READER))
    assert weak.status_code == 403
    assert weak.json()["detail"] == "API key 'kiosk' may only read; this needs one whose role is write."
    assert 'scope="write"' in weak.headers["www-authenticate"]


def test_pages_of_other_sites_are_told_of_a_refusal_and_ask_first_without_a_key(closed: FastAPI) -> None:
    answers = client(closed)
    refused = answers.get("/scenes", headers={"Origin": HERE})
    assert refused.headers["access-control-allow-origin"] == "*"
    assert refused.headers["x-content-type-options"] == "nosniff"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-api-key"}
    preflight = answers.options("/jobs", headers={"Origin": HERE, **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]


def test_keys_are_never_logged(closed: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for key in (WRITER, STRANGER):
            client(closed).post(f"/jobs?api_key={key}", content=b"{")
            client(closed).get("/scenes", headers=bearer(key))
    assert "POST '/jobs' with API key 'alice'" in caplog.text, "who changes something can be told"
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]  # the client's
    for key in (WRITER, STRANGER):
        assert not any(key in each for each in ours)


def test_a_log_line_is_one_line(closed: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "landcover_api.key_guard"):
        client(closed).delete("/jobs/%0aPOST%20/jobs", headers=bearer(WRITER))
    assert "\n" not in caplog.records[0].getMessage()


# Caches


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("public, max-age=60", "private, max-age=60"),
        ("public, max-age=31536000, immutable", "private, max-age=31536000, immutable"),
        ("no-cache", "private, no-cache"),
        ("no-store", "no-store"),
        ("none", "private"),
    ],
)
def test_what_needed_a_key_is_kept_by_its_client_alone(
    closed: FastAPI, open_to_read: FastAPI, said: str, expected: str
) -> None:
    answer = client(closed).get(f"/kept/{said}", headers=bearer(READER))
    assert answer.headers["cache-control"] == expected
    varies = {word.strip() for word in answer.headers["vary"].split(",")}
    assert {"Authorization", "X-API-Key"} <= varies
    if said != "none":
        assert "Accept" in varies
        unneeded = client(open_to_read).get(f"/kept/{said}", headers=bearer(READER))
        assert unneeded.headers["cache-control"] == said
        assert unneeded.headers["vary"] == "Accept"


# The document of all addresses


def test_the_document_says_what_needs_a_key(closed: FastAPI, open_to_read: FastAPI) -> None:
    for app, everything in ((closed, True), (open_to_read, False)):
        document = app.openapi()
        assert document is app.openapi()
        assert document["components"]["securitySchemes"]["header"] == {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
        }
        paths = document["paths"]
        assert len(paths["/jobs"]["post"]["security"]) == 3
        assert "write" in paths["/jobs"]["post"]["responses"]["401"]["description"]
        assert "read" in paths["/scenes/{scene}/landcover/statistics"]["post"]["responses"]["401"]["description"]
        assert ("security" in paths["/scenes"]["get"]) is everything
        assert "security" not in paths["/healthz"]["get"]


def test_an_api_without_keys_warns_where_others_can_reach_it() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")] == [False] * 5
