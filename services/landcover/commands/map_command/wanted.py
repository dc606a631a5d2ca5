"""What `landcover map` is asked for, wherever it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landcover.products.spec import Outputs


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A map of an area, and where its files go."""

    out: str
    """Path or s3 URL of the class map."""
    bbox: tuple[float, float, float, float] | None
    geometry: dict[str, Any] | None
    """A FeatureCollection; coordinates are of `crs`."""
    crs: str | None
    """Such as `EPSG:6677`; None for longitude and latitude."""
    outputs: Outputs
    allow_missing: bool
