"""Settings that more than one process reads; one class per concern, all from `LANDCOVER_*` variables.

Nothing is read at import: a process makes these when it starts and passes them on.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_CONFIG = SettingsConfigDict(env_prefix="LANDCOVER_", extra="ignore")

Locations = Annotated[tuple[str, ...], NoDecode]
"""Paths and URLs: in the environment a JSON list, or words separated by blanks or commas."""


def split_locations(value: object) -> object:
    """`a.tif b.tif`, `a.tif,b.tif` or `["a.tif", "b, c.tif"]` as a tuple; anything else unchanged."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return tuple(json.loads(value))
    words = ([word] if "bbox=" in word else word.split(",") for word in value.split())  # a box has commas of its own
    return tuple(part for word in words for part in word if part)


class CatalogSettings(BaseSettings):
    """Which scenes and models there are."""

    model_config = _CONFIG

    scenes: Locations = ()
    """Files, folders, https/s3 URLs, XYZ templates or YAML catalogues."""
    models: Locations = ()
    """ONNX files or folders of them; `FILE@sha256:…` pins one. Empty: the demonstration model."""
    default_model: str | None = None
    """Name or digest used when a request names none; by default the first of `models`."""
    scene_revalidate_s: Annotated[float, Field(gt=0)] = 60.0
    """How long a remote image's version is believed before it is asked for again; local files always are."""

    _split = field_validator("scenes", "models", mode="before")(split_locations)


class BrokerSettings(BaseSettings):
    """Where tasks, attempt counters and dead letters are kept: Redis or Valkey with `noeviction`."""

    model_config = _CONFIG

    broker_url: str = "redis://127.0.0.1:6379/0"


class CacheSettings(BaseSettings):
    """Where blocks and rendered tiles are kept: Redis or Valkey, best with `allkeys-lru`."""

    model_config = _CONFIG

    cache_url: str = "redis://127.0.0.1:6379/1"
    cache_ttl_s: Annotated[int, Field(ge=60)] = 30 * 24 * 3600
    """Blocks and tiles nobody rewrote for so long are dropped, even when memory is left."""


class DatabaseSettings(BaseSettings):
    """Where annotations are kept."""

    model_config = _CONFIG

    database_url: str = "sqlite:///.landcover/landcover.sqlite"
    """SQLite or PostgreSQL; by default the file that `landcover up` in the same folder uses."""


class ProductSettings(BaseSettings):
    """Where the products of jobs go."""

    model_config = _CONFIG

    products: str | None = None
    """A folder, or `s3://bucket/prefix`. Several API processes share it; without it there are no map jobs."""
    products_work: Path = Path(tempfile.gettempdir()) / "landcover-products"
    """Folder for what grows before it goes to s3; beside products in a folder it is not used."""


class OriginSettings(BaseSettings):
    """How XYZ imagery services are asked for tiles, and where those are kept."""

    model_config = SettingsConfigDict(
        env_prefix="LANDCOVER_ORIGIN_", extra="ignore", frozen=True, populate_by_name=True
    )

    cache: str | None = None
    """A folder or a `redis://` URL where tiles are kept as they came, for all processes that use it."""
    cache_bytes: Annotated[int, Field(ge=1 << 20)] = 10 << 30
    """Largest size of the folder; a Redis bounds itself (`maxmemory`)."""
    cache_ttl_s: Annotated[int, Field(ge=60)] = 30 * 24 * 3600
    """Older tiles, and reports that there is none, are asked for anew."""
    memory_bytes: Annotated[int, Field(ge=0)] = 128 << 20
    """Decoded tiles kept by each process: 640 of 256 px."""
    pace_url: Annotated[
        str | None, Field(validation_alias=AliasChoices("LANDCOVER_ORIGIN_PACE_URL", "LANDCOVER_BROKER_URL"))
    ] = None
    """A Redis by which processes keep one pace towards an origin; by default the broker. None: each its own."""


class ReadSettings(BaseSettings):
    """Limits on the images that are read, and on the servers they come from."""

    model_config = SettingsConfigDict(env_prefix="LANDCOVER_READ_", extra="ignore", frozen=True)

    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """For one request to an image's server. A window can take five: stay well under the worker's hard limit."""
    max_block_bytes: Annotated[int, Field(gt=0)] = 64 << 20
    """Largest internal tile or strip, all bands decoded: a 25 kB TIFF can hold one of 16384² px (1.6 GB)."""
    max_side_px: Annotated[int, Field(gt=0)] = 4_000_000
    max_bands: Annotated[int, Field(gt=0)] = 64
    gdal_cache_bytes: Annotated[int, Field(gt=0)] = 128 << 20
    """What GDAL keeps decoded, for one open file each; it serves strips and huge tiles."""
    tile_cache_bytes: Annotated[int, Field(ge=0)] = 128 << 20
    """Decoded tiles that a process's threads share: 680 of 256 px. As many again where mosaics are read too."""
    index_folder: Path = Path(tempfile.gettempdir()) / f"landcover-mosaics-{os.getuid()}"
    """Where the headers of mosaics' images are kept, so that each is read once on a machine."""
    origin: OriginSettings = Field(default_factory=OriginSettings)
    """Of XYZ services; its own variables are `LANDCOVER_ORIGIN_*`."""
