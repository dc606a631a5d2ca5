"""Traces of requests, from the API through the queue to the network; off, and then free, unless an endpoint is named.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) turns them on; all else is OpenTelemetry's own
variables. Only this module is imported everywhere; OpenTelemetry is, once they are on (`landcover.tracing.otlp`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol

from landcover.errors import InvalidConfiguration

Kind = Literal["internal", "server", "producer", "consumer"]
CARRIER_HEADERS = ("traceparent", "tracestate")
"""The W3C's names of what a `carrier` holds."""

Attribute = str | bool | int | float


class Span(Protocol):
    """One step of a trace."""

    def set(self, name: str, value: Attribute) -> None:
        """Note something about it."""

    def rename(self, name: str) -> None:
        """Its name turns out later than it begins."""


class Tracer(Protocol):
    """What makes spans and sends them away."""

    def span(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Attribute],
        parent: Mapping[str, Any] | None,
        links: Sequence[Any],
    ) -> AbstractContextManager[Span]:
        """`tracing.span`."""

    def carrier(self) -> dict[str, str]:
        """`tracing.carrier`."""

    def here(self) -> Any:
        """`tracing.here`."""

    def trace_id(self) -> str:
        """`tracing.trace_id`."""

    def close(self) -> None:
        """Send what is not sent yet."""


class _NoSpan:
    def set(self, name: str, value: Attribute) -> None:
        pass

    def rename(self, name: str) -> None:
        pass


_OFF: AbstractContextManager[Span] = nullcontext(_NoSpan())
_tracer: Tracer | None = None


def start(service: str) -> None:
    """Turn traces on for this process if the environment asks for them; `service` is its name there.

    Raises:
        InvalidConfiguration: it does, and they cannot be sent.
    """
    global _tracer  # noqa: PLW0603 - one for a process, as its log
    if not _asked_for():
        return
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        raise InvalidConfiguration(
            f"Traces are sent as http/protobuf only (got OTEL_EXPORTER_OTLP_PROTOCOL={protocol}); "
            "leave it out and name the collector's HTTP port, mostly 4318."
        )
    try:
        from landcover.tracing.otlp import OtlpTracer
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but traces need the Python package '{error.name}': "
            "install landcover-tiles[otel]."
        ) from error
    _tracer = OtlpTracer(service)


def stop() -> None:
    """Send what is not sent yet, and turn traces off."""
    global _tracer  # noqa: PLW0603
    if _tracer is not None:
        _tracer.close()
    _tracer = None


def is_on() -> bool:
    """Whether spans are recorded in this process."""
    return _tracer is not None


def span(
    name: str,
    *,
    kind: Kind = "internal",
    attributes: Mapping[str, Attribute] | None = None,
    parent: Mapping[str, Any] | None = None,
    links: Sequence[Any] = (),
) -> AbstractContextManager[Span]:
    """A step around the body of a `with`; it belongs to the step around it, or to the one that `parent` names.

    Args:
        name: few different ones: no addresses, no keys.
        kind: what it is to others.
        attributes: what is known of it from the start.
        parent: headers that may hold a `carrier`.
        links: steps of other traces that it is done for (`here`); those that are None are left out.
    """
    return _OFF if _tracer is None else _tracer.span(name, kind, attributes or {}, parent, links)


def carrier() -> dict[str, str]:
    """Headers that let another process go on with the trace; none while traces are off."""
    return {} if _tracer is None else _tracer.carrier()


def here() -> Any:
    """The step that this is done in, for another thread to link to; None if there is none."""
    return None if _tracer is None else _tracer.here()


def trace_id() -> str:
    """Of the trace that this is done in, 32 hexadecimal digits; empty if there is none."""
    return "" if _tracer is None else _tracer.trace_id()


def _asked_for() -> bool:
    """As OpenTelemetry's specification has it."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return False
    return any(os.environ.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
