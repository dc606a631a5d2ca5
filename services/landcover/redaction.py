"""Taking secrets out of text that goes into a log or a trace: passwords and queries of addresses, and named secrets.

Messages come from everywhere: GDAL names the signed address that it could not read, a Redis client its URL, a
library the arguments of a call. So it is done where text leaves the process, and not where it is written.
"""

from __future__ import annotations

import re

from landcover.api_keys import KEY_PREFIX

_URL = re.compile(r"\b([a-z][a-z0-9+.\-]*)://([^\s\"'<>]*)", re.IGNORECASE)
_NAMED = re.compile(
    r"""(?:(?<![a-z])|(?<=%[0-9a-f]{2}))((?:x-(?:amz|goog)-[a-z\-]+|awsaccesskeyid|googleaccessid|signature|sig|(?:access_?|auth_?|session_?|api_?)?token
    |api[_-]?key|password|passwd|secret(?:_?(?:access)?_?key)?)['"]?\s*(?:=|:|%3D)\s*['"]?)(?!\*\*\*)[^\s&'",;)}]+""",
    re.IGNORECASE | re.VERBOSE,
)
_AUTHORIZATION = re.compile(r"\b(bearer|basic)\s+[a-z0-9+/=._~\-]{6,}", re.IGNORECASE)
_API_KEY = re.compile(rf"\b{KEY_PREFIX}[A-Za-z0-9_-]{{20,}}")
_HIDDEN = "***"


def redact(text: str) -> str:
    """`text` without the user, password, query and fragment of any URL in it, and without values of named secrets."""
    if "://" in text:
        text = _URL.sub(_without_secrets, text)
    text = _AUTHORIZATION.sub(rf"\1 {_HIDDEN}", _NAMED.sub(rf"\1{_HIDDEN}", text))
    return _API_KEY.sub(_HIDDEN, text)


def _without_secrets(match: re.Match[str]) -> str:
    scheme, rest = match[1], match[2]
    if not scheme.lower().startswith("http") and "@" in rest:
        # Servers' passwords may hold slashes and question marks that nobody has quoted.
        rest = f"{_HIDDEN}@{rest.rpartition('@')[2]}"
    address, query, _ = _split(rest)
    authority, slash, path = address.partition("/")
    if "@" in authority:
        authority = f"{_HIDDEN}@{authority.rpartition('@')[2]}"
    return f"{scheme}://{authority}{slash}{path}{query}{_HIDDEN if query else ''}"


def _split(rest: str) -> tuple[str, str, str]:
    """What is before the first `?` or `#`, that sign, and what follows."""
    found = re.search(r"[?#]", rest)
    return (rest, "", "") if found is None else (rest[: found.start()], found[0], rest[found.end() :])
