"""What `landcover.kinds` asks of every kind of scene, for GeoTIFFs: whatever no other kind recognises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landcover.geotiff.header import describe, version
from landcover.geotiff.windows import GeoTiffWindows
from landcover.scene import SceneSource
from landcover.settings import ReadSettings

__all__ = ["describe", "entry_for", "recognises", "version", "version_is_instant", "windows"]


def recognises(source: SceneSource) -> bool:
    """Every source: this kind comes last."""
    return True


def entry_for(location: str, *, folder: Path) -> dict[str, Any] | None:
    """None: `landcover.catalog` itself knows files and URLs."""
    return None


def version_is_instant(source: SceneSource) -> bool:
    """A local file's costs a stat; a remote one's a request."""
    return not source.is_remote


def windows(settings: ReadSettings) -> GeoTiffWindows:
    """The reader of windows."""
    return GeoTiffWindows(settings)
