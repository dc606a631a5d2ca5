"""Settings of an API process, from `LANDCOVER_API_*`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from landcover.settings import split_locations

MAX_WAIT_S = 60.0
"""The longest `wait=` a request may ask for."""


class ApiSettings(BaseSettings):
    """How one API process answers."""

    model_config = SettingsConfigDict(env_prefix="LANDCOVER_API_", extra="ignore")

    wait_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] = 8.0
    """How long a request waits for missing blocks when it does not say."""
    shutdown_s: Annotated[int, Field(ge=1)] = 5
    """How long requests that have begun may take after SIGTERM; then they are cut off, streams of events, too."""
    max_missing_blocks: Annotated[int, Field(ge=1)] = 64
    """A request that lacks more blocks than this is not mapped on demand."""
    max_blocks: Annotated[int, Field(ge=1)] = 4096
    """A request that touches more blocks than this is refused."""
    max_image_px: Annotated[int, Field(ge=1)] = 2048 * 2048
    """Pixels of a `bbox` image."""
    tile_max_age_s: Annotated[int, Field(ge=0)] = 3600
    """How long browsers and CDNs may keep a finished tile before they ask again (a 304, mostly)."""
    unmapped_max_age_s: Annotated[int, Field(ge=0)] = 60
    """And one that lacks too many blocks to be mapped on demand."""
    pending_max_age_s: Annotated[int, Field(ge=0)] = 2
    """How long they may keep an unfinished one; map clients ask again when it is over."""
    annotations_max_body_bytes: Annotated[int, Field(ge=1)] = 4 << 20
    """Largest body of a request that writes annotations. While one is parsed, everything else waits (0.1 s or so)."""
    annotations_max_features: Annotated[int, Field(ge=1)] = 1000
    """Most features in it."""
    statistics_max_body_bytes: Annotated[int, Field(ge=1)] = 8 << 20
    """Largest body of a request for statistics."""
    statistics_max_features: Annotated[int, Field(ge=1)] = 1000
    statistics_max_vertices: Annotated[int, Field(ge=4)] = 200_000
    """Of all its polygons together."""
    statistics_max_blocks: Annotated[int, Field(ge=1)] = 250_000
    """Most blocks that the polygons of a request may span (16 000 km² of half-metre pixels in blocks of 512)."""
    max_jobs: Annotated[int, Field(ge=0)] = 32
    """Most jobs that wait or run; further ones are refused (429)."""
    map_jobs: Annotated[int, Field(ge=0)] = 1
    """Maps that this process has in hand at once, each in a process of its own; 0 leaves them to others."""
    map_max_blocks: Annotated[int, Field(ge=1)] = 10_000_000
    """Most blocks that one map may need (655 000 km² of half-metre pixels in blocks of 512)."""
    job_keep_s: Annotated[int, Field(ge=60)] = 24 * 3600
    """How long a job that has ended, and its result, are kept."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ("*",)

    _split = field_validator("cors_origins", mode="before")(split_locations)
