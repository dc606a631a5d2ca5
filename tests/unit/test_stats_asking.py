"""How `landcover stats` asks: in parts, patiently, following jobs. The service is one that can be made to misbehave."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console

from landcover.errors import InvalidRequest, LandcoverError, Pending, Unavailable
from landcover.service_client import ServiceClient
from landcover_api.stats_command import asking
from landcover_api.stats_command.asking import Inquiry, Question

Reply = tuple[int, dict[str, str], Any]


class FakeService:
    """Answers every polygon with the x of its first position; `before` may answer otherwise."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self.queries: list[dict[str, list[str]]] = []
        self.before: Callable[[str, str, list[float]], Reply | None] = lambda *_: None
        service = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                features = json.loads(body)["features"] if body else []
                xs = [each["geometry"]["coordinates"][0][0][0] for each in features]
                service.requests.append((self.command, url.path))
                service.queries.append(parse_qs(url.query))
                if body:
                    service.sizes.append(len(features))
                status, headers, document = service.before(self.command, url.path, xs) or (200, {}, answered(xs))
                content = json.dumps(document).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def answered(xs: Sequence[float]) -> dict[str, Any]:
    return {"features": [{"properties": {"statistics": {"x": x}}} for x in xs]}


def square(x: float, corners: int = 3) -> dict[str, Any]:
    ring = [[x, 0.0], *([x + 1.0, i / corners] for i in range(corners)), [x, 0.0]]
    return {"type": "Feature", "properties": {"secret": "s"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setattr(asking, "_RETRY_S", 0.01)
    service = FakeService()
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()


def ask(
    fake: FakeService, count: int, *, skip_refused: bool = False, timeout_s: float = 60, corners: int = 3
) -> tuple[list[Any], str]:
    console = Console(file=io.StringIO(), width=200)
    inquiry = Inquiry(
        ServiceClient(url=fake.url),
        Question(scene="a b", query={"model": "m", "crs": None}),
        deadline=time.monotonic() + timeout_s,
        skip_refused=skip_refused,
    )
    documents = inquiry.ask([square(x, corners) for x in range(count)], console)
    assert isinstance(console.file, io.StringIO)
    return [each and each["x"] for each in documents], console.file.getvalue()


def test_many_features_go_in_parts_and_come_back_in_order(fake: FakeService) -> None:
    assert ask(fake, 250)[0] == list(range(250))
    assert fake.sizes == [100, 100, 50]
    assert set(fake.requests) == {("POST", "/scenes/a%20b/landcover/statistics")}
    assert fake.queries[0] == {"model": ["m"], "wait": ["5.0"]}


def test_a_body_is_no_larger_than_agreed(fake: FakeService) -> None:
    assert ask(fake, 9, corners=15_000)[0] == list(range(9))  # 0.3 MB each
    assert max(fake.sizes) == 3


def test_what_is_too_large_is_halved(fake: FakeService) -> None:
    fake.before = lambda _, __, xs: (413, {}, {"detail": "Too many."}) if len(xs) > 30 else None
    assert ask(fake, 100)[0] == list(range(100))
    assert max(size for size in fake.sizes if size <= 30) == 25


def test_one_that_is_too_large_is_named(fake: FakeService) -> None:
    fake.before = lambda _, __, xs: (413, {}, {"detail": "Too many vertices."}) if 3 in xs else None
    with pytest.raises(InvalidRequest, match=r"^Feature 4: Too many vertices\.$"):
        ask(fake, 5)
    documents, said = ask(fake, 5, skip_refused=True)
    assert documents == [0, 1, 2, None, 4]
    assert "left out: Feature 4: Too many vertices." in said


def refusing(*bad: float) -> Callable[[str, str, list[float]], Reply | None]:
    def before(_: str, __: str, xs: list[float]) -> Reply | None:
        for number, x in enumerate(xs, 1):
            if x in bad:
                blamed = f"Feature {number}" if len(xs) > 1 else "The feature"
                return 422, {}, {"detail": f"{blamed}: lies outside the scene."}
        return None

    return before


def test_a_refused_feature_is_named_by_its_number_in_the_file(fake: FakeService) -> None:
    fake.before = refusing(149)
    with pytest.raises(InvalidRequest, match=r"^Feature 150: lies outside the scene\.$"):
        ask(fake, 200)


def test_refused_features_are_left_out_aloud(fake: FakeService) -> None:
    fake.before = refusing(0, 7, 149, 199)
    documents, said = ask(fake, 200, skip_refused=True)
    assert documents == [None if x in (0, 7, 149, 199) else x for x in range(200)]
    assert [line.split(":")[1].strip() for line in said.splitlines() if "left out" in line] == [
        "Feature 1",
        "Feature 8",
        "Feature 150",
        "Feature 200",
    ]
    fake.before = refusing(*range(3))
    with pytest.raises(InvalidRequest, match=r"refuses every feature\. Feature 1: lies outside"):
        ask(fake, 3, skip_refused=True)


def all_outside(first: float, last: float) -> Callable[[str, str, list[float]], Reply | None]:
    """Refuse a body of nothing but features from `first` to `last`; beside others, they get zeros."""

    def before(_: str, __: str, xs: list[float]) -> Reply | None:
        if all(first <= x <= last for x in xs):
            return 422, {}, {"detail": "The geometry lies outside scene 'a b', whose bounds are …"}
        documents = [{"x": x, "coverage": 0.0 if first <= x <= last else 1.0} for x in xs]
        return 200, {}, {"features": [{"properties": {"statistics": each}} for each in documents]}

    return before


@pytest.mark.parametrize(("first", "last"), [(0, 99), (100, 199), (0, 199), (50, 249), (0, 248)])
def test_features_outside_the_scene_get_zeros_however_they_are_parted(
    fake: FakeService, first: float, last: float
) -> None:
    fake.before = all_outside(first, last)
    assert ask(fake, 250)[0] == list(range(250))


def test_nothing_but_features_outside_is_refused(fake: FakeService) -> None:
    fake.before = all_outside(0, 250)
    with pytest.raises(InvalidRequest, match="lies outside scene 'a b'"):
        ask(fake, 250, skip_refused=True)


def test_a_refusal_of_the_question_is_no_features_fault(fake: FakeService) -> None:
    fake.before = lambda *_: (422, {}, {"detail": "The CRS is odd."})
    with pytest.raises(InvalidRequest, match=r"^The CRS is odd\.$"):
        ask(fake, 200, skip_refused=True)
    assert len(fake.requests) == 1


def job(fake: FakeService, *statuses: Reply, result: Reply | None = None) -> None:
    """Make a job of whatever is posted; its status is each of `statuses` in turn."""
    left = list(statuses)
    asked: list[float] = []

    def before(method: str, path: str, xs: list[float]) -> Reply | None:
        if method == "POST":
            asked[:] = xs
            document = {"id": "j1", "type": "statistics", "status": "accepted", "progress": 0}
            return 202, {"Location": "https://elsewhere/jobs/j1", "Retry-After": "0"}, document
        if path == "/jobs/j1/results":
            return result or (200, {}, answered(asked))
        if method == "DELETE":
            return 200, {}, {"id": "j1", "status": "dismissed"}
        return left.pop(0) if len(left) > 1 else left[0]

    fake.before = before


def status(word: str, **more: Any) -> Reply:
    return 200, {"Retry-After": "0"}, {"id": "j1", "status": word, **more}


def test_a_job_is_followed_to_its_result(fake: FakeService) -> None:
    blocks = {"total": 10, "done": 3, "failed": 0}
    job(fake, status("accepted"), status("running", blocks=blocks), (503, {}, {}), status("successful"))
    assert ask(fake, 3)[0] == [0, 1, 2]
    assert fake.requests[-1] == ("GET", "/jobs/j1/results")
    assert not [each for each in fake.requests if each[0] == "DELETE"]


def test_retry_after_is_heeded(fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(asking, "time", SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
    job(fake, (200, {"Retry-After": "7"}, {"id": "j1", "status": "running"}), status("successful"))
    ask(fake, 1)
    assert 7 in pauses


@pytest.mark.parametrize(
    ("result", "kind", "sentence"),
    [
        ((502, {}, {"detail": "3 blocks failed."}), Unavailable, "3 blocks failed"),
        ((413, {}, {"detail": "Too large."}), InvalidRequest, "Feature 1: Too large"),
    ],
)
def test_a_failed_job_says_why(fake: FakeService, result: Reply, kind: type[LandcoverError], sentence: str) -> None:
    job(fake, status("failed"), result=result)
    with pytest.raises(kind, match=sentence):
        ask(fake, 1)


def test_a_job_dismissed_by_somebody_else(fake: FakeService) -> None:
    job(fake, status("dismissed"))
    with pytest.raises(Unavailable, match="dismissed by somebody else"):
        ask(fake, 1)


def test_a_job_is_dismissed_at_the_deadline(fake: FakeService) -> None:
    job(fake, status("running"))
    with pytest.raises(Pending, match="--timeout"):
        ask(fake, 1, timeout_s=0.3)
    assert fake.requests[-1] == ("DELETE", "/jobs/j1")


def test_a_job_is_dismissed_on_ctrl_c(fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
    job(fake, status("running"))
    with pytest.raises(KeyboardInterrupt):
        ask(fake, 1)
    assert fake.requests[-1] == ("DELETE", "/jobs/j1")


def test_a_busy_service_is_asked_again_but_not_for_ever(fake: FakeService) -> None:
    busy: Reply = (429, {"Retry-After": "0"}, {})
    replies: list[Reply | None] = [(503, {"Retry-After": "0"}, {}), *[busy] * 9, None]
    fake.before = lambda *_: replies.pop(0)
    assert ask(fake, 2)[0] == [0, 1]
    fake.before = lambda *_: (503, {}, {"detail": "No worker is there."})
    fake.requests.clear()
    with pytest.raises(Unavailable, match="No worker is there"):
        ask(fake, 2)
    assert len(fake.requests) == 5


@pytest.mark.parametrize("document", [[], {}, {"features": []}, {"features": [{}]}, "hello"])
def test_an_answer_of_something_else(fake: FakeService, document: Any) -> None:
    fake.before = lambda *_: (200, {}, document)
    with pytest.raises(Unavailable, match="not as landcover-tiles does"):
        ask(fake, 1)


def test_nobody_there() -> None:
    client = ServiceClient(url="http://127.0.0.1:9", advice=", or wait")
    with pytest.raises(Unavailable, match=r"No service answers at http://127\.0\.0\.1:9 .*, or wait\.$"):
        client.request("/scenes")
    with pytest.raises(Unavailable, match="must begin with http"):
        ServiceClient(url="file:///etc").request("/passwd")


def test_a_position_nowhere_is_refused_here(fake: FakeService) -> None:
    inquiry = Inquiry(
        ServiceClient(url=fake.url), Question(scene="a", query={}), deadline=time.monotonic() + 9, skip_refused=False
    )
    with pytest.raises(InvalidRequest, match="Feature 2 has a position that has no longitude"):
        inquiry.ask([square(0), square(float("inf"))], Console(file=io.StringIO()))
    assert not fake.requests
