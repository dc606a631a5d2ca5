"""Images whose pixels are not the mosaic's, brought onto its grid by GDAL as they are read."""

from __future__ import annotations

from typing import Any

from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT

from landcover.errors import SceneUnsupported
from landcover.geotiff.windows import GeoTiffWindows
from landcover.scene import Scene, public_location

_TOLERANCE_PX = 0.01
"""How far GDAL may approximate coordinates; its own default, an eighth, can be seen beside a straight edge."""


class WarpedWindows(GeoTiffWindows):
    """Reads windows of GeoTIFFs on whatever grid `Scene` names, which need not be the file's.

    Bilinear, since nearest would shift what is seen by up to half a pixel, and cubic rings at edges. A pixel is the
    same in whatever window, since GDAL warps by blocks of the whole image's grid.
    """

    def _open_file(self, scene: Scene, level: int | None) -> Any:
        return warped(super()._open_file(scene, level), scene)

    def _file_key(self, scene: Scene, level: int | None) -> tuple[object, ...]:
        return (*super()._file_key(scene, level), scene.crs, scene.transform)


def warped(image: Any, scene: Scene) -> Any:
    """An open image on the grid of `scene`; the image is closed with it.

    Raises:
        SceneUnsupported: GDAL cannot transform between the two.
    """
    masked = image.colorinterp[-1] == ColorInterp.alpha or image.nodata is not None
    try:
        return WarpedVRT(
            image,
            crs=scene.crs,
            transform=scene.transform,
            width=scene.width_px,
            height=scene.height_px,
            resampling=Resampling.bilinear,
            add_alpha=not masked,
            tolerance=_TOLERANCE_PX,
        )
    except RasterioError as error:
        image.close()
        raise SceneUnsupported(f"{public_location(scene.source)} cannot be warped onto the mosaic's grid.") from error
