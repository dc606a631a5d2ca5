"""`landcover api`."""

from __future__ import annotations

import argparse
import gc
import ipaddress
import logging
import os
import resource
from typing import Any

from landcover import tracing
from landcover.local import end_with_parent
from landcover.logs import configure_logging, log_uncaught
from landcover_api.counters import count_alone, count_together

logger = logging.getLogger(__name__)

_ONE_OF_MANY = "LANDCOVER_API_ONE_OF_MANY"
"""Set for the processes that share a port: they end with the one that started them."""


def api(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "api",
        help="serve tiles, statistics and the map page",
        description="Serve tiles, statistics and the map page over HTTP. Needs a broker and a cache (Redis 7 or\n"
        "Valkey) and, for what is not cached, at least one `landcover worker`. `landcover up` runs all of it.",
        epilog="settings: LANDCOVER_BROKER_URL, LANDCOVER_CACHE_URL, LANDCOVER_SCENES, LANDCOVER_MODELS,\n"
        "  LANDCOVER_DEFAULT_MODEL, LANDCOVER_API_* (LANDCOVER_API_KEYS: see `landcover keys`)\n\n"
        "example:\n  LANDCOVER_SCENES=/data/scenes landcover api --host 0.0.0.0 --processes 4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the port (default: 1)")
    parser.add_argument("--root-path", default="", help="path under which a proxy serves this (default: none)")
    parser.set_defaults(run=_run)


def make_process() -> Any:
    """The application of one of several processes, which start bare."""
    from landcover_api.app import create_app

    configure_logging()
    log_uncaught()
    tracing.start("landcover-api")
    if _ONE_OF_MANY in os.environ:
        end_with_parent()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if hard > soft else (soft, hard))  # a client is a file
    app = create_app()
    _leave_to_itself()
    return app


def _leave_to_itself() -> None:
    """Have the garbage collector pass over what stays: libraries, routes, catalogues.

    Under load it stopped the process for 0.13 s each second or two: the slowest hundredth of the answers (measured).
    """
    gc.collect()
    gc.freeze()


def _run(arguments: argparse.Namespace) -> int:
    count_alone()
    from landcover_api.api_keys import ApiKeySettings
    from landcover_api.app import create_app

    create_app()  # a wrong setting or model is one sentence here, not a traceback of a server process
    if not (is_loopback(arguments.host) or ApiKeySettings().given):
        logger.warning(
            "there are no API keys: whoever reaches %s:%s may begin jobs and change annotations (docs/api-keys.md)",
            arguments.host,
            arguments.port,
        )
    if arguments.processes == 1:
        _serve(arguments)
        return 0
    os.environ[_ONE_OF_MANY] = "1"
    with count_together():
        _serve(arguments)
    return 0


def _serve(arguments: argparse.Namespace) -> None:
    import uvicorn

    from landcover_api.settings import ApiSettings

    uvicorn.run(
        "landcover_api.cli:make_process",
        factory=True,
        host=arguments.host,
        port=arguments.port,
        workers=arguments.processes,
        root_path=arguments.root_path,
        log_config=None,
        access_log=False,
        proxy_headers=True,
        timeout_graceful_shutdown=ApiSettings().shutdown_s,
        timeout_worker_healthcheck=60,  # its 5 s can be less than a process takes to import all this
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
