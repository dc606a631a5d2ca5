"""What a running service says of itself, and the answers that are not tiles."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import httpx
import morecantile
import numpy as np
import pytest
import rasterio
import rasterio.features
from PIL import Image
from pyproj import Geod
from rasterio.warp import transform as transform_points

from onnx_models import expected_classes
from running import Service

TMS = morecantile.tms.get("WebMercatorQuad")
WMTS = {"w": "http://www.opengis.net/wmts/1.0", "o": "http://www.opengis.net/ows/1.1"}


def center(service: Service) -> tuple[float, float]:
    with service.client as client:
        west, south, east, north = client.get(f"/scenes/{service.scene}").json()["bounds"]
    return (west + east) / 2, (south + north) / 2


def test_a_scene_is_described_as_rasterio_sees_it(service: Service, demo_scene: Path) -> None:
    with service.client as client:
        scene = client.get(f"/scenes/{service.scene}").json()
    with rasterio.open(demo_scene) as image:
        assert (scene["width_px"], scene["height_px"]) == (image.width, image.height)
        assert scene["crs"] == image.crs.to_string()
        corners = [image.xy(row, col, offset="ul") for row in (0, image.height) for col in (0, image.width)]
        lon, lat = transform_points(image.crs, "OGC:CRS84", *zip(*corners, strict=True))
    assert scene["bounds"] == pytest.approx([min(lon), min(lat), max(lon), max(lat)], abs=1e-5)


def test_models_show_the_contract_and_workers_their_provider(service: Service) -> None:
    with service.client as client:
        models = client.get("/models").json()
        ready = client.get("/readyz").json()
    assert models["default"] == "landcover-demo"
    assert {model["name"] for model in models["models"]} == {"landcover-demo", "pixels"}
    digests = {model["digest"] for model in models["models"]}
    assert ready["workers"][0]["provider"] in ("CPUExecutionProvider", "CUDAExecutionProvider", "OpenVINO")
    assert set(ready["workers"][0]["models"]) == digests


def test_tilejson_leads_to_tiles(service: Service) -> None:
    with service.client as client:
        document = client.get(
            f"/scenes/{service.scene}/landcover/WebMercatorQuad/tilejson.json", params={"classes": "8", "tilesize": 256}
        ).json()
        lon, lat = document["center"][:2]
        assert document["minzoom"] == 0  # a scene of so few blocks is mapped on demand at any zoom
        for zoom in (document["center"][2], document["maxzoom"]):
            tile = TMS.tile(lon, lat, zoom)
            url = document["tiles"][0].format(z=tile.z, x=tile.x, y=tile.y)
            response = client.get(url, params=[*httpx.URL(url).params.multi_items(), ("strict", True), ("wait", 60)])
            assert "classes=8" in url
            assert response.status_code == 200
            assert response.headers["content-type"] == "image/png"


def test_wmts_capabilities_describe_the_tiles(service: Service) -> None:
    with service.client as client:
        response = client.get(f"/scenes/{service.scene}/landcover/WebMercatorQuad/WMTSCapabilities.xml")
        assert response.headers["content-type"].startswith("application/xml")
        root = ElementTree.fromstring(response.content)
        template = root.find(".//w:ResourceURL", WMTS).attrib["template"]
        assert root.findtext(".//w:TileMatrixSet/o:SupportedCRS", namespaces=WMTS) == "urn:ogc:def:crs:EPSG::3857"
        matrices = {
            each.findtext("o:Identifier", namespaces=WMTS): int(each.findtext("w:MatrixWidth", namespaces=WMTS))
            for each in root.iterfind(".//w:TileMatrix", WMTS)
        }
        assert all(width == 2 ** int(zoom) for zoom, width in matrices.items())
        tile = TMS.tile(*center(service), int(max(matrices, key=int)))
        url = template.replace("{TileMatrix}", str(tile.z)).replace("{TileCol}", str(tile.x))
        assert client.get(url.replace("{TileRow}", str(tile.y)), params={"wait": 60}).status_code == 200


def test_gdal_reads_the_wmts(service: Service) -> None:
    """An independent WMTS client, the one inside QGIS, finds the layer and its place."""
    url = f"{service.url}/scenes/{service.scene}/landcover/WebMercatorQuad/WMTSCapabilities.xml"
    with rasterio.open(f"WMTS:{url}") as image:
        assert image.crs.to_epsg() == 3857
        west, _, _, north = TMS.xy_bounds(TMS.tile(*center(service), 12))
        assert image.bounds.left <= west + 1e5
        assert image.bounds.top >= north - 1e5


def test_tile_sets_are_listed(service: Service) -> None:
    with service.client as client:
        tilesets = client.get(f"/scenes/{service.scene}/landcover/tiles").json()["tilesets"]
        assert any("WebMercatorQuad" in tileset["title"] for tileset in tilesets)
        assert client.get(f"/scenes/{service.scene}/landcover/tiles/WebMercatorQuad").status_code == 200
        assert client.get("/conformance").json()["conformsTo"]
        assert client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("tms", ["WebMercatorQuad", "WorldCRS84Quad", "WGS1984Quad", "WorldMercatorWGS84Quad"])
def test_other_tile_matrix_sets_show_the_scene(service: Service, tms: str) -> None:
    grid = morecantile.tms.get(tms)
    tile = grid.tile(*center(service), 17)
    with service.client as client:
        response = client.get(
            f"/scenes/{service.scene}/landcover/tiles/{tms}/{tile.z}/{tile.x}/{tile.y}.npy",
            params={"model": "pixels", "wait": 60, "strict": True},
        )
    assert response.status_code == 200, response.text
    assert np.load(io.BytesIO(response.content))[0].all()


def test_point_is_the_pixel(service: Service, demo_scene: Path) -> None:
    lon, lat = center(service)
    with service.client as client, rasterio.open(demo_scene) as image:
        answer = client.get(
            f"/scenes/{service.scene}/landcover/point/{lon},{lat}", params={"model": "pixels", "wait": 60}
        ).json()
        xs, ys = transform_points("OGC:CRS84", image.crs, [lon], [lat])
        pixel = next(image.sample([(xs[0], ys[0])]))
        assert answer["value"] == expected_classes(pixel)
        assert answer["confidence"] == pytest.approx(pixel[1] / 255)
        outside = f"/scenes/{service.scene}/landcover/point/0,0"
        assert client.get(outside).json()["value"] == 0
        refused = client.get(outside, params={"strict": True})
        assert refused.status_code == 404
        assert "longitude, latitude" in refused.json()["detail"]


def test_bbox_in_the_scenes_own_crs_is_the_map_itself(service: Service, demo_scene: Path) -> None:
    with service.client as client, rasterio.open(demo_scene) as image:
        window = rasterio.windows.Window(300, 400, 256, 128)
        bounds = rasterio.windows.bounds(window, image.transform)
        box = ",".join(str(edge) for edge in bounds)
        response = client.get(
            f"/scenes/{service.scene}/landcover/bbox/{box}.npy",
            params={"coord_crs": image.crs.to_string(), "width": 256, "height": 128, "model": "pixels", "wait": 60},
        )
        assert response.status_code == 200, response.text
        classes = np.load(io.BytesIO(response.content))[0]
        assert np.array_equal(classes, expected_classes(np.moveaxis(image.read(window=window), 0, -1)))


def test_a_box_too_large_is_refused(service: Service) -> None:
    with service.client as client:
        address = f"/scenes/{service.scene}/landcover/bbox/0,0,1,1.png"
        assert client.get(address, params={"width": 4096, "height": 4096}).status_code == 413
        assert client.get(address, params={"coord_crs": "EPSG:nonsense"}).status_code == 422
        assert client.get(f"/scenes/{service.scene}/landcover/bbox/1,0,0,1.png").status_code == 422


def test_tile_statistics_count_the_tiles_pixels_on_the_ground(service: Service, demo_scene: Path) -> None:
    """A tile well inside the scene: its geodesic area, and the pixels of each class under it by GDAL's mask."""
    tile = TMS.tile(*center(service), 17)
    with service.client as client:
        document = client.get(
            f"/scenes/{service.scene}/landcover/tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}/statistics",
            params={"model": "pixels", "wait": 60, "strict": True},
        ).json()
    west, south, east, north = TMS.bounds(tile)
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter([west, east, east, west], [south, south, north, north])
    assert document["complete"]
    assert document["coverage"] == pytest.approx(1, abs=1e-6)
    assert document["total_area_m2"] == pytest.approx(abs(area), rel=1e-6)
    assert sum(each["area_m2"] for each in document["classes"]) == pytest.approx(abs(area), rel=1e-6)
    assert len(document["classes"]) == 8
    with rasterio.open(demo_scene) as image:
        ring = transform_points("OGC:CRS84", image.crs, [west, east, east, west], [south, south, north, north])
        polygon = {"type": "Polygon", "coordinates": [list(zip(*ring, strict=True))]}
        inside = rasterio.features.geometry_mask([polygon], image.shape, image.transform, invert=True)
        classes = expected_classes(np.moveaxis(image.read(), 0, -1))[inside]
    for each in document["classes"]:
        assert each["pixels"] == pytest.approx((classes == each["value"]).sum(), abs=0.002 * len(classes))
        assert each["share"] == pytest.approx(each["area_m2"] / document["mapped_area_m2"])


def test_imagery_is_the_image(service: Service) -> None:
    tile = TMS.tile(*center(service), 18)
    with service.client as client:
        response = client.get(f"/scenes/{service.scene}/imagery/tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}.png")
        picture = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))
        assert picture.std() > 5
        document = client.get(f"/scenes/{service.scene}/imagery/WebMercatorQuad/tilejson.json").json()
    assert f"/scenes/{service.scene}/imagery/tiles/" in document["tiles"][0]


def test_metrics_count_requests_by_route(service: Service) -> None:
    with service.client as client:
        client.get("/healthz")
        text = client.get("/metrics").text
    assert 'landcover_api_requests_total{route="/healthz",status="200"}' in text
    assert "landcover_worker_blocks_total" not in text


def test_any_web_page_may_show_tiles(service: Service) -> None:
    tile = TMS.tile(*center(service), 18)
    url = f"/scenes/{service.scene}/landcover/tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}.png?wait=60"
    with service.client as client:
        for _ in range(2):  # the long way, then the short
            response = client.get(url, headers={"origin": "https://example.org"})
            assert response.headers["access-control-allow-origin"] == "*"
            assert "Landcover-Pending" in response.headers["access-control-expose-headers"]


def test_an_unknown_address_gets_a_sentence(service: Service) -> None:
    with service.client as client:
        response = client.get("/nowhere")
    assert response.status_code == 404
    assert response.json() == {"detail": "There is nothing at this address; GET /docs lists what there is."}
