"""The map page, as a person meets it: a real browser against the real service, from a cold cache on."""

from __future__ import annotations

import io
import json
import re
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from map_browser import COLD_S, PHONE, WARM_S, Open, get_json, opaque, wait_for, wait_until_drawn
from running import Service

Pixels = npt.NDArray[np.uint8]


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
