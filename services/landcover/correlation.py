"""Which request something is done for: an id that goes from the client's header into every log, here and in workers.

It travels in a context variable, so that code in between needs no argument for it, and in the headers of tasks. Threads
of a pool see it only if they are given the context (`contextvars.copy_context`).
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from landcover import tracing

HEADER = "X-Request-ID"
TASK_HEADER = "landcover_request_id"
_SANE = re.compile(r"[A-Za-z0-9._:+/=\-]{1,64}")
_PROCESS = secrets.token_hex(6)
_numbers = itertools.count(1)
_request: ContextVar[str] = ContextVar("landcover_request", default="")


def new_id() -> str:
    """An id for a request that brought none: no other process has it, and it can be guessed."""
    return f"{_PROCESS}-{next(_numbers):x}"


def is_sane(text: str) -> bool:
    """Whether a client's id can go into logs and headers as it is."""
    return _SANE.fullmatch(text) is not None


def request_id() -> str:
    """Of the request that this is done for; empty if there is none."""
    return _request.get()


@contextmanager
def working_for(request: str) -> Iterator[None]:
    """What the body does, it does for this request."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def task_headers() -> dict[str, str]:
    """What a task takes along: for whom it is done, and the trace that it belongs to."""
    request = request_id()
    return tracing.carrier() | ({TASK_HEADER: request} if request else {})


def request_of(headers: Mapping[str, object]) -> str:
    """The id that a task brought along; empty if it has none, or one that no API writes."""
    found = headers.get(TASK_HEADER)
    return found if isinstance(found, str) and is_sane(found) else ""
