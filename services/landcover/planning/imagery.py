"""How many bytes a scene's pixels are where they are kept, and how many requests its server grants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from landcover.scene import Scene

USUAL_BYTES_PER_PX = 0.35
"""Of JPEG in three bands: 0.28 to 0.57 in the images at hand (docs/scale.md)."""

ASSUMED = "assumed, as of JPEG imagery"


@dataclass(frozen=True, kw_only=True)
class Imagery:
    """Where pixels come from."""

    bytes_per_px: float
    basis: str
    """Where that figure comes from, for people."""
    tile_px: int | None = None
    """Side of the tiles that are fetched one by one; None for what is read in ranges."""
    requests_per_s: float | None = None
    """What the server grants; None if nobody has said."""


def imagery_of(scene: Scene, *, bytes_per_px: float | None, requests_per_s: float | None) -> Imagery:
    """Of a scene, unless the caller knows better.

    A file's size over its pixels counts its overviews in, hence is up to a third too much.
    """
    xyz = scene.source.xyz
    size = _file_bytes(scene)
    if bytes_per_px is not None:
        found, basis = bytes_per_px, "as given"
    elif size is not None:
        found, basis = size / (scene.width_px * scene.height_px), "the file's size over its pixels"
    else:
        found, basis = USUAL_BYTES_PER_PX, ASSUMED
    return Imagery(
        bytes_per_px=found,
        basis=basis,
        tile_px=xyz.tilesize if xyz else None,
        requests_per_s=requests_per_s or (xyz.max_rps if xyz else None),
    )


def imagery_of_area(*, tile_px: int | None, bytes_per_px: float | None, requests_per_s: float | None) -> Imagery:
    """Of a place without a scene."""
    return Imagery(
        bytes_per_px=bytes_per_px or USUAL_BYTES_PER_PX,
        basis="as given" if bytes_per_px else ASSUMED,
        tile_px=tile_px,
        requests_per_s=requests_per_s,
    )


def _file_bytes(scene: Scene) -> int | None:
    """Size of the one local file that a scene is, if it is one."""
    path = Path(scene.source.location)
    if scene.source.is_remote or scene.source.mosaic is not None or not path.is_file():
        return None
    return path.stat().st_size
