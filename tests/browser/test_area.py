"""The section *Area* of the map page: polygons are drawn or brought, and measured."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from map_browser import COLD_S, PHONE, WARM_S, Open, get_json, opaque, wait_for, wait_until_drawn
from running import Service

CORNERS = [(700, 300), (950, 320), (900, 550), (650, 500)]
"""On the desktop's map, inside the scene."""


def parcel(lng: float, lat: float, name: str, side: float = 0.002) -> dict[str, Any]:
    ring = [[lng, lat], [lng + side, lat], [lng + side, lat + side], [lng, lat + side], [lng, lat]]
    return {"type": "Feature", "properties": {"name": name}, "geometry": {"type": "Polygon", "coordinates": [ring]}}


def upload(page: Page, document: Any) -> None:
    expect(page.locator("#area-open")).to_be_enabled(timeout=WARM_S * 1000)
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
