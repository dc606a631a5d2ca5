"""`/annotations` of a running service, over SQLite and over PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from landcover.annotations import AnnotationStore
from landcover.errors import InvalidConfiguration
from landcover.settings import BrokerSettings, CacheSettings, CatalogSettings, DatabaseSettings
from landcover_api.app import create_app
from landcover_api.settings import ApiSettings
from postgres import PostgresServer, running_postgres
from running import Service, start_service

GEOJSON = {"Content-Type": "application/geo+json"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def annotated(
    request: pytest.FixtureRequest, demo_scene: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with a database of its own. Nothing is mapped, so it needs no worker."""
    folder = tmp_path_factory.mktemp("annotated")
    url = f"sqlite:///{folder}/landcover.sqlite"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    service = start_service(folder, scenes=[demo_scene], workers=0, LANDCOVER_DATABASE_URL=url)
    yield service
    service.processes.stop()


@pytest.fixture
def client(annotated: Service) -> Iterator[httpx.Client]:
    """Of a service without annotations."""
    with annotated.client as client:
        for each in client.get("/annotations", params={"limit": 10000}).json()["features"]:
            assert client.delete(f"/annotations/{each['id']}").status_code == 204
        yield client


def square(client: httpx.Client, col: float = 0.5, row: float = 0.5, side: float = 0.05) -> dict[str, Any]:
    """A square at a place in the scene given by shares of its bounds."""
    west, south, east, north = client.get("/scenes/demo").json()["bounds"]
    x, y, dx, dy = (
        west + col * (east - west),
        south + row * (north - south),
        side * (east - west),
        side * (north - south),
    )
    ring = [[x, y], [x + dx, y], [x + dx, y + dy], [x, y + dy], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(client: httpx.Client, *place: float, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": square(client, *place),
        "properties": {"scene": "demo", "class": "building"} | properties,
    }


def post(client: httpx.Client, *features: Any) -> httpx.Response:
    document = features[0] if len(features) == 1 else {"type": "FeatureCollection", "features": features}
    return client.post("/annotations", content=json.dumps(document), headers=GEOJSON)


# --- one annotation ----------------------------------------------------------------------------------------------


def test_an_annotation_is_added_read_changed_and_removed(client: httpx.Client) -> None:
    given = feature(client, author="Ada", note="new roof")
    added = post(client, given)
    assert added.status_code == 201
    assert added.headers["content-type"] == "application/geo+json"
    address = added.headers["location"]
    assert address == f"{client.base_url}/annotations/{added.json()['id']}"

    got = client.get(address)
    assert got.json()["geometry"] == given["geometry"]
    assert got.headers["etag"] == added.headers["etag"]
    properties = got.json()["properties"]
    assert (properties["class"], properties["class_name"]) == (8, "building")
    assert (properties["class_color"], properties["author"], properties["note"]) == ("#de1f07", "Ada", "new roof")
    assert properties["scene_version"] == client.get("/scenes/demo").json()["version"]
    assert datetime.fromisoformat(properties["created"]).utcoffset() is not None
    assert client.get(address, headers={"If-None-Match": got.headers["etag"]}).status_code == 304

    changed = got.json()
    changed["properties"] |= {"class": 4, "class_name": None, "note": None}
    put = client.put(address, json=changed)
    assert put.status_code == 200
    assert put.json()["properties"]["class_name"] == "road"
    assert put.json()["properties"]["note"] is None
    assert put.json()["properties"]["created"] == properties["created"]
    assert client.get(address).json()["properties"] == put.json()["properties"]

    assert client.delete(address).status_code == 204
    gone = client.get(address)
    assert gone.status_code == 404
    assert "There is no annotation" in gone.json()["detail"]
    assert client.put(address, json=changed).status_code == 404
    assert client.delete(address).status_code == 404
    assert client.get("/annotations/7").status_code == 404


def test_a_change_meanwhile_is_not_overwritten(client: httpx.Client) -> None:
    added = post(client, feature(client))
    address, tag = added.headers["location"], added.headers["etag"]
    mine = client.put(address, json=feature(client, note="mine"), headers={"If-Match": tag})
    assert mine.status_code == 200
    theirs = client.put(address, json=feature(client, note="theirs"), headers={"If-Match": tag})
    assert theirs.status_code == 412
    assert "changed since you read it" in theirs.json()["detail"]
    assert client.delete(address, headers={"If-Match": tag}).status_code == 412
    assert client.get(address).json()["properties"]["note"] == "mine"
    assert client.put(address, json=feature(client), headers={"If-Match": "*"}).status_code == 200
    tags = f'"other", {client.get(address).headers["etag"]}'
    assert client.delete(address, headers={"If-Match": tags}).status_code == 204


def test_an_id_of_ones_own(client: httpx.Client) -> None:
    mine = "6f2c7d0e-8b1a-4c55-9d3e-0123456789ab"
    assert post(client, feature(client) | {"id": mine.upper()}).json()["id"] == mine
    again = post(client, feature(client) | {"id": mine})
    assert again.status_code == 409
    assert "is taken" in again.json()["detail"]
    other = client.put(f"/annotations/{mine}", json=feature(client) | {"id": "7"})
    assert other.status_code == 422
    assert client.put(f"/annotations/{mine.upper()}", json=feature(client) | {"id": mine}).status_code == 200


def test_a_new_class_stays_known(client: httpx.Client, annotated: Service) -> None:
    panel = {"class": 9, "new_class": {"name": "solar panel", "color": "#1122ee"}}
    assert post(client, feature(client, **panel)).json()["properties"]["class_color"] == "#1122ee"
    assert post(client, feature(client, **{"class": "solar panel"})).json()["properties"]["class"] == 9
    with AnnotationStore(annotated.env["LANDCOVER_DATABASE_URL"]) as store:
        assert [each.name for each in store.classes()] == ["solar panel"]


# --- many --------------------------------------------------------------------------------------------------------


def test_a_collection_is_added_as_a_whole_or_not_at_all(client: httpx.Client) -> None:
    refused = post(
        client,
        feature(client),
        feature(client, **{"class": "castle"}),
        feature(client, 3),
        feature(client, scene="nowhere"),
    )
    assert refused.status_code == 422
    detail = refused.json()["detail"]
    assert "Feature 2: class 'castle' is not known; known are 1 bareland" in detail
    assert "Feature 3: geometry leaves scene 'demo'" in detail
    assert "Feature 4: there is no scene 'nowhere'" in detail
    assert "Feature 1:" not in detail
    assert client.get("/annotations").json()["numberMatched"] == 0
    added = post(client, feature(client), feature(client, **{"class": 4}))
    assert added.status_code == 201
    assert [each["properties"]["class_name"] for each in added.json()["features"]] == ["building", "road"]
    assert client.get("/annotations").json()["features"] == added.json()["features"]


def test_a_collection_in_another_crs(client: httpx.Client) -> None:
    """As QGIS saves it when the layer's CRS is kept."""
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32654"}}
    ring = [[415_100, 3_999_800], [415_150, 3_999_800], [415_150, 3_999_850], [415_100, 3_999_800]]
    given = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"scene": "demo", "class": 4},
    }
    added = client.post("/annotations", json={"type": "FeatureCollection", "crs": crs, "features": [given]})
    assert added.status_code == 201
    west, south, east, north = client.get("/scenes/demo").json()["bounds"]
    assert all(
        west < lon < east and south < lat < north
        for lon, lat in added.json()["features"][0]["geometry"]["coordinates"][0]
    )


def test_pages_lead_to_each_other(client: httpx.Client) -> None:
    everything = post(client, *[feature(client, note=str(number)) for number in range(7)]).json()["features"]
    first = client.get("/annotations", params={"limit": 3, "scene": "demo"}).json()
    assert (first["numberMatched"], first["numberReturned"], first["type"]) == (7, 3, "FeatureCollection")
    assert datetime.fromisoformat(first["timeStamp"])
    assert {each["rel"] for each in first["links"]} == {"self", "next"}
    seen, page = list(first["features"]), first
    while following := [each["href"] for each in page["links"] if each["rel"] == "next"]:
        post(client, feature(client, note="later"))
        page = client.get(following[0]).json()
        seen += page["features"]
        if len(seen) >= 7:
            break
    assert seen[:7] == everything
    back = [each["href"] for each in page["links"] if each["rel"] == "prev"]
    assert client.get(back[0]).json()["features"] == everything[3:6]
    assert client.get("/annotations", params={"offset": 1000}).json()["features"] == []
    assert client.get("/annotations", params={"limit": 10**6}).status_code == 200  # taken for the most there is


def test_filters(client: httpx.Client) -> None:
    post(
        client,
        feature(client, 0.1, 0.1, author="Ada"),
        feature(client, 0.8, 0.8, **{"class": 4}),
    )
    west, south, east, north = client.get("/scenes/demo").json()["bounds"]
    corner = f"{west},{south},{(west + east) / 2},{(south + north) / 2}"

    def found(**query: str) -> list[str]:
        answer = client.get("/annotations", params=query)
        assert answer.status_code == 200, answer.text
        return [each["properties"]["class_name"] for each in answer.json()["features"]]

    assert found(bbox=corner) == ["building"]
    assert found(bbox=f"{west},{south},0,{east},{north},9") == ["building", "road"]
    assert found(bbox=f"{east},-90,{west},90") == []  # the long way round
    assert found(bbox="170,-90,-170,90") == []
    assert found(bbox="100,-90,-170,90") == ["building", "road"]
    assert found(**{"class": "4"}) == found(**{"class": "road"}) == ["road"]
    assert found(author="Ada") == ["building"]
    assert found(author="ada") == found(scene="other") == found(**{"class": "castle"}) == []


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"bbox": "1,2,3"}, "bbox is west,south,east,north"),
        ({"bbox": "a,b,c,d"}, "bbox is west,south,east,north"),
        ({"bbox": "1,2,3,nan"}, "bbox is west,south,east,north"),
        ({"bbox": "1,2,3,inf"}, "bbox is west,south,east,north"),
        ({"bbox": ""}, "bbox is west,south,east,north"),
        ({"bbox": "1,5,3,4"}, "south (5) above its north (4)"),
        ({"bbox": "1,2,3,95"}, "latitudes from -90 to 90"),
        ({"bbox": "170,2,190,4"}, "west > east crosses the antimeridian"),
        ({"limit": "0"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"offset": "-1"}, "offset"),
        ({"offset": "99999999999999999999"}, "offset"),
        ({"author": "a\x00"}, "author holds control characters"),
        ({"scene": "s" * 200}, "scene has 200 characters"),
        ({"clas": "4"}, "no parameter 'clas'; known are author, bbox, class, limit, offset, scene"),
    ],
)
def test_a_query_that_cannot_be(client: httpx.Client, query: dict[str, str], sentence: str) -> None:
    answer = client.get("/annotations", params=query)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 422, "The body is no JSON"),
        (b"{", 422, "The body is no JSON"),
        (b"\xff\xfe", 422, "The body is no JSON"),
        (b"[" * 5000, 422, "The body is no JSON"),
        (b'{"a": NaN}', 422, "The body is no JSON"),
        (b"[]", 422, "no GeoJSON Feature or FeatureCollection"),
        (b'{"type": "Polygon"}', 422, "no GeoJSON Feature or FeatureCollection"),
        (b'{"type": "FeatureCollection"}', 422, "has a list of features"),
        (b'{"type": "FeatureCollection", "features": []}', 422, "has no features"),
        (b'{"type": "FeatureCollection", "features": [1, null]}', 422, "Feature 2: is no GeoJSON Feature"),
        (b'{"type": "FeatureCollection", "features": [{}], "crs": 7}', 422, "The crs 7 is not known"),
        (
            b'{"type": "FeatureCollection", "features": [' + b"0," * 1000 + b"0]}",
            413,
            "1001 features are more than 1000",
        ),
        (b'{"x": "' + b"x" * (4 << 20) + b'"}', 413, "The body is larger than"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_body_that_cannot_be(client: httpx.Client, body: bytes, status: int, sentence: str) -> None:
    answer = client.post("/annotations", content=body, headers=GEOJSON)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


def test_a_body_without_a_length_is_cut_off(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"x" * (1 << 20)

    try:
        answer = client.post("/annotations", content=endless(), headers=GEOJSON)
    except httpx.WriteError:  # the connection is closed while we still send
        return
    assert answer.status_code == 413


def test_many_clients_at_once(client: httpx.Client) -> None:
    document = feature(client)

    def work(_: int) -> None:
        address = post(client, document).headers["location"]
        assert client.put(address, json=document).status_code == 200

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(48)))
    assert client.get("/annotations", params={"limit": 1}).json()["numberMatched"] == 48


def test_the_description_of_the_api_has_it(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths["/annotations"]) == {"get", "post"}
    assert set(paths["/annotations/{id}"]) == {"get", "put", "delete"}
    assert "application/geo+json" in paths["/annotations"]["post"]["requestBody"]["content"]


# --- a database that is away -------------------------------------------------------------------------------------


@asynccontextmanager
async def application(service: Service, url: str) -> AsyncIterator[httpx.AsyncClient]:
    """An API process of our own over the service's servers."""
    app = create_app(
        api=ApiSettings(),
        catalog=CatalogSettings(scenes=tuple(json.loads(service.env["LANDCOVER_SCENES"]))),
        broker=BrokerSettings(broker_url=service.env["LANDCOVER_BROKER_URL"]),
        cache=CacheSettings(cache_url=service.env["LANDCOVER_CACHE_URL"]),
        database=DatabaseSettings(database_url=url),
    )
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        yield client


@pytest.mark.usefixtures("postgres")  # skips where there is none
async def test_without_its_database_everything_else_is_served(shared_service: Service) -> None:
    """PostgreSQL is stopped and started under the API."""
    service = shared_service
    with running_postgres() as server:
        async with application(service, server.new_database()) as client:
            scene = (await client.get(f"/scenes/{service.scene}")).json()
            west, south, east, north = scene["bounds"]
            ring = [[west, south], [east, south], [east, north], [west, south]]
            inner = [[(west + east) / 2 + (x - west) / 9, (south + north) / 2 + (y - south) / 9] for x, y in ring]
            document = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [inner]},
                "properties": {"scene": service.scene, "class": 4},
            }
            assert (await client.post("/annotations", json=document)).status_code == 201
            assert (await client.get("/readyz")).json()["database"] == "ok"
            server.stop()
            away = await client.get("/annotations")
            assert away.status_code == 503
            assert away.headers["retry-after"]
            assert away.json()["detail"].startswith("The database of annotations does not answer")
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["database"]) == (200, "not reachable")
            assert (await client.get(f"/scenes/{service.scene}")).status_code == 200
            server.start()
            assert (await client.get("/annotations")).json()["numberMatched"] == 1


def test_a_wrong_url_is_said_at_the_start(shared_service: Service) -> None:
    with pytest.raises(InvalidConfiguration, match="URL is none"):
        create_app(
            catalog=CatalogSettings(scenes=tuple(json.loads(shared_service.env["LANDCOVER_SCENES"]))),
            database=DatabaseSettings(database_url="nonsense"),
        )
