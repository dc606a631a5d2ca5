"""Traces cost nothing while they are off, and are refused with a sentence where they cannot be sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from landcover import tracing
from landcover.errors import InvalidConfiguration

ENDPOINT = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    yield
    assert not tracing.is_on()


def test_they_are_off_by_default_and_import_nothing() -> None:
    program = (
        "import sys\n"
        "import landcover.tracing, landcover.queue, landcover.logs\n"
        "landcover.tracing.start('test')\n"
        "with landcover.tracing.span('a', links=[landcover.tracing.here()]) as span: span.set('b', 1)\n"
        "assert landcover.tracing.carrier() == {} and landcover.tracing.trace_id() == ''\n"
        "print([name for name in ('landcover.tracing.otlp', 'opentelemetry.exporter') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_opentelemetrys_own_switches_hold(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)
    monkeypatch.setenv(name, value)
    tracing.start("test")
    assert not tracing.is_on()


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(InvalidConfiguration, match="http/protobuf"):
        tracing.start("test")


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)
    monkeypatch.delitem(sys.modules, "landcover.tracing.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidConfiguration, match=r"landcover-tiles\[otel\]"):
        tracing.start("test")
