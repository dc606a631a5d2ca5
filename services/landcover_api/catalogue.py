"""`/scenes` and `/models`: what there is."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from landcover.contract import ModelFile
from landcover.errors import LandcoverError
from landcover.scene import Scene, SceneSource, public_location
from landcover_api.cover import land_cover
from landcover_api.reader import LandCoverReader
from landcover_api.state import ApiState, SceneId, State, described

router = APIRouter()


@router.get("/scenes", tags=["scenes"], summary="Every scene, with what is wrong with those that cannot be read.")
async def list_scenes(request: Request, state: State) -> dict[str, Any]:
    """All scenes of the catalogue, by id."""
    scenes = await asyncio.gather(*(_entry(request, state, source) for source in state.scenes.sources))
    return {"scenes": sorted(scenes, key=lambda scene: str(scene["id"]))}


@router.get("/scenes/{scene}", tags=["scenes"], summary="One scene.")
async def get_scene(request: Request, state: State, scene: SceneId) -> dict[str, Any]:
    """One scene of the catalogue."""
    return await _document(request, state, await state.scene(scene))


@router.get("/models", tags=["models"], summary="Every model, and which answers when none is named.")
async def list_models(state: State) -> dict[str, Any]:
    """All models of the catalogue."""
    models = [_model(state, model) for model in state.models.models]
    return {"default": state.models.default.name, "models": models}


@router.get("/models/{model}", tags=["models"], summary="One model's contract, metrics and digest.")
async def get_model(state: State, model: str) -> dict[str, Any]:
    """One model, by name or digest."""
    return _model(state, state.models.model(model))


def _model(state: ApiState, model: ModelFile) -> dict[str, Any]:
    document = {"name": model.name, "digest": model.digest, "default": model is state.models.default}
    return document | model.contract.model_dump(mode="json")


async def _entry(request: Request, state: ApiState, source: SceneSource) -> dict[str, Any]:
    try:
        return await _document(request, state, await state.scene(source.id))
    except LandcoverError as error:
        return _head(request, source) | {"error": str(error)}


def _head(request: Request, source: SceneSource) -> dict[str, Any]:
    base = f"{request.base_url}scenes/{source.id}"
    return {
        "id": source.id,
        "title": source.title or source.id,
        "location": public_location(source),
        "attribution": source.attribution,
        "error": None,
        "links": [
            {"rel": "self", "href": base, "type": "application/json"},
            {"rel": "tilejson", "href": f"{base}/landcover/WebMercatorQuad/tilejson.json", "type": "application/json"},
            {"rel": "imagery", "href": f"{base}/imagery/WebMercatorQuad/tilejson.json", "type": "application/json"},
            {"rel": "map", "href": f"{base}/landcover/WebMercatorQuad/map.html", "type": "text/html"},
        ],
    }


async def _document(request: Request, state: ApiState, scene: Scene) -> dict[str, Any]:
    document = _head(request, scene.source) | {
        "version": scene.version,
        "crs": scene.crs_name,
        "bounds": list(scene.bounds_wgs84),
        "width_px": scene.width_px,
        "height_px": scene.height_px,
        "gsd_m": scene.gsd_m,
        "dtype": scene.dtype,
    }
    try:
        cover = land_cover(scene, state.models.default, state.settings.max_missing_blocks)
    except LandcoverError as error:  # too coarse: there is imagery, but no land cover
        return document | {"error": str(error), "minzoom": None, "maxzoom": None, "landcover": None}
    reader = LandCoverReader(await described(state, cover))
    grid = cover.grid
    return document | {
        "minzoom": reader.minzoom,
        "maxzoom": reader.maxzoom,
        "landcover": {
            "gsd_m": grid.gsd_m,
            "decimation": grid.decimation,
            "block_px": grid.block_px,
            "rows": grid.rows,
            "cols": grid.cols,
        },
    }
