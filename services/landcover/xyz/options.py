"""What the operator says of an XYZ imagery service: its zoom, its extent, and how it wants to be treated.

In a catalogue under `xyz:`, on the command line behind the template's `#`::

    https://example.org/{z}/{x}/{y}.jpg#zoom=18&bbox=139.7,35.6,139.8,35.7
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from landcover.errors import InvalidConfiguration

MAX_LATITUDE = 85.0511287798066
"""Where the square of Web Mercator ends."""

PLACEHOLDERS = frozenset({"z", "x", "y"})

NEEDS = (
    "an XYZ service needs a zoom and a box of degrees (west, south, east, north): "
    "'https://…/{z}/{x}/{y}.jpg#zoom=18&bbox=139.7,35.6,139.8,35.7'; in a catalogue `xyz:` with `zoom:` and `bounds:`"
)

_OF_FRAGMENT = {"bbox": "bounds"} | {name: name for name in ("zoom", "tilesize", "minzoom", "version", "max_rps")}
"""What a fragment may say → its field."""


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue = Annotated[str, Field(pattern=r"^[!-~]([ -~]*[!-~])?$")]


class XyzOptions(BaseModel):
    """How tiles of an XYZ service become a scene."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zoom: Annotated[int, Field(ge=0, le=24)]
    """Whose tiles are the scene's pixels."""
    bounds: tuple[float, float, float, float]
    """West, south, east, north, degrees; grown to whole tiles. Needed: a scene has one ground sample distance, that at
    its centre, and that of the whole world at the equator would be wrong nearly everywhere."""
    tilesize: Literal[256, 512] = 256
    """Pixels of a tile's side."""
    minzoom: Annotated[int, Field(ge=0, le=24)] = 0
    """The lowest zoom the service has; lower zooms only show the imagery on a map."""
    version: str | None = None
    """Whatever the operator raises when the imagery has changed: the service itself does not tell."""
    missing_statuses: tuple[Annotated[int, Field(ge=201, le=499)], ...] = (204, 404, 410)
    """Answers that mean "there is no imagery here"; everything else but 200 is an error."""
    blank_sha256: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = ()
    """Digests of pictures that mean the same ("no imagery at this zoom")."""
    max_rps: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """Requests a second, of all processes that share a `LANDCOVER_ORIGIN_PACE_URL`."""
    max_connections: Annotated[int, Field(ge=1, le=64)] = 6
    """Requests at once, of one process."""
    headers: tuple[tuple[HeaderName, HeaderValue], ...] = ()
    """Sent with every request, for example `{Referer: …}`; `User-Agent` replaces ours."""

    @field_validator("headers", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        return tuple(value.items()) if isinstance(value, dict) else value

    @field_validator("bounds")
    @classmethod
    def _box(cls, value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        west, south, east, north = value
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise ValueError("a box is west, south, east, north in degrees; one across the antimeridian is two scenes")
        if south >= MAX_LATITUDE or north <= -MAX_LATITUDE:
            raise ValueError(f"XYZ tiles reach to latitude ±{MAX_LATITUDE:.2f} only")
        return value

    @model_validator(mode="after")
    def _sensible(self) -> XyzOptions:
        if self.minzoom > self.zoom:
            raise ValueError("minzoom is above zoom")
        return self


def is_template(location: str) -> bool:
    """Whether `location` names tiles rather than a file."""
    return "{z}" in location


def check_template(location: str) -> None:
    """Refuse a template that cannot be filled in.

    Raises:
        ValueError: with what is wrong.
    """
    names = set(re.findall(r"{([^{}]*)}", location))
    if strange := names - PLACEHOLDERS:
        raise ValueError(
            f"a template has {{z}}, {{x}} and {{y}} only, not {{{min(strange)}}}; write one server's name out"
        )
    if lacking := PLACEHOLDERS - names:
        raise ValueError(f"a template needs {{z}}, {{x}} and {{y}}; {{{min(lacking)}}} is missing")
    url = urlsplit(location)
    if url.scheme not in ("http", "https") or not url.hostname or "{" in url.netloc:
        raise ValueError("XYZ tiles come from an address that begins with http:// or https:// and names its server")


def read_fragment(where: str, fragment: str) -> dict[str, Any]:
    """The options in `zoom=18&bbox=…`.

    Raises:
        InvalidConfiguration: a word is unknown, or a value is none; `where` begins the sentence.
    """
    if not fragment:
        raise InvalidConfiguration(f"{where}: {NEEDS}.")
    found: dict[str, Any] = {}
    for name, value in parse_qsl(fragment, keep_blank_values=True):
        if name not in _OF_FRAGMENT:
            raise InvalidConfiguration(f"{where}: '{name}' is unknown; after # come {', '.join(_OF_FRAGMENT)}.")
        found[_OF_FRAGMENT[name]] = value
    if "bounds" in found:
        found["bounds"] = found["bounds"].split(",")
    if "tilesize" in found and found["tilesize"].isdecimal():
        found["tilesize"] = int(found["tilesize"])
    return found


def checked(where: str, found: dict[str, Any]) -> XyzOptions:
    """`found` as options.

    Raises:
        InvalidConfiguration: `where`, the field and what is wrong with it.
    """
    if not {"zoom", "bounds"} <= found.keys():
        raise InvalidConfiguration(f"{where}: {NEEDS}.")
    try:
        return XyzOptions.model_validate(found)
    except ValidationError as error:
        fault = error.errors()[0]
        field = "bbox" if fault["loc"][:1] == ("bounds",) else ".".join(map(str, fault["loc"])) or "xyz"
        message = fault["msg"].removeprefix("Value error, ")
        raise InvalidConfiguration(f"{where}: {field}: {message}.") from error
