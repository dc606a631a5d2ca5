"""The GeoJSON in a request's body: how much of it is read, and which scenes it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Request

from landcover.errors import InvalidRequest, RequestTooLarge, SceneNotFound
from landcover.geojson import Contents, read_geojson
from landcover.scene import Scene
from landcover_api import bodies
from landcover_api.state import ApiState


async def read_body(request: Request, state: ApiState) -> tuple[Mapping[str, Any], Contents]:
    """The body's GeoJSON, refused before it is read as a whole when it is too large."""
    body = await bodies.read_body(
        request,
        most_bytes=state.settings.annotations_max_body_bytes,
        remedy="send it in parts, or use `landcover annotations import`",
    )

    def parse() -> tuple[Mapping[str, Any], Contents]:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"The body is no JSON ({error}).") from None
        contents = read_geojson(document)
        most = state.settings.annotations_max_features
        if len(contents.features) > most:
            raise RequestTooLarge(f"{len(contents.features)} features are more than {most}; send them in parts.")
        if not contents.features:
            raise InvalidRequest("The FeatureCollection has no features.")
        return document, contents

    return await state.annotate(parse)


async def named_scenes(state: ApiState, contents: Contents) -> dict[str, Scene]:
    """The scenes that the features name, as far as there are such; their headers may have to be read."""
    found: dict[str, Scene] = {}
    for name in sorted(set(filter(None, map(_scene_named, contents.features)))):
        try:
            found[name] = await state.scene(name)
        except SceneNotFound:  # said of the feature by `_judged`
            continue
    return found


def _scene_named(feature: object) -> str | None:
    properties = feature.get("properties") if isinstance(feature, Mapping) else None
    scene = properties.get("scene") if isinstance(properties, Mapping) else None
    return scene.strip() if isinstance(scene, str) else None
