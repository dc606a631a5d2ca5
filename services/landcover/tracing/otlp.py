"""Traces by OpenTelemetry, sent over HTTP to a collector, in batches and by a thread of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from landcover import __version__
from landcover.redaction import redact
from landcover.tracing import Attribute, Kind, Span

_KINDS: Mapping[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class OtlpSpan:
    """An OpenTelemetry span."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, name: str, value: Attribute) -> None:
        """Note something about it."""
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        """Its name turns out later than it begins."""
        self._span.update_name(name)


class OtlpTracer:
    """Makes spans with a provider of its own: the libraries around it find none, and record nothing."""

    def __init__(self, service: str) -> None:
        """Where to, how many and how often is OpenTelemetry's own environment variables."""
        named = bool(os.environ.get("OTEL_SERVICE_NAME"))
        own = {"service.version": __version__} | ({} if named else {"service.name": service})
        self._provider = TracerProvider(resource=Resource.create(own))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("landcover", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Attribute],
        parent: Mapping[str, Any] | None,
        links: Sequence[Any],
    ) -> Iterator[Span]:
        """`tracing.span`; an error ends it as failed, with its text redacted and without a traceback."""
        with self._tracer.start_as_current_span(
            name,
            context=None if parent is None else self._propagator.extract(_texts(parent)),
            kind=_KINDS[kind],
            attributes=dict(attributes),
            links=[Link(each) for each in links if each is not None],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield OtlpSpan(span)
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR, redact(f"{type(error).__name__}: {error}")))
                raise

    def carrier(self) -> dict[str, str]:
        """`tracing.carrier`."""
        headers: dict[str, str] = {}
        self._propagator.inject(headers)
        return headers

    def here(self) -> SpanContext | None:
        """`tracing.here`."""
        context = trace.get_current_span().get_span_context()
        return context if context.is_valid else None

    def trace_id(self) -> str:
        """`tracing.trace_id`."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else ""

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()


def _texts(headers: Mapping[str, Any]) -> dict[str, str]:
    """A message may hold anything."""
    return {name: value for name, value in headers.items() if isinstance(value, str)}
