"""Many polygons, asked of the service in parts; a job that it makes of a part is followed to its end."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from landcover.errors import InvalidRequest, LandcoverError, Pending, RequestTooLarge, Unavailable
from landcover.service_client import Answer, ServiceClient, foreign, scene_path

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PART_FEATURES = 100
"""Asked at once: few enough that the progress bar moves."""
PART_BYTES = 1 << 20
"""Of a body, well below what the service reads."""

Document = dict[str, Any]

_WAIT_S = 5.0
_RETRY_S = 2.0
_MAX_PAUSE_S = 10.0
_ATTEMPTS = 5
_DISMISS_TIMEOUT_S = 5.0
_BLAMED = re.compile(r"(?:Feature (\d+)|The feature): ")
"""How the service says which feature of a body it refuses, counted from 1."""
_OUTSIDE = "The geometry lies outside"
"""How it begins to refuse a body without any feature on the scene; features beside one that is on it get zeros."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every polygon."""

    scene: str
    query: Mapping[str, Any]
    """Parameters; None for those that are left to the service."""


@dataclass(frozen=True)
class _Item:
    """One feature in the form in which it is sent: without its attributes, which are nobody else's business."""

    number: int
    """In the file, counted from 1."""
    body: str


class Inquiry:
    """Asks one question of many polygons, within one deadline."""

    def __init__(self, client: ServiceClient, question: Question, *, deadline: float, skip_refused: bool) -> None:
        """`deadline` is a time of the monotonic clock, in seconds."""
        self._client = client
        self._path = f"{scene_path(question.scene)}/landcover/statistics"
        self._query = {**question.query, "wait": _WAIT_S}
        self._deadline = deadline
        self._skip_refused = skip_refused
        self._refused: list[str] = []
        self._companion: _Item | None = None
        """A feature on the scene, to be sent along with those that are not."""

    def ask(self, features: Sequence[Mapping[str, Any]], console: Console) -> list[Document | None]:
        """The statistics of each feature; None where the service refuses it and that is to be skipped.

        Raises:
            InvalidRequest: the service refuses a feature, or all of them.
            Pending: the deadline has passed.
            LandcoverError: what else the service says.
        """
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        documents: list[Document | None] = [None] * len(features)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("features", total=len(features))
            parts, again, outside = _parts(features), list[Sequence[_Item]](), list[Sequence[_Item]]()
            while part := again.pop() if again else next(parts, None):
                try:
                    smaller = self._ask_part(part, documents, progress)
                except InvalidRequest as error:
                    if not str(error).startswith(_OUTSIDE):
                        raise
                    outside.append(part)
                    continue
                again += reversed(smaller)
                progress.advance(task, len(part) - sum(map(len, smaller)))
            for part in outside:
                self._ask_beside_companion(part, documents, progress)
                progress.advance(task, len(part))
        if len(self._refused) == len(features):
            raise InvalidRequest(f"The service refuses every feature. {self._refused[0]}")
        for reason in self._refused:
            console.print(f"left out: {reason}", soft_wrap=True, markup=False)
        return documents

    def _ask_part(
        self, part: Sequence[_Item], documents: list[Document | None], progress: Progress
    ) -> list[Sequence[_Item]]:
        """Fill in the documents of `part`; returns what of it must be asked again, in smaller parts."""
        try:
            answered = self._answered(part, progress)
        except RequestTooLarge as error:
            if len(part) > 1:
                half = len(part) // 2
                return [part[:half], part[half:]]
            self._refuse(f"Feature {part[0].number}: {error}")
            return []
        except InvalidRequest as error:
            blamed = _BLAMED.match(str(error))
            if blamed is None:
                raise
            place = int(blamed[1] or 1) - 1
            if place >= len(part):
                raise
            self._refuse(f"Feature {part[place].number}: {str(error)[blamed.end() :]}")
            rest = [*part[:place], *part[place + 1 :]]
            return [rest] if rest else []
        for item, document in zip(part, answered, strict=True):
            documents[item.number - 1] = document
            if self._companion is None and document.get("coverage"):
                self._companion = item
        return []

    def _ask_beside_companion(
        self, part: Sequence[_Item], documents: list[Document | None], progress: Progress
    ) -> None:
        """What lies outside gets zeros, if only something else does not; the service refuses it as `_answered` says."""
        companions = [self._companion] if self._companion else []
        answered = self._answered([*companions, *part], progress)[len(companions) :]
        for item, document in zip(part, answered, strict=True):
            documents[item.number - 1] = document

    def _refuse(self, reason: str) -> None:
        if not self._skip_refused:
            raise InvalidRequest(reason)
        self._refused.append(reason)

    def _answered(self, part: Sequence[_Item], progress: Progress) -> list[Document]:
        body = f'{{"type":"FeatureCollection","features":[{",".join(item.body for item in part)}]}}'
        answer = self._request(self._path, method="POST", query=self._query, body=body.encode())
        if answer.status == 202:
            answer = self._follow(answer, progress)
        try:
            documents = [feature["properties"]["statistics"] for feature in answer.document()["features"]]
        except (KeyError, TypeError):
            raise foreign(answer.server) from None
        if len(documents) != len(part):
            raise foreign(answer.server)
        return documents

    def _follow(self, answer: Answer, progress: Progress) -> Answer:
        """The result of a job; it is dismissed when we do not wait for its end."""
        job = answer.document().get("id")
        if not isinstance(job, str):
            raise foreign(answer.server)
        task = progress.add_task("mapping", total=None)
        try:
            while (status := answer.document()).get("status") in ("accepted", "running"):
                blocks = status.get("blocks") or {}
                progress.update(
                    task, description="mapping blocks", completed=blocks.get("done", 0), total=blocks.get("total")
                )
                self._pause(answer.retry_after_s or _RETRY_S)
                answer = self._request(f"/jobs/{job}")
            if status.get("status") == "dismissed":
                raise Unavailable("The job was dismissed by somebody else; ask again.")
            return self._request(f"/jobs/{job}/results")
        except BaseException:
            with contextlib.suppress(LandcoverError):
                self._client.request(f"/jobs/{job}", method="DELETE", timeout_s=_DISMISS_TIMEOUT_S)
            raise
        finally:
            progress.remove_task(task)

    def _request(self, path: str, **how: Any) -> Answer:
        """One good answer; a service that is busy or gone for a moment is asked again.

        Raises:
            LandcoverError: a refusal, or it stays away.
        """
        attempts = 0
        while True:
            pause_s = _RETRY_S
            try:
                answer = self._client.request(path, timeout_s=self._remaining_s(), **how)
            except Unavailable:
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise
            else:
                attempts += answer.status == 503
                waits_its_turn = answer.status == 429
                if not waits_its_turn and (answer.status != 503 or attempts == _ATTEMPTS):
                    answer.content()
                    return answer
                pause_s = answer.retry_after_s or _RETRY_S
            self._pause(pause_s)

    def _pause(self, seconds: float) -> None:
        time.sleep(min(seconds, _MAX_PAUSE_S, self._remaining_s()))

    def _remaining_s(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Pending(
                "Not finished within --timeout; allow more seconds. What the service has mapped by now it keeps, so "
                "the next run gets further."
            )
        return left


def _parts(features: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[_Item]]:
    """The features in order, as many at once as one body should hold."""
    part: list[_Item] = []
    size = 0
    for number, feature in enumerate(features, 1):
        sent = {"type": "Feature", "properties": {}, "geometry": feature["geometry"]}
        try:
            item = _Item(number, json.dumps(sent, allow_nan=False, separators=(",", ":")))
        except ValueError:
            raise InvalidRequest(
                f"Feature {number} has a position that has no longitude and latitude; check the file's CRS."
            ) from None
        if part and (len(part) == PART_FEATURES or size + len(item.body) > PART_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item.body)
    if part:
        yield part
