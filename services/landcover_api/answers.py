"""Statistics as the client wants them: GeoJSON, or CSV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from fastapi import Response

from landcover.statistics.tables import csv_text

GEOJSON = "application/geo+json"
CSV = "text/csv"

MediaType = Literal["application/geo+json", "text/csv"]


def wanted_type(accept: str | None) -> MediaType:
    """By an `Accept` header: CSV if it is preferred to whatever else is acceptable, GeoJSON otherwise."""
    preference: dict[str, float] = {}
    for part in (accept or "*/*").split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            preference[name] = float(quality)
        except ValueError:
            preference[name] = 0.0
    csv = max(preference.get(name, 0.0) for name in (CSV, "text/*"))
    geojson = max(preference.get(name, 0.0) for name in (GEOJSON, "application/json", "application/*", "*/*"))
    return "text/csv" if csv and csv >= geojson else "application/geo+json"


def geojson_or_csv(answer: Mapping[str, Any], wanted: MediaType) -> Response:
    """The answer as a response."""
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if wanted == CSV:
        return Response(csv_text(answer), media_type=f"{CSV}; charset=utf-8", headers=headers)
    return Response(orjson.dumps(answer), media_type=GEOJSON, headers=headers)
