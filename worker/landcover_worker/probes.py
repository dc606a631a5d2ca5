"""The worker's own port: `/metrics` for Prometheus; `/healthz`, `/startedz`, `/readyz` for who starts and ends workers.

They tell the truth about a process whose work is elsewhere than its HTTP: it lives while what it has in hand advances,
has started once its models are warm, and is ready while its consumer is connected to the broker, too.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from socket import AF_INET6
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from landcover.errors import InvalidConfiguration
from landcover_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

Fault = Callable[[], str]
"""Says what is amiss; nothing if all is well."""


class Probes:
    """What the port answers: that the process starts, until whoever knows better sets the three."""

    def __init__(self) -> None:
        self.not_live: Fault = lambda: ""
        self.not_warm: Fault = lambda: "the models are not loaded yet"
        self.not_ready: Fault = self.not_warm
        self._metrics = make_wsgi_app()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request (WSGI)."""
        match environ.get("PATH_INFO"):
            case "/metrics":
                metrics: Iterable[bytes] = self._metrics(environ, start_response)
                return metrics
            case "/healthz":
                return _answer(start_response, "alive", self.not_live())
            case "/startedz":
                return _answer(start_response, "started", self.not_warm())
            case "/readyz":
                return _answer(start_response, "ready", self.not_ready())
        start_response("404 Not Found", [("Content-Type", "application/json")])
        return [b'{"detail": "There is /metrics, /healthz, /startedz and /readyz."}']

    def serve(self, host: str, port: int) -> None:
        """Answer at a port, in threads that end with the process.

        Raises:
            InvalidConfiguration: the port is taken.
        """
        try:
            server = make_server(host, port, self, _SixServer if ":" in host else _Server, _Silent)
        except OSError as error:
            raise InvalidConfiguration(
                f"Port {port} of {host} cannot be used for metrics and probes ({error.strerror}); set "
                "LANDCOVER_WORKER_METRICS_PORT to another one."
            ) from error
        threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()


def open_probes(settings: WorkerSettings) -> Probes:
    """The probes of a process that starts, at its port if it has one.

    Raises:
        InvalidConfiguration: the port is taken.
    """
    probes = Probes()
    if settings.metrics_port:
        probes.serve(settings.metrics_host, settings.metrics_port)
    return probes


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _SixServer(_Server):
    address_family = AF_INET6


class _Silent(WSGIRequestHandler):
    timeout = 10
    """A client that says nothing holds a thread no longer."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Probes come every few seconds."""


def _answer(start_response: StartResponse, good: str, fault: str) -> Iterable[bytes]:
    status = "503 Service Unavailable" if fault else "200 OK"
    start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    document = {"status": f"not {good}", "detail": fault} if fault else {"status": good}
    return [json.dumps(document).encode()]
