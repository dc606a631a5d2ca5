"""What commands say to a running service over HTTP, and what its refusals mean to who typed the command."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

from landcover.errors import (
    AccessDenied,
    DestinationUnwritable,
    InvalidRequest,
    LandcoverError,
    NotFound,
    RequestTooLarge,
    Unavailable,
)

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "LANDCOVER_API_KEY"
ANSWER_TIMEOUT_S = 300.0
_DOWNLOADED_AT_ONCE = 1 << 18

_REFUSALS: dict[int, type[LandcoverError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    413: RequestTooLarge,
    429: Unavailable,
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer, whatever its status."""

    server: str
    status: int
    reason: str
    headers: Message
    body: bytes

    @property
    def retry_after_s(self) -> float | None:
        """When to come again, if the service says so in seconds."""
        value = self.headers.get("Retry-After", "")
        return float(value) if value.isdecimal() else None

    def content(self) -> bytes:
        """The body of a good answer.

        Raises:
            AccessDenied, NotFound, RequestTooLarge, InvalidRequest: the service refuses, in its own words.
            Unavailable: it cannot answer now, or is no landcover service.
        """
        if self.status < 300:
            return self.body
        try:
            detail = str(json.loads(self.body)["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{self.server} answers {self.status} {self.reason}; check --url."
        if self.status == 401:
            detail += f" Commands take it from {KEY_VARIABLE} or --api-key."
        raise _REFUSALS.get(self.status, InvalidRequest if self.status < 500 else Unavailable)(detail)

    def document(self) -> dict[str, Any]:
        """The JSON object of a good answer.

        Raises:
            LandcoverError: as `content`, or the answer is something else.
        """
        try:
            document: object = json.loads(self.content())
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise foreign(self.server)
        return document


@dataclass(frozen=True, kw_only=True)
class ServiceClient:
    """Asks one service."""

    url: str = DEFAULT_URL
    advice: str = ""
    """What else could be done when no service answers, to end the sentence with: ", or …"."""
    api_key: str | None = field(default=None, repr=False)
    """Sent to `url` alone, never to another server that an answer names or redirects to."""

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """Ask `path` of the service, or another URL; query parameters that are None are left out.

        Raises:
            Unavailable: nobody answers there.
        """
        base = self.url.rstrip("/")
        if not base.startswith(("http://", "https://")):
            raise self._nobody(base, "its URL must begin with http:// or https://")
        given = urllib.parse.urlencode({name: value for name, value in (query or {}).items() if value is not None})
        url = (path if "://" in path else f"{base}{path}") + (f"?{given}" if given else "")
        headers = {} if body is None else {"Content-Type": "application/geo+json"}
        request = urllib.request.Request(url, data=body, headers=headers, method=method)
        self._sign(request)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                return Answer(
                    server=base,
                    status=response.status,
                    reason=response.reason,
                    headers=response.headers,
                    body=response.read(),
                )
        except urllib.error.HTTPError as error:
            return Answer(
                server=base, status=error.code, reason=str(error.reason), headers=error.headers, body=error.read()
            )
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._nobody(base, getattr(error, "reason", error)) from None

    def download(self, url: str, path: Path, on_bytes: Callable[[int], None]) -> None:
        """Write what is at `url` into a file, some at a time.

        Raises:
            LandcoverError: the service refuses, or breaks off.
        """
        request = urllib.request.Request(url)
        self._sign(request)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as response, path.open("wb") as file:
                while part := response.read(_DOWNLOADED_AT_ONCE):
                    file.write(part)
                    on_bytes(len(part))
                if response.length:
                    raise Unavailable(f"{url} broke off; try again.")
        except urllib.error.HTTPError as error:
            Answer(
                server=self.url, status=error.code, reason=str(error.reason), headers=error.headers, body=error.read()
            ).content()
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise self._nobody(self.url, getattr(error, "reason", error)) from None
        except OSError as error:
            raise DestinationUnwritable(f"{path} cannot be written ({error.strerror or error}).") from error

    def _sign(self, request: urllib.request.Request) -> None:
        if self.api_key and _origin(request.full_url) == _origin(self.url):
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")

    def _nobody(self, base: str, reason: object) -> Unavailable:
        return Unavailable(
            f"No service answers at {base} ({reason}). Start one with `landcover up`, name another with --url"
            f"{self.advice}."
        )


def add_key_option(parser: argparse.ArgumentParser) -> None:
    """Add `--api-key`; `api_key_of` reads it."""
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help=f"for a service that needs one (default: {KEY_VARIABLE}, which other users of this machine do not see)",
    )


def api_key_of(arguments: argparse.Namespace) -> str | None:
    """The key that a command was given.

    Raises:
        InvalidRequest: it cannot be one; it is not repeated.
    """
    key = (arguments.api_key or os.environ.get(KEY_VARIABLE, "")).strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidRequest(f"{KEY_VARIABLE} or --api-key holds blanks or letters that no key has; copy it once more.")
    return key or None


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def foreign(server: str) -> Unavailable:
    """The error for what answers as no landcover service does."""
    return Unavailable(f"{server} answers, but not as landcover-tiles does; check --url.")


def scene_path(scene: str) -> str:
    """The path of a scene, whatever characters its name has."""
    return f"/scenes/{urllib.parse.quote(scene, safe='')}"
