"""API keys as they are made and kept: a random key for the client, and a line with its SHA-256 for the service.

A slow hash (scrypt, Argon2) protects passwords, which can be guessed one after the other. A key of 256 random bits
cannot be guessed, however fast the hash is. So SHA-256 is enough, and a request pays 1 µs for it, not 100 ms.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast

from landcover.errors import InvalidRequest

Role = Literal["read", "write"]
"""What a key may do: look, or also change and begin things."""

KEY_BYTES = 32
KEY_PREFIX = "lck_"
"""Tells people, and programs that look for secrets in files, what it is."""
SHORTEST_KEY = 32
"""Characters of a key that was made elsewhere: as many of hexadecimal are 128 bits."""

WITHOUT_KEYS: Mapping[str, str] = MappingProxyType(
    {"LANDCOVER_API_KEYS": "", "LANDCOVER_API_KEYS_FILE": "", "LANDCOVER_API_KEYS_FOR": "write"}
)
"""Environment of a private API, which must not ask the program that started it for keys of another's clients."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_WORD = re.compile(r"([A-Za-z0-9._-]{1,64}):(?:(read|write):)?sha256:([0-9a-fA-F]{64})")


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """What a service knows of a key."""

    name: str
    """Of the client that has it. Two keys may have one name: while a new one takes the old one's place."""
    role: Role
    digest: bytes
    """SHA-256 of the key."""

    @property
    def line(self) -> str:
        """As a word of LANDCOVER_API_KEYS, or a line of the file."""
        return f"{self.name}:{self.role}:sha256:{self.digest.hex()}"

    def may(self, role: Role) -> bool:
        """Whether it allows what needs `role`."""
        return role in ("read", self.role)


@dataclass(frozen=True, kw_only=True)
class ParsedKeys:
    """What a text of keys says."""

    keys: tuple[ApiKey, ...]
    faults: tuple[str, ...]
    """Where something else stands than a key's hash. It is not repeated: it may be a key itself."""


def new_key() -> str:
    """A key of 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


def keep(key: str, name: str, role: Role) -> ApiKey:
    """What a service is to know of `key`.

    Raises:
        InvalidRequest: the name cannot be written in a line, or the key could be guessed or not be sent.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest("A key's name has 1 to 64 letters of a-z and A-Z, digits, dots, dashes or underscores.")
    if len(key) < SHORTEST_KEY or not re.fullmatch(r"[!-~]+", key):
        raise InvalidRequest(
            f"A key has {SHORTEST_KEY} or more random characters of ASCII without blanks; `landcover keys create` "
            "makes one."
        )
    return ApiKey(name=name, role=role, digest=digest_of(key.encode("ascii")))


def parse_keys(text: str) -> ParsedKeys:
    """The keys of a text: `NAME:ROLE:sha256:HEX` between blanks or line ends; without a role it is `write`.

    A line that begins with # is a comment.
    """
    keys: list[ApiKey] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#"):
            continue
        for word in line.split():
            if match := _WORD.fullmatch(word):
                role = cast(Role, match[2] or "write")
                keys.append(ApiKey(name=match[1], role=role, digest=bytes.fromhex(match[3])))
            else:
                faults.append(f"line {number} holds what is not NAME:read|write:sha256:HEX")
    return ParsedKeys(keys=tuple(keys), faults=tuple(faults))
