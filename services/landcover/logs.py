"""How processes log: one line a record on standard error, time and level first."""

from __future__ import annotations

import logging


def configure_logging(level: str = "INFO") -> None:
    """Set up the root logger; libraries that narrate every step are told to report troubles only."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S", force=True
    )
    logging.captureWarnings(True)  # Python's warnings are for developers
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    narrators = "alembic", "botocore", "celery", "httpx", "kombu", "numexpr", "pyogrio", "rasterio", "titiler"
    for chatty in (*narrators, "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
