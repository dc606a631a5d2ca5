"""The map page, as a person meets it: a real browser against the real service, from a cold cache on."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, ViewportSize, expect, sync_playwright
from starlette.testclient import TestClient

from landcover_api.map_page import FOR_EVER, map_page_router

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
COLD_S = 150
"""Longest wait for a whole view of a cold scene, on two cores."""
WARM_S = 30

Pixels = npt.NDArray[np.uint8]


class Service(Protocol):
    """A running API with broker, cache and worker."""

    url: str
    scene: str
    model: str

    def forget(self) -> None:
        """Empty the cache."""


@pytest.fixture
def service(shared_service: Service) -> Service:
    """The session's service as it is: warm, but for the first test that asks."""
    return shared_service


@pytest.fixture
def cold_service(shared_service: Service) -> Service:
    shared_service.forget()
    return shared_service


# ---------------------------------------------------------------------------------------- the page over HTTP


@pytest.fixture(scope="module")
def page_client() -> TestClient:
    app = FastAPI()
    app.include_router(map_page_router())
    return TestClient(app)


def test_page_is_revalidated_and_its_assets_are_kept(page_client: TestClient) -> None:
    page = page_client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    assert page_client.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) >= 4
    for address in addresses:
        assert re.match(r"assets/[0-9a-f]{16}/", address), "an asset outside the release's folder"
        asset = page_client.get(f"/{address}")
        assert asset.status_code == 200, address
        assert asset.headers["cache-control"] == FOR_EVER
        again = page_client.get(f"/{address}", headers={"If-None-Match": asset.headers["etag"]})
        assert again.status_code == 304
        assert not again.content


def test_assets_are_the_same_bytes_with_and_without_compression(page_client: TestClient) -> None:
    release = re.search(r"assets/(\w+)/", page_client.get("/").text)
    assert release
    path = f"/assets/{release[1]}/vendor/maplibre-gl/maplibre-gl.mjs"
    plain = page_client.get(path, headers={"Accept-Encoding": "identity"})
    zipped = page_client.get(path, headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert zipped.content == plain.content
    assert zipped.headers["etag"] != plain.headers["etag"]


def test_assets_of_another_release_are_not_kept(page_client: TestClient) -> None:
    assert page_client.get("/assets/0123456789abcdef/viewer.js").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["nothing.js", "../map_page.py", "%2e%2e/map_page.py", "vendor/README.md", ""])
def test_nothing_but_assets_is_served(page_client: TestClient, path: str) -> None:
    answer = page_client.get(f"/assets/x/{path}")
    assert answer.status_code == 404


def test_vendored_library_is_the_version_its_readme_names() -> None:
    vendor = files("landcover_api") / "viewer" / "vendor"
    named = re.match(r"maplibre-gl (\S+),", (vendor / "README.md").read_text())
    assert named
    for module in ("maplibre-gl.mjs", "maplibre-gl-worker.mjs"):
        assert f"/v{named[1]}/LICENSE.txt" in (vendor / "maplibre-gl" / module).read_text()[:500]


def test_policy_allows_this_origin_only(page_client: TestClient) -> None:
    policy = page_client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    for loophole in ("unsafe", "http:", "https:", "*", "blob:"):
        assert loophole not in policy


# ------------------------------------------------------------------------------------------- in the browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not executable:
        reason = "no Chromium is installed (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
    ]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=flags)
        yield started
        started.close()


class Watched:
    """A page, and everything it must not do."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self._origin = urlsplit(origin).netloc
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        self.page.on("request", self._check_host)

    def _note(self, kind: str, text: str) -> None:
        # SwiftShader tells that reading a screenshot back is slow; that is the test's own doing.
        if kind == "error" or (kind == "warning" and "GPU stall" not in text):
            self.faults.append(f"console {kind}: {text}")

    def _check_host(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.netloc != self._origin:
            self.faults.append(f"request to another host: {request.url}")


Open = Callable[..., Watched]


@pytest.fixture
def open_page(browser: Browser, service: Service) -> Iterator[Open]:
    """Open the map page in a fresh browser profile; at the end, nothing may have gone wrong in it."""
    contexts: list[BrowserContext] = []
    opened: list[tuple[Watched, bool]] = []

    def _open(
        fragment: str = "",
        *,
        viewport: ViewportSize = DESKTOP,
        may_fail: bool = False,
        before: Callable[[Page], None] | None = None,
        **context_options: Any,
    ) -> Watched:
        context = browser.new_context(viewport=viewport, **context_options)
        contexts.append(context)
        watched = Watched(context, service.url)
        opened.append((watched, may_fail))
        if before:
            before(watched.page)
        watched.page.goto(f"{service.url.rstrip('/')}/{fragment}")
        return watched

    yield _open
    faults = [fault for watched, may_fail in opened if not may_fail for fault in watched.faults]
    for context in contexts:
        context.close()
    assert not faults


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture
def classes(service: Service) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = get_json(f"{service.url.rstrip('/')}/models/{service.model}")["classes"]
    return listed


def map_pixels(page: Page) -> Pixels:
    """The middle of the map as it is on the screen, `(height, width, 3)`."""
    cover = page.locator("#panel").bounding_box()
    size = page.viewport_size
    assert cover and size
    left = cover["x"] + cover["width"] if cover["width"] < size["width"] / 2 else 0
    clip = {
        "x": left + 60,
        "y": size["height"] * 0.2,
        "width": size["width"] - left - 120,
        "height": size["height"] * 0.6,
    }
    image = Image.open(io.BytesIO(page.screenshot(clip=clip)))  # type: ignore[arg-type]
    return np.asarray(image.convert("RGB"))


def share_of(pixels: Pixels, colors: list[str]) -> dict[str, float]:
    """Share of the pixels that are (nearly) each of the colours."""
    shares = {}
    for color in colors:
        rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        shares[color] = float((np.abs(pixels.astype(int) - rgb).max(axis=-1) <= 6).mean())
    return shares


def wait_for(condition: Callable[[], bool], *, within_s: float, what: str, page: Page) -> None:
    """Poll without touching the page: it is only looked at."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"{what} within {within_s} s"
        page.wait_for_timeout(300)


def wait_until_drawn(page: Page, *, within_s: float = WARM_S) -> None:
    """Every land-cover tile in view is there."""
    page.wait_for_selector("html[data-landcover=drawn]", timeout=within_s * 1000, state="attached")
    page.wait_for_timeout(200)


def opaque(service: Service, **more: str | int) -> str:
    parts = {"scene": service.scene, "model": service.model, "opacity": 100, **more}
    return "#" + "&".join(f"{name}={value}" for name, value in parts.items())


def alike(one: Pixels, other: Pixels) -> bool:
    """The same picture, but for a shift by a fraction of a pixel."""
    difference = np.abs(one.astype(int) - other).max(axis=-1)
    return float((difference <= 48).mean()) > 0.95


def colors_of(classes: list[dict[str, Any]]) -> list[str]:
    return [each["color"] for each in classes]


def mapped(pixels: Pixels, classes: list[dict[str, Any]]) -> float:
    return sum(share_of(pixels, colors_of(classes)).values())


def test_cold_map_fills_in_with_no_click_or_move(
    open_page: Open, cold_service: Service, classes: list[dict[str, Any]]
) -> None:
    page = open_page(opaque(cold_service)).page
    wait_for(lambda: mapped(map_pixels(page), classes) > 0.4, within_s=COLD_S, what="land cover", page=page)
    wait_until_drawn(page, within_s=COLD_S)
    shares = share_of(map_pixels(page), colors_of(classes))
    assert sum(share > 0.005 for share in shares.values()) >= 3, shares
    expect(page.locator("#busy")).to_be_hidden()
    expect(page.locator("#problem")).to_be_hidden()


def test_warm_map_appears_on_reload(open_page: Open, service: Service, classes: list[dict[str, Any]]) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    first = map_pixels(page)
    page.reload()
    wait_until_drawn(page)
    wait_for(lambda: mapped(map_pixels(page), classes) > 0.4, within_s=WARM_S, what="land cover", page=page)
    assert alike(map_pixels(page), first)


@pytest.mark.parametrize("late", ["**/imagery/**/tilejson.json*", "**/landcover/**/tilejson.json*"])
def test_land_cover_lies_over_the_imagery_whichever_comes_first(
    open_page: Open, service: Service, classes: list[dict[str, Any]], late: str
) -> None:
    def delay(route: Route) -> None:
        time.sleep(1)
        route.continue_()

    page = open_page(opaque(service), before=lambda page: page.route(late, delay)).page
    wait_until_drawn(page, within_s=COLD_S)
    page.wait_for_timeout(2500)
    assert mapped(map_pixels(page), classes) > 0.4


def test_unfinished_and_failed_tiles_are_asked_for_again(
    open_page: Open, service: Service, classes: list[dict[str, Any]]
) -> None:
    """The first answer to each tile is unfinished, the second a failure, the third a success without `max-age`."""
    asked: dict[str, int] = {}
    empty = io.BytesIO()
    Image.new("RGBA", (256, 256)).save(empty, "PNG")

    def answer(route: Route) -> None:
        address = urlsplit(route.request.url).path
        asked[address] = asked.get(address, 0) + 1
        if asked[address] == 1:
            pending = {"Cache-Control": "public, max-age=1", "Landcover-Pending": "4"}
            route.fulfill(body=empty.getvalue(), content_type="image/png", headers=pending)
        elif asked[address] == 2:
            route.fulfill(status=503, json={"detail": "No worker is there."}, headers={"Retry-After": "1"})
        else:
            answered = route.fetch()
            kept = {name: value for name, value in answered.headers.items() if name != "cache-control"}
            route.fulfill(response=answered, headers=kept)

    def intercept(page: Page) -> None:
        page.route("**/landcover/tiles/**", answer)

    page = open_page(opaque(service), may_fail=True, before=intercept).page
    expect(page.locator("#busy")).to_contain_text("Mapping", timeout=20_000)
    expect(page.locator("#problem")).to_have_text("No worker is there.", timeout=20_000)
    wait_until_drawn(page, within_s=COLD_S)
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#busy")).to_be_hidden()
    assert mapped(map_pixels(page), classes) > 0.4
    before = dict(asked)
    assert min(before.values()) >= 3
    page.wait_for_timeout(3000)
    assert asked == before, "a finished tile was asked for again"


def test_tiles_come_when_the_server_is_silent_for_a_while(open_page: Open, service: Service) -> None:
    """A page opened before the server is up starts by itself."""
    left = {"refusals": 2}

    def answer(route: Route) -> None:
        if left["refusals"]:
            left["refusals"] -= 1
            route.abort("connectionrefused")
        else:
            route.continue_()

    page = open_page(opaque(service), may_fail=True, before=lambda page: page.route("**/scenes", answer)).page
    expect(page.locator("#problem")).to_have_text("The server cannot be reached.")
    wait_until_drawn(page, within_s=COLD_S)
    expect(page.locator("#problem")).to_be_hidden()


def test_legend_lists_the_classes_of_the_model(
    open_page: Open, service: Service, classes: list[dict[str, Any]]
) -> None:
    page = open_page(opaque(service)).page
    entries = page.locator("#legend li")
    expect(entries).to_have_count(len(classes))
    for entry, each in zip(entries.all(), classes, strict=True):
        assert (entry.text_content() or "").strip() == each["name"]
        shown = entry.locator(".swatch").evaluate("swatch => getComputedStyle(swatch).backgroundColor")
        rgb = tuple(int(each["color"][i : i + 2], 16) for i in (1, 3, 5))
        assert shown == f"rgb({rgb[0]}, {rgb[1]}, {rgb[2]})"


def test_switching_a_class_off_takes_it_from_the_picture(
    open_page: Open, service: Service, classes: list[dict[str, Any]]
) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    shares = share_of(map_pixels(page), colors_of(classes))
    most = max(classes, key=lambda each: shares[each["color"]])
    box = page.locator(f"#legend input[value='{most['value']}']")
    box.uncheck()
    wait_for(
        lambda: share_of(map_pixels(page), [most["color"]])[most["color"]] < shares[most["color"]] / 5,
        within_s=WARM_S,
        what=f"{most['name']} gone",
        page=page,
    )
    assert f"off={most['value']}" in page.url
    box.check()
    wait_for(
        lambda: share_of(map_pixels(page), [most["color"]])[most["color"]] > shares[most["color"]] * 0.9,
        within_s=WARM_S,
        what=f"{most['name']} back",
        page=page,
    )
    everything = mapped(map_pixels(page), classes)
    page.locator("#all-classes").click()
    wait_for(lambda: mapped(map_pixels(page), classes) < everything / 2, within_s=WARM_S, what="no class", page=page)


def test_class_under_the_pointer_is_named(open_page: Open, service: Service, classes: list[dict[str, Any]]) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    readout = page.locator("#readout")
    expect(readout).to_be_hidden()
    page.mouse.move(820, 400)
    expect(readout).to_be_visible(timeout=WARM_S * 1000)
    expect(page.locator("#readout-confidence")).to_have_text(re.compile(r"^\d+ %$"))
    named = next(each for each in classes if each["name"] == page.locator("#readout-name").text_content())
    # What is named is what is drawn there.
    pixel = np.asarray(
        Image.open(io.BytesIO(page.screenshot(clip={"x": 820, "y": 400, "width": 1, "height": 1}))).convert("RGB")
    )
    assert share_of(pixel, [named["color"]])[named["color"]] == 1 or mapped(pixel, classes) == 0
    page.mouse.move(100, 100)
    expect(readout).to_be_hidden()


def test_keyboard_reads_the_middle_of_the_map(open_page: Open, service: Service) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "CANVAS":
            break
    expect(page.locator("#crosshair")).to_be_visible()
    expect(page.locator("#readout")).to_be_visible(timeout=WARM_S * 1000)
    at = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_function("at => location.href !== at", arg=at)


def test_opacity_shows_the_imagery_below(open_page: Open, service: Service, classes: list[dict[str, Any]]) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    opaque_share = mapped(map_pixels(page), classes)
    slider = page.get_by_label("Opacity")
    slider.fill("0")
    expect(page.locator("#opacity-value")).to_have_text("0 %")
    wait_for(
        lambda: mapped(map_pixels(page), classes) < opaque_share / 2,
        within_s=10,
        what="imagery alone",
        page=page,
    )
    imagery = map_pixels(page)
    assert imagery.std() > 5, "there is no imagery"
    slider.fill("50")
    wait_for(lambda: not np.array_equal(map_pixels(page), imagery), within_s=10, what="a blend", page=page)
    assert "opacity=50" in page.url


def test_confidence_layer_is_another_picture(open_page: Open, service: Service, classes: list[dict[str, Any]]) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    picture = map_pixels(page)
    page.get_by_text("Confidence", exact=True).click()
    expect(page.locator("#confidence-scale")).to_be_visible()
    wait_until_drawn(page)
    wait_for(
        lambda: (map_pixels(page) == picture).all(axis=-1).mean() < 0.3,
        within_s=WARM_S,
        what="confidence",
        page=page,
    )
    assert "layer=confidence" in page.url


def test_copied_addresses_work(open_page: Open, service: Service, classes: list[dict[str, Any]]) -> None:
    watched = open_page(opaque(service, off=classes[0]["value"]))
    page = watched.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
    wait_until_drawn(page, within_s=COLD_S)
    page.locator("#addresses summary").click()
    copied = {}
    for kind in ("xyz", "tilejson", "wmts"):
        button = page.locator(f"[data-copy=address-{kind}]")
        button.click()
        expect(button).to_have_text("Copied")
        copied[kind] = page.evaluate("navigator.clipboard.readText()")
    kept = ",".join(str(each["value"]) for each in classes[1:])
    for address in copied.values():
        assert address.startswith(service.url.rstrip("/"))
        assert f"model={service.model}" in address
        assert f"classes={kept}" in address
    tilejson = get_json(copied["tilejson"])
    west, south, east, north = tilejson["bounds"]
    zoom = tilejson["maxzoom"]
    x = int(((west + east) / 2 + 180) / 360 * 2**zoom)
    latitude = np.radians((south + north) / 2)
    y = int((1 - np.arcsinh(np.tan(latitude)) / np.pi) / 2 * 2**zoom)
    for template in (copied["xyz"], tilejson["tiles"][0]):
        address = template.replace("{z}", str(zoom)).replace("{x}", str(x)).replace("{y}", str(y))
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.headers["content-type"] == "image/png"
            assert Image.open(io.BytesIO(answer.read())).size[0] in (256, 512)
    with urllib.request.urlopen(copied["wmts"], timeout=60) as answer:
        assert b"Capabilities" in answer.read()


def test_review_leads_to_the_windows_it_lists(open_page: Open, service: Service) -> None:
    with urllib.request.urlopen(f"{service.url}/scenes/{service.scene}/landcover/review?wait=60") as response:
        features = json.load(response)["features"]
    page = open_page(opaque(service)).page
    page.locator("#review summary").click()
    entries = page.locator("#review-list button")
    expect(entries).to_have_count(len(features), timeout=WARM_S * 1000)
    third = entries.nth(2)
    expect(third).to_contain_text(features[2]["properties"]["dominant_class"])
    third.click()
    west, south, east, north = features[2]["bbox"]

    def is_there() -> bool:
        _, lat, lng = map(float, page.url.split("at=")[1].split("/"))
        return west < lng < east and south < lat < north

    wait_for(is_there, within_s=WARM_S, what="the third window in view", page=page)
    expect(page.locator("#review-list [aria-current]")).to_have_text(third.inner_text().replace("\n", ""))
    page.locator("#review summary").click()
    expect(entries).to_have_count(0)


# ---------------------------------------------------------------------------------- the area inside polygons

CORNERS = [(700, 300), (950, 320), (900, 550), (650, 500)]
"""On the desktop's map, inside the scene."""


def parcel(lng: float, lat: float, name: str, side: float = 0.002) -> dict[str, Any]:
    ring = [[lng, lat], [lng + side, lat], [lng + side, lat + side], [lng, lat + side], [lng, lat]]
    return {"type": "Feature", "properties": {"name": name}, "geometry": {"type": "Polygon", "coordinates": [ring]}}


def upload(page: Page, document: Any) -> None:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    page.locator("#area-file").set_input_files({"name": "parcels.geojson", "mimeType": "", "buffer": content})


def expect_measured(page: Page) -> None:
    expect(page.locator("#area")).to_have_attribute("data-state", "measured", timeout=COLD_S * 1000)


def begin_drawing(page: Page) -> None:
    page.locator("#area summary").click()
    page.locator("#area-draw").click()
    expect(page.locator("#sketch")).to_be_visible()


def saved(page: Page, button: str) -> str:
    with page.expect_download() as download:
        page.locator(button).click()
    return download.value.path().read_text()


def post_statistics(service: Service, body: Any) -> Any:
    url = f"{service.url.rstrip('/')}/scenes/{service.scene}/landcover/statistics?wait=60"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=90) as answer:
        assert answer.status == 200
        return json.load(answer)


def test_drawn_polygon_is_measured_and_its_figures_are_those_of_the_api(open_page: Open, service: Service) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    begin_drawing(page)
    finish = page.locator("#sketch-finish")
    for corner in CORNERS[:2]:
        page.mouse.click(*corner)
    expect(finish).to_be_disabled()
    page.mouse.click(800, 700)
    expect(finish).to_be_enabled()
    page.locator("#sketch-undo").click()
    expect(finish).to_be_disabled()
    for corner in CORNERS[2:]:
        page.mouse.click(*corner)
    page.mouse.click(*CORNERS[0])
    expect(page.locator("#sketch")).to_be_hidden()
    expect_measured(page)
    answer = json.loads(saved(page, "#area-json"))
    (ring,) = answer["geometry"]["coordinates"]
    assert len(ring) == len(CORNERS) + 1
    assert ring[0] == ring[-1]
    statistics = answer["properties"].pop("statistics")
    assert statistics == post_statistics(service, answer)["properties"]["statistics"]
    assert float((page.locator("#area-total").text_content() or "").split()[0]) == pytest.approx(
        statistics["total_area_m2"] / 1e4, rel=0.01
    )
    found = sorted((each for each in statistics["classes"] if each["area_m2"]), key=lambda each: -each["area_m2"])
    entries = page.locator("#area-classes li")
    expect(entries).to_have_count(len(found))
    widths = []
    for entry, each in zip(entries.all(), found, strict=True):
        assert entry.locator(".name").text_content() == each["name"]
        fill = entry.locator(".fill")
        rgb = tuple(int(each["color"][i : i + 2], 16) for i in (1, 3, 5))
        assert fill.evaluate("bar => getComputedStyle(bar).backgroundColor") == f"rgb({rgb[0]}, {rgb[1]}, {rgb[2]})"
        assert "±" in (entry.locator(".adjusted").text_content() or "") or each["adjusted_ci95_m2"][0] == 0
        widths.append(float(fill.evaluate("bar => parseFloat(bar.style.width)")))
    areas = np.array([each["area_m2"] for each in found])
    assert np.allclose(np.array(widths) / widths[0], areas / areas[0], rtol=1e-3)
    rows = saved(page, "#area-csv").splitlines()
    assert rows[0].startswith("feature,scene,model,class")
    assert len(rows) == 1 + len(statistics["classes"])


def test_double_click_ends_a_drawing_and_escape_leaves_it(open_page: Open, service: Service) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    begin_drawing(page)
    at = page.url
    page.mouse.click(*CORNERS[0])
    page.keyboard.press("Escape")
    expect(page.locator("#sketch")).to_be_hidden()
    expect(page.locator("#area")).to_have_attribute("data-state", "empty")
    page.locator("#area-draw").click()
    for corner in CORNERS[:-1]:
        page.mouse.click(*corner)
    page.mouse.dblclick(*CORNERS[-1])
    expect_measured(page)
    assert len(json.loads(saved(page, "#area-json"))["geometry"]["coordinates"][0]) == len(CORNERS) + 1
    assert page.url == at, "the double click zoomed the map"
    page.locator("#area-clear").click()
    expect(page.locator("#area-result")).to_be_hidden()


def test_polygon_is_drawn_by_keyboard_alone(open_page: Open, service: Service) -> None:
    page = open_page(opaque(service)).page
    wait_until_drawn(page, within_s=COLD_S)
    page.locator("#area summary").focus()
    for key in ("Enter", "Tab", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#sketch .by-keys")).to_be_visible()
    page.keyboard.press("Space")
    for key in ("ArrowRight", "ArrowDown"):
        at = page.url
        page.keyboard.press(key)
        page.wait_for_function("at => location.href !== at", arg=at)
        page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect_measured(page)
    assert page.evaluate("document.activeElement.id") == "area-draw"
    assert len(json.loads(saved(page, "#area-json"))["geometry"]["coordinates"][0]) == 4


def test_polygons_of_a_file_are_measured_each(open_page: Open, service: Service) -> None:
    page = open_page(opaque(service)).page
    inside, half = parcel(140.058, 36.134, "Mill"), parcel(140.0542, 36.136, "At the edge")
    half["geometry"]["coordinates"][0].pop()
    upload(page, {"type": "FeatureCollection", "features": [inside, half]})
    expect_measured(page)
    expect(page.locator("#area-coverage")).to_have_text("all of it mapped")
    page.locator("#area-feature").select_option("1")
    expect(page.locator("#area-coverage")).to_have_text(re.compile(r"^\d\d % of it mapped$"))
    expect(page.locator("#area-notes")).to_contain_text("was not closed")


def test_what_is_refused_is_said_in_the_section(open_page: Open, service: Service) -> None:
    page = open_page(opaque(service), may_fail=True).page
    upload(page, b"{no json")
    expect(page.locator("#area-problem")).to_contain_text("parcels.geojson is no GeoJSON")
    upload(page, parcel(2.3, 48.8, "Paris"))
    expect(page.locator("#area-problem")).to_contain_text(f"outside scene '{service.scene}'")
    expect(page.locator("#area-result")).to_be_hidden()
    upload(page, parcel(140.058, 36.134, "Mill"))
    expect_measured(page)
    expect(page.locator("#area-problem")).to_be_hidden()


def never_wait(page: Page) -> None:
    """Whatever is missing becomes a job at once."""
    page.route(
        "**/landcover/statistics?*",
        lambda route: route.continue_(url=re.sub(r"wait=\d+", "wait=0", route.request.url)),
    )


def test_what_takes_long_is_followed(open_page: Open, cold_service: Service) -> None:
    page = open_page(opaque(cold_service, at="20/36.1412/140.0552"), before=never_wait).page
    body = parcel(140.0555, 36.134, "All of it", side=0.006)
    upload(page, body)
    expect(page.locator("#area-progress")).to_be_visible()
    expect(page.locator("#area-note")).to_contain_text("Mapping what is missing")
    expect_measured(page)
    expect(page.locator("#area-progress")).to_be_hidden()
    found = json.loads(saved(page, "#area-json"))
    assert found["properties"]["statistics"] == post_statistics(cold_service, body)["properties"]["statistics"]
    assert saved(page, "#area-csv").startswith("feature,scene")


def test_what_takes_long_can_be_cancelled(open_page: Open, cold_service: Service) -> None:
    page = open_page(opaque(cold_service, at="20/36.1412/140.0552"), before=never_wait).page
    with page.expect_response(lambda response: response.status == 202) as accepted:
        upload(page, parcel(140.0556, 36.134, "All of it", side=0.0061))
    page.locator("#area-cancel").click()
    expect(page.locator("#area-note")).to_contain_text("Cancelled")
    expect(page.locator("#area-again")).to_be_visible()
    job = accepted.value.json()["id"]
    wait_for(
        lambda: get_json(f"{cold_service.url.rstrip('/')}/jobs/{job}")["status"] == "dismissed",
        within_s=WARM_S,
        what="the job dismissed",
        page=page,
    )


def test_phone_draws_with_taps(open_page: Open, service: Service) -> None:
    page = open_page(opaque(service), viewport=PHONE, has_touch=True, is_mobile=True).page
    wait_until_drawn(page, within_s=COLD_S)
    page.locator("#panel-toggle").tap()
    page.locator("#area summary").tap()
    page.locator("#area-draw").tap()
    expect(page.locator("#legend")).to_be_hidden()
    for corner in ((150, 350), (250, 360), (200, 450)):
        page.touchscreen.tap(*corner)
        page.wait_for_timeout(400)
    page.locator("#sketch-finish").tap()
    expect_measured(page)
    expect(page.locator("#area-result")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_documented_javascript_asks_from_another_origin(browser: Browser, service: Service) -> None:
    text = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```js\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    code = code.replace("http://127.0.0.1:8000", service.url.rstrip("/"))
    body = parcel(140.058, 36.134, "Mill")
    context = browser.new_context()
    page = context.new_page()
    assert page.evaluate("origin") != service.url
    found = page.evaluate(f"area => {{ {code}\n return landCover(area, {{ wait: 30 }}); }}", body)
    refused = page.evaluate(f"area => {{ {code}\n return landCover(area).catch(String); }}", {"type": "Point"})
    context.close()
    assert found == post_statistics(service, body)
    assert refused.startswith("Error: The body must be")


def test_link_restores_what_was_shown(open_page: Open, service: Service, classes: list[dict[str, Any]]) -> None:
    page = open_page().page
    wait_until_drawn(page, within_s=COLD_S)
    page.get_by_label("Opacity").fill("85")
    page.locator(f"#legend input[value='{classes[-1]['value']}']").uncheck()
    page.get_by_text("Confidence", exact=True).click()
    page.locator(".maplibregl-ctrl-zoom-in").click()
    page.wait_for_timeout(1000)
    wait_until_drawn(page, within_s=COLD_S)
    link, picture = page.url, map_pixels(page)
    other = open_page("#" + link.partition("#")[2]).page
    wait_until_drawn(other)
    expect(other.locator("#opacity-value")).to_have_text("85 %")
    expect(other.locator("input[name=layer][value=confidence]")).to_be_checked()
    expect(other.locator(f"#legend input[value='{classes[-1]['value']}']")).not_to_be_checked()
    assert other.url == link
    wait_for(lambda: alike(map_pixels(other), picture), within_s=WARM_S, what="the same picture", page=other)


@pytest.mark.parametrize(
    "fragment", ["#opacity=abc&at=1/2", "#at=99/999/999&off=x,,&layer=nonsense", "#%%%", "#scene=&model="]
)
def test_broken_link_shows_the_default(open_page: Open, fragment: str) -> None:
    page = open_page(fragment).page
    wait_until_drawn(page, within_s=COLD_S)
    expect(page.locator("#opacity-value")).to_have_text("70 %")
    expect(page.locator("#problem")).to_be_hidden()


def test_unknown_scene_is_said(open_page: Open, service: Service) -> None:
    page = open_page("#scene=no-such-scene").page
    expect(page.locator("#problem")).to_contain_text("no-such-scene")
    expect(page.locator("#scene")).to_have_value(service.scene)


def test_sentence_of_a_failing_scene_is_shown(open_page: Open, service: Service) -> None:
    """One that the server knows to be broken, and one that turns out to be when its tiles are asked for."""
    sentence = "The image 'broken' cannot be read: it ends early. Replace the file and ask again."
    listed = get_json(f"{service.url.rstrip('/')}/scenes")["scenes"]
    sound = next(each for each in listed if each["id"] == service.scene)

    def intercept(page: Page) -> None:
        page.route(
            "**/scenes",
            lambda route: route.fulfill(json={"scenes": [sound, {"id": "broken", "error": sentence}]}),
        )
        page.route(
            "**/landcover/tiles/**", lambda route: route.fulfill(status=502, json={"detail": sentence + " (tile)"})
        )

    page = open_page(opaque(service), may_fail=True, before=intercept).page
    expect(page.locator("#problem")).to_have_text(f"{sentence} (tile)", timeout=WARM_S * 1000)
    page.locator("#scene").select_option("broken")
    expect(page.locator("#problem")).to_have_text(sentence)
    expect(page.locator("#busy")).to_be_hidden()


def test_phone_has_the_map_first_and_the_legend_at_a_tap(
    open_page: Open, service: Service, classes: list[dict[str, Any]]
) -> None:
    page = open_page(opaque(service), viewport=PHONE, has_touch=True, is_mobile=True).page
    wait_until_drawn(page, within_s=COLD_S)
    assert mapped(map_pixels(page), classes) > 0.05
    expect(page.locator("#legend")).to_be_hidden()
    page.touchscreen.tap(195, 390)
    expect(page.locator("#readout")).to_be_visible(timeout=WARM_S * 1000)
    toggle = page.locator("#panel-toggle")
    toggle.tap()
    expect(page.locator("#legend")).to_be_visible()
    assert toggle.get_attribute("aria-expanded") == "true"
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    toggle.tap()
    expect(page.locator("#legend")).to_be_hidden()
