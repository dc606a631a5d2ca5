"""The outlines of tiles and boxes, checked; the tile matrix sets that are served."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import morecantile
from morecantile import Tile, TileMatrixSet
from morecantile.defaults import TileMatrixSets
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from landcover.errors import InvalidRequest, NotFound
from landcover.geodesy import transformer
from landcover_api.sampling import Extent

TILE_MATRIX_SETS = TileMatrixSets(
    {name: tms for name in morecantile.tms.list() if not (tms := morecantile.tms.get(name)).is_variable}
)
"""All of morecantile's but those whose rows differ in width, which no XYZ client can address."""


MIN_SPAN, MAX_SPAN = 1e-9, 1e9
"""Of a box, in its CRS's unit: from a tenth of a millimetre in degrees to many times around the Earth in metres."""
MAX_IMAGE_SIDE_PX = 4096


def tile_matrix_set(name: str) -> TileMatrixSet:
    """The tile matrix set of that id.

    Raises:
        NotFound: there is none.
    """
    if name not in TILE_MATRIX_SETS.list():
        raise NotFound(f"There is no tile matrix set '{name}'; WebMercatorQuad is what web maps use.")
    return TILE_MATRIX_SETS.get(name)


@lru_cache(maxsize=64)
def tms_crs(name: str) -> str:
    """The CRS of a tile matrix set, as WKT."""
    return str(TILE_MATRIX_SETS.get(name).crs.to_wkt())


def check_tile(tms: TileMatrixSet, z: int, x: int, y: int) -> None:
    """Refuse an address that the tile matrix set does not have.

    Raises:
        InvalidRequest: with what it does have.
    """
    if not tms.minzoom <= z <= tms.maxzoom:
        raise InvalidRequest(f"{tms.id} has the zooms {tms.minzoom} to {tms.maxzoom}; there is no {z}.")
    matrix = tms.matrix(z)
    if not (0 <= x < matrix.matrixWidth and 0 <= y < matrix.matrixHeight):
        raise InvalidRequest(
            f"At zoom {z}, x runs from 0 to {matrix.matrixWidth - 1} and y to {matrix.matrixHeight - 1}; "
            f"there is no {x}/{y}."
        )


def tile_extent(tms: TileMatrixSet, z: int, x: int, y: int, tilesize: int) -> Extent:
    """The outline of a tile, in the tile matrix set's CRS."""
    bounds = tms.xy_bounds(Tile(x, y, z))
    return Extent(
        crs=tms_crs(str(tms.id)),
        xmin=bounds.left,
        ymin=bounds.bottom,
        xmax=bounds.right,
        ymax=bounds.top,
        width_px=tilesize,
        height_px=tilesize,
    )


def box_extent(
    box: tuple[float, float, float, float],
    coord_crs: str,
    dst_crs: str | None,
    max_size: int,
    width: int | None,
    height: int | None,
) -> Extent:
    """The outline of an image of `box` (xmin, ymin, xmax, ymax), in `dst_crs`, by default the box's own CRS.

    Raises:
        InvalidRequest: the box is empty or a CRS is none.
    """
    xmin, ymin, xmax, ymax = box
    if not (all(map(math.isfinite, box)) and xmin < xmax and ymin < ymax):
        raise InvalidRequest("A box is minx,miny,maxx,maxy with the smaller values first.")
    source, target = crs_wkt(coord_crs), crs_wkt(dst_crs or coord_crs)
    if source != target:
        try:
            xmin, ymin, xmax, ymax = transformer(source, target).transform_bounds(*box, densify_pts=21)
        except ProjError:
            raise InvalidRequest(f"Nothing leads from {coord_crs} to {dst_crs}; name two CRSs of the Earth.") from None
    if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))) or xmin >= xmax or ymin >= ymax:
        raise InvalidRequest("The box lies outside what its CRS or the image's can express.")
    across, down = xmax - xmin, ymax - ymin
    if not (MIN_SPAN < across < MAX_SPAN and MIN_SPAN < down < MAX_SPAN and 1e-4 < across / down < 1e4):
        raise InvalidRequest("The box is too large, too small or too narrow to be drawn.")
    aspect = across / down
    if width is None and height is None:
        width, height = (max_size, round(max_size / aspect)) if aspect >= 1 else (round(max_size * aspect), max_size)
    elif width is None:
        width = round((height or 1) * aspect)
    elif height is None:
        height = round(width / aspect)
    width, height = max(1, width), max(1, height or 1)
    if max(width, height) > MAX_IMAGE_SIDE_PX:
        raise InvalidRequest(f"The image would be {width} × {height} px; at most {MAX_IMAGE_SIDE_PX} a side are drawn.")
    return Extent(crs=target, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, width_px=width, height_px=height)


def crs_wkt(name: str) -> str:
    """A map's CRS, written as `EPSG:3857`, as WKT.

    Raises:
        InvalidRequest: it is none.
    """
    if not re.fullmatch(r"[A-Za-z]+:\w+", name):  # PROJ strings and WKT can make PROJ open files
        raise InvalidRequest(f"'{name[:40]}' is no CRS; write it as EPSG:3857.")
    try:
        crs = CRS.from_user_input(name)
    except CRSError:
        raise InvalidRequest(f"'{name}' is no CRS; write it as EPSG:3857.") from None
    if not (crs.is_geographic or crs.is_projected):
        raise InvalidRequest(f"'{name}' is no CRS of a map; write one as EPSG:3857.")
    return str(crs.to_wkt())
