"""`landcover api`."""

from __future__ import annotations

import argparse
from typing import Any


def api(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "api",
        help="serve tiles, statistics and the map page",
        description="Serve tiles, statistics and the map page over HTTP. Needs a broker and a cache (Redis 7 or\n"
        "Valkey) and, for what is not cached, at least one `landcover worker`. `landcover up` runs all of it.",
        epilog="settings: LANDCOVER_BROKER_URL, LANDCOVER_CACHE_URL, LANDCOVER_SCENES, LANDCOVER_MODELS,\n"
        "  LANDCOVER_DEFAULT_MODEL, LANDCOVER_API_*\n\n"
        "example:\n  LANDCOVER_SCENES=/data/scenes landcover api --host 0.0.0.0 --processes 4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the port (default: 1)")
    parser.add_argument("--root-path", default="", help="path under which a proxy serves this (default: none)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import uvicorn

    from landcover_api.app import create_app

    create_app()  # a wrong setting or model is one sentence here, not a traceback of a server process
    uvicorn.run(
        "landcover_api.app:create_app",
        factory=True,
        host=arguments.host,
        port=arguments.port,
        workers=arguments.processes,
        root_path=arguments.root_path,
        log_config=None,
        access_log=False,
        proxy_headers=True,
        timeout_graceful_shutdown=5,
    )
    return 0
