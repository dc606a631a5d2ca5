"""How processes log: one line a record on standard error, for people (`console`) or for programs (`json`).

Either way the libraries' records (uvicorn's, Celery's, GDAL's) look like ours, say which request they are about, and
hold no secrets: whatever is written passes `redact`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from landcover import tracing
from landcover.correlation import request_id
from landcover.errors import InvalidConfiguration
from landcover.redaction import redact

FORMATS = ("console", "json")
_NARRATORS = (
    *("alembic", "botocore", "celery", "httpx", "kombu", "numexpr", "opentelemetry", "pyogrio", "rasterio"),
    *("titiler", "urllib3", "uvicorn.access"),
)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class ConsoleFormatter(logging.Formatter):
    """Time and level first; the request's id last, if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """One line."""
        request = _request_of(record)
        return super().formatMessage(record) + (f" [request {request}]" if request else "")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback if there is one."""
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a record: `time`, `level`, `logger`, `message`, `process`, and what else there is to say."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            "process": record.process,
        }
        if request := _request_of(record):
            document["request_id"] = request
        if trace := tracing.trace_id():
            document["trace_id"] = trace
        if record.exc_info and record.exc_info[0] is not None:
            document["exception"] = redact(self.formatException(record.exc_info))
        if record.stack_info:
            document["stack"] = redact(record.stack_info)
        return json.dumps(document, ensure_ascii=False)


def configure_logging(level: str | None = None, form: str | None = None) -> None:
    """Set up the root logger; libraries that narrate every step are told to report troubles only.

    What is not given comes from `LANDCOVER_LOG_LEVEL` and `LANDCOVER_LOG_FORMAT`.

    Raises:
        InvalidConfiguration: there is no such level or format.
    """
    level = (level or os.environ.get("LANDCOVER_LOG_LEVEL") or "INFO").upper()
    form = form or os.environ.get("LANDCOVER_LOG_FORMAT") or "console"
    if level not in _LEVELS:
        raise InvalidConfiguration(f"LANDCOVER_LOG_LEVEL must be one of {', '.join(_LEVELS)} (got '{level}').")
    if form not in FORMATS:
        raise InvalidConfiguration(f"LANDCOVER_LOG_FORMAT must be console or json (got '{form}').")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)  # Python's warnings are for developers
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    for chatty in _NARRATORS:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def log_uncaught() -> None:
    """Have what ends a process or a thread logged as all else is; for processes that serve."""

    def log(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
        else:
            logging.getLogger("landcover").critical("uncaught error", exc_info=(kind, error, traceback))

    def log_thread(what: threading.ExceptHookArgs) -> None:
        if what.exc_value is not None and not issubclass(what.exc_type, SystemExit):
            log(what.exc_type, what.exc_value, what.exc_traceback)

    sys.excepthook = log
    threading.excepthook = log_thread


def _request_of(record: logging.LogRecord) -> str:
    """Of the record itself, if a thread logs what is another's; else of the context that it is written in."""
    return getattr(record, "request_id", "") or request_id()
