"""Asking an origin server for tiles: politely, patiently, and never for longer than there is time.

httpx rather than obstore: the status of an answer, its Retry-After and whether it is a redirect decide what is done,
and obstore shows none of them.
"""

from __future__ import annotations

import hashlib
import random
import time
import weakref
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from landcover import __version__
from landcover.errors import LandcoverError, SceneTooSlow, SceneUnreadable
from landcover.xyz.decoding import NotATile, Tile, WrongTile, decode
from landcover.xyz.matrix import TileAddress
from landcover.xyz.pace import Pace, TooLong
from landcover.xyz.service import Service

USER_AGENT = f"landcover-tiles/{__version__}"

MAX_TILE_BYTES = 16 << 20
"""512² RGBA are 1 MiB uncompressed: more is no tile."""

_ATTEMPTS = 4
_SILENT_ATTEMPTS = 2
"""A connection may hang by chance; a server that is silent twice is down."""
_BACKOFF_S = 0.25
"""Doubled at each attempt; a random part of it is waited, so that clients do not come back together."""
_MAX_REDIRECTS = 3
_LONGEST_PAUSE_S = 600.0
"""However long an origin wants to be left alone, it is asked again after so long."""
_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})


class NobodyWaits(Exception):
    """Whoever asked for the tile has gone."""


class _Failure(Exception):
    """One attempt failed; another may succeed."""

    def __init__(self, error: LandcoverError, *, silent: bool = False, busy: bool = False) -> None:
        self.error = error
        self.silent = silent
        self.busy = busy
        """The origin asked for a pause, which the pace keeps: that is no failed attempt."""


class Errand:
    """Until when one tile is wanted; more who want it may come, and all may go."""

    def __init__(self, service: Service, address: TileAddress) -> None:
        self.service = service
        self.address = address
        self.waiting = 0
        self._deadline = time.monotonic()

    def join(self, deadline: float) -> None:
        """One more wants the tile, until then (monotonic)."""
        self.waiting += 1
        self._deadline = max(self._deadline, deadline)

    def leave(self) -> None:
        """One less."""
        self.waiting -= 1

    @property
    def left_s(self) -> float:
        """Seconds left.

        Raises:
            NobodyWaits: nobody wants it any more.
        """
        if not self.waiting:
            raise NobodyWaits
        return self._deadline - time.monotonic()

    @property
    def name(self) -> str:
        """The tile, for sentences; nothing secret."""
        return f"Tile {self.address} of {self.service.name}"


class Origins:
    """Fetches tiles of any number of services, from any number of threads."""

    def __init__(self, timeout_s: float, pace: Pace) -> None:
        self._timeout_s = timeout_s
        self._pace = pace
        self._client = httpx.Client(
            headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )
        weakref.finalize(self, self._client.close)

    def fetch(self, errand: Errand) -> tuple[bytes, Tile | None]:
        """The tile as it came and as it is; empty and None where there is no imagery.

        Raises:
            SceneUnreadable: the server refuses it, cannot be reached, or gives what is no tile.
            SceneTooSlow: it does not answer in time, or asks to come back later than there is time for.
            NobodyWaits: as it says.
        """
        failed = silent = pauses = 0
        while True:
            try:
                return self._once(errand)
            except _Failure as failure:
                silent += failure.silent
                failed += not failure.busy
                pauses += failure.busy
                if failed >= _ATTEMPTS or silent >= _SILENT_ATTEMPTS:
                    raise failure.error from None
                backoff_s = random.uniform(0.5, 1) * _BACKOFF_S * 2 ** (failed + pauses - 1)
                if backoff_s >= errand.left_s:
                    raise failure.error from None
                time.sleep(backoff_s)

    def _once(self, errand: Errand) -> tuple[bytes, Tile | None]:
        service = errand.service
        if errand.left_s <= 0:
            raise SceneTooSlow(f"{errand.name} was not asked for in time: too many tiles are wanted at once.")
        try:
            time.sleep(self._pace.reserve(service.origin, 1 / service.options.max_rps, errand.left_s))
        except TooLong as error:
            raise SceneTooSlow(
                f"{service.name} can be asked for the next tile in {error.wait_s:.0f} s only: it is asked for at most "
                f"{service.options.max_rps:g} a second (`max_rps`), or wants a pause itself (Retry-After). Try again "
                "later, or with fewer threads."
            ) from None
        data = self._get(errand)
        if data is None or hashlib.sha256(data).hexdigest() in service.options.blank_sha256:
            return b"", None
        try:
            return data, decode(data, service.options.tilesize)
        except WrongTile as error:
            raise SceneUnreadable(f"{errand.name} {error}.") from None
        except NotATile as error:
            raise _Failure(SceneUnreadable(f"{errand.name} {error}.")) from None

    def _get(self, errand: Errand) -> bytes | None:
        """The body of one answer; None for a tile that is missing. No cause is kept: it would name the address."""
        until = time.monotonic() + min(self._timeout_s, max(errand.left_s, 0.05))
        options = errand.service.options
        url = httpx.URL(errand.address.url(errand.service.template))
        request = self._client.build_request("GET", url, headers=list(options.headers))
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                request.extensions["timeout"] = httpx.Timeout(max(until - time.monotonic(), 0.05)).as_dict()
                response = self._client.send(request, stream=True)
                try:
                    if response.status_code in options.missing_statuses:
                        return None
                    if response.next_request is None:
                        return self._body(errand, response, until)
                    if not _same_server(url, response.next_request.url):
                        raise SceneUnreadable(
                            f"{errand.name} was redirected to {response.next_request.url.host}, which is not followed; "
                            "name that server, if it is the right one."
                        )
                    request = response.next_request
                finally:
                    response.close()
        except httpx.TimeoutException:
            slow = SceneTooSlow(f"{errand.name} did not come within {self._timeout_s:g} s.")
            raise _Failure(slow, silent=True) from None
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _Failure(SceneUnreadable(f"{errand.name} did not come: {_kind(error)}.")) from None
        raise SceneUnreadable(f"{errand.name} was redirected more than {_MAX_REDIRECTS} times.")

    def _body(self, errand: Errand, response: httpx.Response, until: float) -> bytes:
        status = response.status_code
        if status in _BUSY:
            wait_s = _retry_after_s(response)
            self._pace.hold(errand.service.origin, wait_s)
            error = SceneTooSlow(f"{errand.service.name} is busy ({status}) and asks to come back in {wait_s:.0f} s.")
            raise _Failure(error, busy=True)
        if status != HTTPStatus.OK:
            refusal = SceneUnreadable(
                f"{errand.name} was refused ({status}); check the address, its key and the service's terms."
            )
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
                raise _Failure(refusal)
            raise refusal
        data = bytearray()
        announced = response.headers.get("Content-Length", "")
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > MAX_TILE_BYTES or (announced.isdecimal() and int(announced) > MAX_TILE_BYTES):
                raise SceneUnreadable(f"{errand.name} has more than {MAX_TILE_BYTES >> 20} MiB: that is no tile.")
            if time.monotonic() > until:
                raise httpx.ReadTimeout("dripping")
        return bytes(data)


def _retry_after_s(response: httpx.Response) -> float:
    """What the header says, as seconds or as a date, within reason; 1 without it."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        wait_s = float(text) if text.isdecimal() else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 1.0
    return min(max(0.0, wait_s), _LONGEST_PAUSE_S)


def _same_server(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether a redirect stays where the operator sent us; from http to https it may go."""
    upgraded = (one.scheme, other.scheme, other.port) == ("http", "https", None)
    return one.host == other.host and (upgraded or (one.scheme, one.port) == (other.scheme, other.port))


def _kind(error: Exception) -> str:
    """The kind of failure; messages of the library may hold the address."""
    if isinstance(error, httpx.ConnectError):
        return "its server cannot be reached; check the address"
    return "the answer broke off"
