"""Which API keys are good now: settings, and the keys of a file that may change while the process runs."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from landcover.api_keys import ApiKey, digest_of, parse_keys
from landcover.errors import InvalidConfiguration

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""How often the file is looked at, and so how long a key that was taken out of it is good."""
LONGEST_KEY = 256
"""Bytes; what is longer is not even hashed."""

_Stamp = tuple[int, int, int, int]


class ApiKeySettings(BaseSettings):
    """Who may do what: `LANDCOVER_API_KEYS`, `LANDCOVER_API_KEYS_FILE`, `LANDCOVER_API_KEYS_FOR`."""

    model_config = SettingsConfigDict(env_prefix="LANDCOVER_API_", extra="ignore")

    keys: SecretStr = SecretStr("")
    """Words `NAME:read|write:sha256:HEX`. Secret although only hashes: someone may write a key there by mistake."""
    keys_file: Path | None = None
    """A file of such words, which is read again when it changes."""
    keys_for: Literal["write", "all"] = "write"
    """What needs a key: what changes and begins things, or reading, too."""

    @field_validator("keys_file", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def given(self) -> bool:
        """Whether there are any keys; if not, everything is open."""
        return bool(self.keys.get_secret_value()) or self.keys_file is not None


class KeyRing:
    """The keys that are good now."""

    def __init__(self, settings: ApiKeySettings) -> None:
        """Read the keys.

        Raises:
            InvalidConfiguration: there are none, something else stands between them, or the file cannot be read.
        """
        text = settings.keys.get_secret_value()
        self._settled = _all_keys(text, "LANDCOVER_API_KEYS") if text else ()
        self._file = settings.keys_file
        self._stamp: _Stamp | None = None
        self._look_at = 0.0
        self._keys = self._settled
        if self._file is not None:
            try:
                self._stamp, text = _stamp(self._file), _read(self._file)
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidConfiguration(_unreadable(self._file, error)) from error
            self._keys += _all_keys(text, f"The file of LANDCOVER_API_KEYS_FILE ({self._file})")
            self._look_at = time.monotonic() + LOOK_EVERY_S

    def find(self, presented: bytes) -> ApiKey | None:
        """The key that a client presents, if it is good.

        How long it takes tells nothing of the keys: it is compared with all of them, by hash, each in constant time.
        """
        if len(presented) > LONGEST_KEY:
            return None
        self._look()
        digest, found = digest_of(presented), None
        for each in self._keys:
            if hmac.compare_digest(each.digest, digest):
                found = each
        return found

    def _look(self) -> None:
        """Read the file again if it has changed.

        A key that is no longer there must not stay good because of a slip in another line: such a line alone is
        left out. A file that is away says nothing, so the keys stay; an empty one takes all of them away.
        """
        now = time.monotonic()
        if self._file is None or now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        try:
            stamp = _stamp(self._file)
            if stamp == self._stamp:
                return
            parsed = parse_keys(_read(self._file))
        except (OSError, UnicodeDecodeError) as error:
            if self._stamp is not None:
                logger.error("%s The keys that were known stay good.", _unreadable(self._file, error))
            self._stamp = None
            return
        self._stamp = stamp
        self._keys = (*self._settled, *parsed.keys)
        for fault in parsed.faults:
            logger.error("%s: %s; it is left out", self._file, fault)
        logger.info("API keys were read again: %s", ", ".join(each.name for each in self._keys) or "none is good now")


def _all_keys(text: str, what: str) -> tuple[ApiKey, ...]:
    parsed = parse_keys(text)
    _refuse(parsed.faults, what)
    if not parsed.keys:
        raise InvalidConfiguration(
            f"{what} has no key in it; give it lines of `landcover keys create`, or leave it away to have all open."
        )
    return parsed.keys


def _refuse(faults: Iterable[str], what: str) -> None:
    for fault in faults:
        raise InvalidConfiguration(
            f"{what}: {fault}. `landcover keys create NAME` makes such a line; a key itself does not belong there."
        )


def _stamp(path: Path) -> _Stamp:
    """Changes whenever the file does; a mounted secret is another file each time."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> str:
    reason = error.strerror if isinstance(error, OSError) else "it is not text"
    return f"The file of LANDCOVER_API_KEYS_FILE ({path}) cannot be read ({reason})."
