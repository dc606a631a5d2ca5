"""What an operator may say of a mosaic besides where its images are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pyproj import CRS
from pyproj.exceptions import CRSError


class MosaicOptions(BaseModel):
    """The grid, and which image lies on top. Travels in tasks, so the images themselves are not listed here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crs: str | None = None
    """Of the grid; by default the one that most images have."""
    resolution: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Size of a pixel in units of the CRS; by default the one that most images have."""
    order: Literal["first", "last"] = "first"
    """Which of the images, in the order they are listed in, lies on top where several have data."""
    asset: str | None = None
    """Key of the STAC asset that is the image; needed where items have several GeoTIFFs."""

    @field_validator("crs")
    @classmethod
    def _known(cls, crs: str | None) -> str | None:
        try:
            return crs if crs is None else CRS.from_user_input(crs).to_wkt()
        except CRSError:
            raise ValueError(f"'{crs}' is no CRS; EPSG:25832, for example, is one") from None
