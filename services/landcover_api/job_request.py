"""The body of `POST /jobs`: what is to be done, flat or in the form of OGC API – Processes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84
from landcover.mapping.request import MapRequest
from landcover.products.spec import Confidence, Outputs, Vectors
from landcover_api.cover import LandCover
from landcover_api.extents import crs_wkt

_ENVELOPE = ("process", "processID", "inputs", "outputs", "response", "mode", "subscriber")
"""Members of an OGC execute request; what is asked stands under `inputs`."""


class JobRequest(BaseModel):
    """A job to be done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["map", "statistics"] = "map"
    """A product of an area, or the figures of polygons."""
    scene: str
    model: str | None = None
    """Name or digest; by default the service's."""
    bbox: tuple[float, float, float, float] | None = None
    """xmin, ymin, xmax, ymax. Without bbox and geometry: all of the scene."""
    geometry: dict[str, Any] | None = None
    """GeoJSON of areas: a Feature, a FeatureCollection or a geometry."""
    crs: str | None = None
    """Of the coordinates, such as EPSG:32654; by default WGS 84, longitude first."""
    confidence: Confidence = "file"
    vectors: Vectors = "none"
    pmtiles: bool = False
    allow_missing: bool = False
    """Make the product although blocks cannot be had; its holes are declared."""
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0
    """Of statistics: pixels in which the model is less confident count as unknown."""
    against: str | None = None
    """Of statistics: a scene or model that is compared with."""
    discount: bool = False
    """Of statistics: count each pixel of the change by both maps' confidences."""

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, document: Any) -> Any:
        if not isinstance(document, dict) or "inputs" not in document:
            return document
        inputs = document["inputs"]
        if not isinstance(inputs, dict):
            raise ValueError("inputs must be an object")
        process = document.get("process", document.get("processID"))
        rest = {name: value for name, value in document.items() if name not in _ENVELOPE}
        return {**({"type": process} if process else {}), **rest, **inputs}

    @model_validator(mode="after")
    def _fits_its_type(self) -> JobRequest:
        of_statistics = {"min_confidence", "against", "discount"} & self.model_fields_set
        of_maps = {"confidence", "vectors", "pmtiles", "allow_missing"} & self.model_fields_set
        wrong = of_statistics if self.type == "map" else of_maps
        if wrong:
            raise ValueError(f"{', '.join(sorted(wrong))} cannot be asked of a job of type {self.type}")
        if self.discount and self.against is None:
            raise ValueError("discount is of change: name a scene or model in against")
        if self.type == "statistics" and (self.bbox is None) == (self.geometry is None):
            raise ValueError("statistics are of an area: give geometry, or bbox")
        return self

    def as_map(self, cover: LandCover) -> MapRequest:
        """What is asked of a map.

        Raises:
            InvalidRequest: the area is none.
        """
        try:
            return MapRequest(
                scene=cover.scene.id,
                model=cover.model.digest,
                bbox=self.bbox,
                geometry=self.geometry,
                crs=crs_wkt(self.crs) if self.crs else WGS84,
                outputs=Outputs(confidence=self.confidence, vectors=self.vectors, pmtiles=self.pmtiles),
                allow_missing=self.allow_missing,
            )
        except ValidationError as error:
            raise InvalidRequest(_sentence(error)) from None

    def polygons(self) -> bytes:
        """The GeoJSON whose statistics are asked for."""
        if self.bbox is None:
            return orjson.dumps(self.geometry)
        west, south, east, north = self.bbox
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        return orjson.dumps({"type": "Polygon", "coordinates": [ring]})


def read_job_request(body: bytes) -> JobRequest:
    """The job that a body asks for.

    Raises:
        InvalidRequest: it asks for none.
    """
    try:
        return JobRequest.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f'The body is no JSON ({error}); send for example {{"type": "map", "scene": "demo"}}.'
        ) from None
    except ValidationError as error:
        raise InvalidRequest(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, fault["loc"]))
    text = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}." if where else f"{text}."
