"""What `landcover.kinds` asks of every kind of scene, for XYZ imagery services."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyproj

from landcover.errors import InvalidConfiguration
from landcover.scene import Scene, SceneSource, place, scene_id, version_token
from landcover.settings import ReadSettings
from landcover.xyz.matrix import CRS, tile_range
from landcover.xyz.options import check_template, checked, is_template, read_fragment
from landcover.xyz.service import Service
from landcover.xyz.shipped import shipped_entry
from landcover.xyz.windows import XyzWindows


def recognises(source: SceneSource) -> bool:
    """Whether it carries the options of an XYZ service."""
    return source.xyz is not None


def entry_for(location: str, *, folder: Path) -> dict[str, Any] | None:
    """The entry of a template, or of one of the services whose entries come with the package (`gsi:seamlessphoto`).

    Raises:
        InvalidConfiguration: the fragment is incomplete or wrong.
    """
    bare, _, fragment = location.partition("#")
    where = bare.partition("?")[0]
    if entry := shipped_entry(bare):
        options = entry["xyz"] | (read_fragment(where, fragment) if fragment else {})
        return entry | {"xyz": checked(where, options)}
    if not is_template(location):
        return None
    try:
        check_template(bare)
    except ValueError as error:
        raise InvalidConfiguration(f"{where}: {error}.") from error
    options = {"xyz": checked(where, read_fragment(where, fragment))} if fragment else {}
    return {"id": _id(bare), "location": bare} | options


def version_is_instant(source: SceneSource) -> bool:
    """Always: it comes from the catalogue, not from the service."""
    return True


def version(source: SceneSource, settings: ReadSettings) -> str:
    """A digest of what decides the pixels: services tell of no version, so the operator raises `xyz.version`.

    With one, the template is left out, so that a key in it can be exchanged.
    """
    xyz = Service.of(source).options
    imagery = source.location if xyz.version is None else xyz.version
    return version_token("xyz", imagery, xyz.zoom, xyz.bounds, xyz.tilesize, xyz.missing_statuses, xyz.blank_sha256)


def describe(source: SceneSource, version: str, settings: ReadSettings) -> Scene:
    """The scene that the tiles of one zoom inside the bounds are; the service is not asked.

    The ground sample distance is that at the centre, as of every scene: it grows towards the equator, by a tenth over
    8° at Japan's latitudes.
    """
    xyz = Service.of(source).options
    tiles = tile_range(xyz)
    transform = tiles.transform(xyz.tilesize)
    width, height = tiles.cols * xyz.tilesize, tiles.rows * xyz.tilesize
    crs = pyproj.CRS.from_user_input(CRS).to_wkt("WKT1_GDAL")
    bounds, gsd_m = place(source, crs, transform, width, height)
    return Scene(
        source=source,
        version=version,
        crs=crs,
        crs_name=CRS,
        transform=transform,
        width_px=width,
        height_px=height,
        bands=(1, 2, 3),
        dtype="uint8",
        overviews=(),
        gsd_m=gsd_m,
        bounds_wgs84=bounds,
    )


def windows(settings: ReadSettings) -> XyzWindows:
    """The reader of windows."""
    return XyzWindows(settings)


def _id(template: str) -> str:
    """From the last part of the path that is no placeholder, or else from the server's name."""
    url = urlsplit(template)
    fixed = [part for part in url.path.split("/") if part and "{" not in part]
    return scene_id(fixed[-1]) if fixed else (url.hostname or "scene").replace(".", "-")
