"""`/annotations`: polygons with a class, read and written as GeoJSON by the conventions of OGC API – Features."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import orjson
import shapely
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from landcover.annotations.features import MAX_AUTHOR, MAX_SCENE, Reading, as_text, checked_text, properties_of
from landcover.annotations.files import judge
from landcover.annotations.model import Annotation
from landcover.annotations.rows import Filter
from landcover.annotations.store import AnnotationStore
from landcover.annotations.vocabulary import MAX_NAME, ClassTable, as_value
from landcover.classes import LandCoverClass
from landcover.errors import AnnotationNotFound, InvalidRequest, PreconditionFailed
from landcover.geojson import Contents, listing
from landcover.scene import Scene
from landcover_api.feature_body import named_scenes, read_body
from landcover_api.http_caching import entity_tags, matches
from landcover_api.state import ApiState, State

MAX_LIMIT = 10_000
MEDIA_TYPE = "application/geo+json"

router = APIRouter(tags=["annotations"])

_GEOJSON: dict[str, Any] = {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
_TAKES_GEOJSON: dict[str, Any] = {"requestBody": {**_GEOJSON, "required": True}}


async def known_parameters(request: Request) -> None:
    """Refuse parameters that would be ignored: a misspelt filter must not answer with everything."""
    known = {"bbox", "scene", "class", "author", "limit", "offset"}
    if unknown := sorted(set(request.query_params) - known):
        raise InvalidRequest(f"There is no parameter '{unknown[0]}'; known are {', '.join(sorted(known))}.")


async def get_filter(
    bbox: Annotated[
        str | None, Query(description="west,south,east,north in degrees; west > east crosses the antimeridian.")
    ] = None,
    scene: Annotated[str | None, Query(description="A scene's id.")] = None,
    kind: Annotated[str | None, Query(alias="class", description="A class's value or name.")] = None,
    author: Annotated[str | None, Query(description="Exactly as given.")] = None,
) -> Filter:
    """What a list is limited to."""
    named = checked_text(kind, "class", MAX_NAME)
    return Filter(
        bbox=None if bbox is None else read_bbox(bbox),
        scene=checked_text(scene, "scene", MAX_SCENE),
        kind=as_value(named) or named,
        author=checked_text(author, "author", MAX_AUTHOR),
    )


async def get_id(id: Annotated[str, Path(description="An annotation's UUID.")]) -> str:  # noqa: A002 - OGC's name
    """The id in the address, as it is stored."""
    try:
        return str(uuid.UUID(id))
    except ValueError:
        raise AnnotationNotFound(f"There is no annotation '{id[:60]}'; ids are UUIDs.") from None


Id = Annotated[str, Depends(get_id)]


@router.get(
    "/annotations",
    summary="Annotations, oldest first.",
    dependencies=[Depends(known_parameters)],
    response_class=Response,
    responses={200: _GEOJSON},
)
async def list_annotations(
    request: Request,
    state: State,
    wanted: Annotated[Filter, Depends(get_filter)],
    limit: Annotated[int, Query(ge=1, description=f"At most {MAX_LIMIT}; more is taken for that.")] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Response:
    """A FeatureCollection; `numberMatched` counts all that match, `links` lead to the next and previous page."""
    limit = min(limit, MAX_LIMIT)  # OGC API - Features, /req/core/fc-limit-definition: no error

    def answer() -> dict[str, Any]:
        page = state.annotations.page(wanted, limit=limit, offset=offset)
        returned = len(page.annotations)
        links = [_link(request, "self")]
        if offset + returned < page.matched and returned:
            links.append(_link(request, "next", offset=offset + returned))
        if offset:
            links.append(_link(request, "prev", offset=max(0, offset - limit)))
        return _collection(page.annotations) | {
            "numberMatched": page.matched,
            "numberReturned": returned,
            "timeStamp": as_text(datetime.now(UTC)),
            "links": links,
        }

    return _geojson(await state.annotate(lambda: orjson.dumps(answer())))


@router.post(
    "/annotations",
    summary="Add annotations: a Feature, or a FeatureCollection as a whole or not at all.",
    status_code=201,
    response_class=Response,
    responses={201: _GEOJSON},
    openapi_extra=_TAKES_GEOJSON,
)
async def add_annotations(request: Request, state: State) -> Response:
    """What was stored, with its ids; of a single Feature also its address, as `Location`."""
    document, contents = await read_body(request, state)
    scenes = await named_scenes(state, contents)

    def add() -> list[Annotation]:
        annotations, new_classes = _judged(state, contents, scenes)
        state.annotations.add_many(annotations, new_classes)
        return annotations

    added = await state.annotate(add)
    if document["type"] == "Feature":
        (only,) = added
        headers = {"Location": f"{request.base_url}annotations/{only.id}", "ETag": etag(only)}
        return _geojson(orjson.dumps(_feature(only)), 201, headers)
    return _geojson(await state.annotate(lambda: orjson.dumps(_collection(added))), 201)


@router.get("/annotations/{id}", summary="One annotation.", response_class=Response, responses={200: _GEOJSON})
async def get_annotation(request: Request, state: State, id: Id) -> Response:  # noqa: A002
    """A GeoJSON Feature with an ETag, which `PUT` and `DELETE` take in `If-Match`."""
    annotation = await state.annotate(lambda: state.annotations.get(id))
    tag = etag(annotation)
    if matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers={"ETag": tag})
    return _geojson(orjson.dumps(_feature(annotation, request)), headers={"ETag": tag})


@router.put(
    "/annotations/{id}",
    summary="Replace an annotation.",
    response_class=Response,
    responses={200: _GEOJSON},
    openapi_extra=_TAKES_GEOJSON,
)
async def replace_annotation(request: Request, state: State, id: Id) -> Response:  # noqa: A002
    """What is stored now. With `If-Match`, 412 if somebody else changed it meanwhile."""
    if_match = request.headers.get("if-match")
    document, contents = await read_body(request, state)
    if document["type"] != "Feature":
        raise InvalidRequest("PUT takes one GeoJSON Feature.")
    if document.get("id") not in (None, "", id):
        raise InvalidRequest(f"The feature's id is {str(document['id'])[:60]!r}, that of the address is '{id}'.")
    contents = Contents(crs=contents.crs, features=[{**document, "id": id}])
    scenes = await named_scenes(state, contents)

    def put() -> Annotation:
        revision = _expected(state.annotations, id, if_match)
        (annotation,), new_classes = _judged(state, contents, scenes)
        return state.annotations.replace(annotation, expected_revision=revision, new_classes=new_classes)

    stored = await state.annotate(put)
    return _geojson(orjson.dumps(_feature(stored)), headers={"ETag": etag(stored)})


@router.delete("/annotations/{id}", summary="Remove an annotation.", status_code=204)
async def delete_annotation(request: Request, state: State, id: Id) -> Response:  # noqa: A002
    """Nothing. With `If-Match`, 412 if somebody else changed it meanwhile."""
    if_match = request.headers.get("if-match")

    def delete() -> None:
        revision = _expected(state.annotations, id, if_match)
        state.annotations.delete(id, expected_revision=revision)

    await state.annotate(delete)
    return Response(status_code=204)


def etag(annotation: Annotation) -> str:
    """Strong: another state of the annotation has another, also after it was deleted and added anew."""
    return f'"{annotation.revision}-{round(annotation.updated.timestamp() * 1e6):x}"'


def read_bbox(text: str) -> tuple[float, float, float, float]:
    """`west,south,east,north`, or with heights six numbers, whose heights are dropped.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (4, 6) or not all(map(math.isfinite, numbers)):
        raise InvalidRequest(f"bbox is west,south,east,north in degrees, such as 139.6,35.5,139.8,35.7 (got '{text}').")
    west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])
    if south > north:
        raise InvalidRequest(f"bbox has its south ({south:g}) above its north ({north:g}).")
    if max(abs(south), abs(north)) > 90 or max(abs(west), abs(east)) > 180:
        raise InvalidRequest(
            "bbox is in degrees: longitudes from -180 to 180, latitudes from -90 to 90; west > east crosses the "
            "antimeridian."
        )
    return west, south, east, north


def _judged(
    state: ApiState, contents: Contents, scenes: Mapping[str, Scene]
) -> tuple[list[Annotation], list[LandCoverClass]]:
    """The features as annotations, and the classes they bring.

    Raises:
        InvalidRequest: one of them cannot be.
    """

    def scene_of(name: str) -> Scene:
        if name not in scenes:
            raise InvalidRequest(f"there is no scene '{name}'; GET /scenes lists them.")
        return scenes[name]

    models = [state.models.default, *state.models.models]
    known = ClassTable.of(*(each.contract.classes for each in models), state.annotations.classes())
    reading = Reading(classes=known, scene_of=scene_of, crs=contents.crs)
    annotations, faults = judge(contents, reading)
    if faults:
        raise InvalidRequest(listing(faults))
    return annotations, reading.brought


def _expected(store: AnnotationStore, annotation_id: str, if_match: str | None) -> int | None:
    """The revision that a change is meant for; None for any.

    Raises:
        AnnotationNotFound: there is no such annotation.
        PreconditionFailed: it is none of those in `If-Match`.
    """
    current = store.get(annotation_id)
    if if_match is None or if_match.strip() == "*":
        return None
    if etag(current) not in entity_tags(if_match):
        raise PreconditionFailed(
            f"Annotation '{annotation_id}' has been changed since you read it; GET it again and repeat your change."
        )
    return current.revision


def _collection(annotations: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [_feature(each) for each in annotations]}


def _feature(annotation: Annotation, request: Request | None = None) -> dict[str, Any]:
    """As `features.feature_of`, the geometry already as text: Python objects of 10,000 polygons would fill a memory."""
    feature = {
        "type": "Feature",
        "id": annotation.id,
        "geometry": orjson.Fragment(shapely.to_geojson(annotation.geometry)),
        "properties": properties_of(annotation),
    }
    if request is not None:
        base = f"{request.base_url}annotations"
        feature["links"] = [
            {"rel": "self", "type": MEDIA_TYPE, "href": f"{base}/{annotation.id}"},
            {"rel": "collection", "type": MEDIA_TYPE, "href": base},
            {"rel": "scene", "type": "application/json", "href": f"{request.base_url}scenes/{quote(annotation.scene)}"},
        ]
    return feature


def _link(request: Request, rel: str, **changes: int) -> dict[str, str]:
    query = dict(request.query_params) | {name: str(value) for name, value in changes.items()}
    address = f"{request.base_url}annotations{'?' if query else ''}{urlencode(query)}"
    return {"rel": rel, "type": MEDIA_TYPE, "href": address}


def _geojson(data: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Never from a cache without asking: somebody may have drawn meanwhile."""
    return Response(data, status, {"Cache-Control": "no-cache", **(headers or {})}, MEDIA_TYPE)
