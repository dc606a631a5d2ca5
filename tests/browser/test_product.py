"""The section *Product* of the map page: a scene, or what is in view, is mapped into files by a job."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from playwright.sync_api import Page, Route, expect
from pyproj import Transformer

from landcover.geodesy import WGS84
from map_browser import COLD_S, DESKTOP, PHONE, WARM_S, Open, get_json, wait_for, wait_until_drawn
from onnx_models import expected_classes, pixel_contract, write_pixel_model
from rasters import noise, write_tif
from running import Service, descendants, start_service

MOST_BLOCKS = 64
SIDES_PX = {"field": 1024, "mill": 1024, "town": 1024, "lake": 1024, "wood": 1024, "ruin": 1024, "land": 2304}
"""The scenes, one for each test that needs a cold one; `land` needs more than `MOST_BLOCKS`, `ruin` is damaged."""

PATCH_PX = 32
"""Of one colour: polygons of single pixels would take long to trace."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("product")


@pytest.fixture(scope="module")
def service(folder: Path, pixel_model: Path) -> Iterator[Service]:
    """Two models: `pixels`, and `slow`, which takes a while for each block."""
    slow = write_pixel_model(folder / "slow.onnx", pixel_contract("slow"), busy_loops=12)
    scenes = []
    for name, side_px in SIDES_PX.items():
        patches = noise(side_px // PATCH_PX, side_px // PATCH_PX).repeat(PATCH_PX, axis=0).repeat(PATCH_PX, axis=1)
        scenes.append(write_tif(folder / f"{name}.tif", patches, compress="deflate"))
    started = start_service(
        folder / "state",
        scenes=scenes,
        models=[pixel_model, slow],
        LANDCOVER_PRODUCTS=str(folder / "products"),
        LANDCOVER_API_MAP_MAX_BLOCKS=str(MOST_BLOCKS),
    )
    yield started
    started.processes.stop()


def fragment(scene: str, model: str = "pixels", **more: str) -> str:
    return "#" + "&".join(f"{name}={value}" for name, value in {"scene": scene, "model": model, **more}.items())


NEAR = {"at": "21/36.1381/140.0556"}
"""A view of one or two blocks, so that what the map shows leaves the rest for a job to make, however slow the page."""


def begin(page: Page) -> None:
    if page.locator("#product").get_attribute("open") is None:
        page.locator("#product summary").click()
    page.locator("#product-begin").click(timeout=WARM_S * 1000)


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("#product")).to_have_attribute("data-state", state, timeout=COLD_S * 1000)


def jobs(service: Service, scene: str) -> list[dict[str, Any]]:
    """Those of a scene, the newest first."""
    found: list[dict[str, Any]] = get_json(f"{service.url}/jobs")["jobs"]
    return [each for each in found if each["title"] == f"map of {scene}"]


def links(page: Page) -> dict[str, str]:
    """Text and address of the files that are offered."""
    entries = page.locator("#product-files a").all()
    return {entry.text_content() or "": entry.evaluate("link => link.href") for entry in entries}


def fetched(url: str, path: Path) -> Path:
    with urllib.request.urlopen(url, timeout=60) as answer:
        path.write_bytes(answer.read())
    return path


def test_a_scene_becomes_files(open_page: Open, service: Service, folder: Path, tmp_path: Path) -> None:
    page = open_page(fragment("field")).page
    wait_until_drawn(page, within_s=COLD_S)
    page.locator("#product summary").click()
    page.locator("#product-vectors").select_option("flatgeobuf")
    page.locator("#product-pmtiles").check()
    with page.expect_request("**/landcover/**/tilejson.json*", timeout=COLD_S * 1000):  # the map is drawn anew
        begin(page)
        expect_state(page, "done")
    (job,) = jobs(service, "field")
    files = {each["role"]: each for each in get_json(f"{service.url}/jobs/{job['id']}/results")["files"]}
    offered = links(page)
    assert set(offered.values()) == {each["href"] for each in files.values()}
    assert offered["Polygons"].endswith("field.fgb")
    assert offered["Web map"].endswith("field.pmtiles")
    kilobytes = files["confidence"]["size_bytes"] / 1e3
    expect(page.locator("#product-files li").nth(1)).to_have_text(re.compile(rf"^Confidence\.tif, {kilobytes:.0f} kB$"))
    with page.expect_download() as download:
        page.get_by_role("link", name="Classes", exact=True).click()
    assert download.value.suggested_filename == "field.tif"
    with rasterio.open(download.value.path()) as found, rasterio.open(folder / "field.tif") as image:
        assert np.array_equal(found.read(1), expected_classes(np.moveaxis(image.read(), 0, -1)))
    assert fetched(offered["STAC Item"], tmp_path / "item.json").stat().st_size == files["item"]["size_bytes"]
    page.reload()
    expect(page.locator("#product-share")).to_have_text("ready")
    page.locator("#product summary").click()
    assert links(page) == offered


def test_what_is_in_view_becomes_files(open_page: Open, service: Service, tmp_path: Path) -> None:
    """Beside the panel; and by keyboard alone, whose focus goes along."""
    scale_px, latitude, longitude = 512 * 2**18 / 360, 36.1381, 140.0556
    page = open_page(fragment("mill", at=f"18/{latitude}/{longitude}")).page
    expect(page.locator("#product-form")).to_be_enabled()
    page.locator("#product summary").focus()
    page.keyboard.press("Enter")
    extent = "#product input[name=product-extent]"
    expect(page.locator(extent).first).to_be_in_viewport()  # a key before it is drawn would pass over it
    for key, reached in (
        ("Tab", f"{extent}[value=scene]"),
        ("ArrowRight", f"{extent}[value=view]"),
        ("Tab", "#product-vectors"),
        ("Tab", "#product-pmtiles"),
        ("Tab", "#product-begin"),
    ):
        page.keyboard.press(key)
        expect(page.locator(reached)).to_be_focused()
    page.keyboard.press("Enter")
    expect_state(page, "done")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    panel = page.locator("#panel").bounding_box()
    assert panel
    left_px, right_px = panel["x"] + panel["width"] - DESKTOP["width"] / 2, DESKTOP["width"] / 2
    west, east = (longitude + px / scale_px for px in (left_px, right_px))
    half_height = DESKTOP["height"] / 2 / scale_px * np.cos(np.radians(latitude))
    south, north = latitude - half_height, latitude + half_height
    with rasterio.open(fetched(links(page)["Classes"], tmp_path / "classes.tif")) as found:
        view = Transformer.from_crs(WGS84, found.crs, always_xy=True).transform_bounds(west, south, east, north)
        wanted = np.clip(view, [415_000, 3_999_488] * 2, [415_512, 4_000_000] * 2)
        assert found.bounds == pytest.approx(wanted, abs=1.5)
        assert found.width < SIDES_PX["mill"]


def test_a_job_is_followed_through_a_reload_and_a_restart(open_page: Open, service: Service) -> None:
    page = open_page(fragment("town", "slow", **NEAR), may_fail=True).page
    begin(page)
    expect_state(page, "running")
    page.locator("#model").select_option("pixels")
    expect_state(page, "idle")
    page.locator("#model").select_option("slow")
    expect_state(page, "running")
    page.reload()
    expect(page.locator("#product-share")).to_have_text(re.compile(r"^\d+ %$"))
    page.locator("#product summary").click()
    expect(page.locator("#product-form")).to_be_hidden()
    expect(page.locator("#product-progress")).to_be_visible()
    api = service.child("API")
    assert api.process is not None
    for pid in {api.process.pid} | descendants(api.process.pid):
        os.kill(pid, signal.SIGKILL)
    api.process.wait()
    expect(page.locator("#product-problem")).to_contain_text("cannot be reached")
    api.start()
    expect_state(page, "done")
    expect(page.locator("#product-problem")).to_be_hidden()
    assert len(jobs(service, "town")) == 1
    assert "Classes" in links(page)


def test_a_job_is_cancelled(open_page: Open, service: Service) -> None:
    page = open_page(fragment("lake", "slow", **NEAR)).page
    begin(page)
    expect_state(page, "running")
    page.locator("#product-cancel").click()
    expect_state(page, "cancelled")
    expect(page.locator("#product-note")).to_have_text("Cancelled.")
    expect(page.locator("#product-begin")).to_be_enabled()
    assert [each["status"] for each in jobs(service, "lake")] == ["dismissed"]
    page.reload()
    expect(page.locator("#product-form")).to_be_enabled()
    expect_state(page, "idle")


def test_a_job_of_somebody_else_is_followed(open_page: Open, service: Service) -> None:
    body = json.dumps({"type": "map", "scene": "wood", "model": "slow"}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{service.url}/jobs", body), timeout=60) as answer:
        assert answer.status == 201
    expect_state(open_page(fragment("wood", "pixels")).page, "idle")
    page = open_page(fragment("wood", "slow")).page
    page.locator("#product summary").click()
    expect_state(page, "done")
    assert "Classes" in links(page)


def test_blocks_that_cannot_be_had_are_listed_and_may_be_holes(open_page: Open, service: Service, folder: Path) -> None:
    scene = folder / "ruin.tif"
    size = scene.stat().st_size
    with scene.open("r+b") as file:
        file.seek(size * 3 // 4)
        file.write(b"\xff" * (size // 4))
    page = open_page(fragment("ruin"), may_fail=True).page
    begin(page)
    expect_state(page, "failed")
    failed = jobs(service, "ruin")[0]["blocks"]["failed"]
    total = (SIDES_PX["ruin"] // 256) ** 2
    expect(page.locator("#product-problem")).to_contain_text(f"{failed} of {total} blocks cannot be mapped")
    expect(page.locator("#product-failures li").first).to_contain_text(re.compile(r"^Row \d, column \d: .*decoded"))
    expect(page.locator("#product-again")).to_be_visible()
    page.locator("#product-holes").click()
    expect_state(page, "done")
    expect(page.locator("#product-note")).to_contain_text(f"with holes: {failed} of {total} blocks")
    assert "Classes" in links(page)


def test_refusals_are_told(open_page: Open, service: Service) -> None:
    page = open_page(fragment("land"), may_fail=True).page
    begin(page)
    expect(page.locator("#product-problem")).to_contain_text(f"at most {MOST_BLOCKS} are mapped by one job")
    expect(page.locator("#product-again")).to_be_hidden()
    told = {
        422: "This service has no place for products: set LANDCOVER_PRODUCTS to a folder or s3://bucket/prefix.",
        429: "32 jobs wait or run already; try again when some have ended.",
    }
    refusals = iter(told.items())

    def refuse(route: Route) -> None:
        status, detail = next(refusals)
        route.fulfill(status=status, json={"detail": detail})

    page.route("**/jobs", refuse)
    page.locator("#product-begin").click()
    expect(page.locator("#product-problem")).to_have_text(told[422])
    page.locator("#product-begin").click()
    expect(page.locator("#product-problem")).to_have_text(told[429])
    expect(page.locator("#product-again")).to_be_visible()


def test_phone_has_room_for_it(open_page: Open, service: Service) -> None:
    page = open_page(fragment("field"), viewport=PHONE, has_touch=True, is_mobile=True).page
    page.locator("#panel-toggle").tap()
    page.locator("#product summary").tap()
    page.locator("#product-begin").tap()
    expect_state(page, "done")
    wait_for(
        lambda: bool(
            page.locator("#product-files").evaluate("list => list.getBoundingClientRect().bottom <= innerHeight")
        ),
        within_s=WARM_S,
        what="the files in sight",
        page=page,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("#panel-body").evaluate("body => body.scrollWidth <= body.clientWidth")
