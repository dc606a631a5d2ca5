"""S3 by what the environment says, in the words of both libraries that speak to it.

GDAL reads pixels, obstore all else, and they share the names of credentials and regions. Of these each knows its own:

================  =====================================  ==========================
what              obstore, AWS's own tools               GDAL
================  =====================================  ==========================
another server    `AWS_ENDPOINT_URL` (`http://host`)     `AWS_S3_ENDPOINT` (`host`), `AWS_HTTPS`
open buckets      `AWS_SKIP_SIGNATURE`                   `AWS_NO_SIGN_REQUEST`
bucket as host    `AWS_VIRTUAL_HOSTED_STYLE_REQUEST`     `AWS_VIRTUAL_HOSTING`
================  =====================================  ==========================

Either spelling is enough: what one library would not understand is told it in its own words.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_TRUE = frozenset({"1", "true", "yes", "on"})


def gdal_options(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Options for GDAL that the environment names in obstore's words only."""
    options = {}
    url = _endpoint_url(environ)
    if url and "AWS_S3_ENDPOINT" not in environ:
        parts = urlsplit(url)
        virtual = _is_true(environ, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST")
        options["AWS_S3_ENDPOINT"] = parts.netloc + parts.path.rstrip("/")
        options["AWS_HTTPS"] = "NO" if parts.scheme == "http" else "YES"
        options["AWS_VIRTUAL_HOSTING"] = "TRUE" if virtual else "FALSE"
    if _is_true(environ, "AWS_SKIP_SIGNATURE"):
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    return options


def store_options(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Options for obstore's S3 store that the environment names in GDAL's words only."""
    options: dict[str, Any] = {}
    host = environ.get("AWS_S3_ENDPOINT")
    if host and not _endpoint_url(environ):
        plain = environ.get("AWS_HTTPS", "YES").lower() in {"no", "false", "0", "off"}
        options["endpoint"] = host if "://" in host else f"{'http' if plain else 'https'}://{host}"
        if environ.get("AWS_VIRTUAL_HOSTING", "").lower() not in {"", "false", "no", "0", "off"}:
            options["virtual_hosted_style_request"] = True
    if _is_true(environ, "AWS_NO_SIGN_REQUEST"):
        options["skip_signature"] = True
    return options


def _endpoint_url(environ: Mapping[str, str]) -> str | None:
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or environ.get("AWS_ENDPOINT")


def _is_true(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() in _TRUE
