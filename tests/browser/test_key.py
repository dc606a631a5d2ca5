"""The map page of a service that needs API keys, for everything or only for what is more than reading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from landcover.api_keys import keep, new_key
from map_browser import COLD_S, Open, wait_until_drawn
from running import Service, start_service

READER, WRITER = new_key(), new_key()


@pytest.fixture(scope="module")
def closed(pixel_model: Path, demo_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    lines = f"{keep(READER, 'kiosk', 'read').line} {keep(WRITER, 'alice', 'write').line}"
    folder = tmp_path_factory.mktemp("closed")
    running = start_service(
        folder,
        scenes=[demo_scene],
        models=[pixel_model],
        api_key=READER,
        LANDCOVER_API_KEYS=lines,
        LANDCOVER_API_KEYS_FOR="all",
        LANDCOVER_DATABASE_URL=f"sqlite:///{folder / 'closed.sqlite'}",
        LANDCOVER_PRODUCTS=str(folder / "products"),
    )
    yield running
    running.processes.stop()


@pytest.fixture
def service(closed: Service) -> Service:
    return closed


def begin_product(page: Page) -> None:
    page.locator("#product summary").click()
    page.locator("#product-begin").click()


def test_a_key_is_asked_for_and_then_the_map_is_drawn(open_page: Open) -> None:
    page = open_page(may_fail=True).page
    expect(page.locator("#key")).to_be_visible()
    expect(page.locator("#problem")).to_contain_text("needs an API key")
    page.fill("#key-input", "lck_not-this-one-which-nobody-ever-made")
    page.press("#key-input", "Enter")
    expect(page.locator("#problem")).to_contain_text("not known here")
    page.fill("#key-input", f" {READER}\n")
    page.press("#key-input", "Enter")
    wait_until_drawn(page, within_s=COLD_S)
    expect(page.locator("#key")).to_be_hidden()
    expect(page.locator("#problem")).to_be_hidden()
    assert READER not in page.url
    page.reload()
    wait_until_drawn(page, within_s=COLD_S)
    begin_product(page)
    expect(page.locator("#product-problem")).to_contain_text("may only read")
    expect(page.locator("#key")).to_be_visible()


def test_a_key_in_the_address_is_used_and_taken_out_of_it(open_page: Open) -> None:
    """And is carried by what cannot send headers: a job's events, and the links to its files."""
    page = open_page(f"?api_key={WRITER}#opacity=100").page
    wait_until_drawn(page, within_s=COLD_S)
    assert WRITER not in page.url
    assert "opacity=100" in page.url
    with page.expect_request(re.compile(r"/jobs/\w+/events\?")):
        begin_product(page)
    with page.expect_download() as download:
        page.locator("#product-files a").first.click(timeout=COLD_S * 1000)
    assert download.value.path().read_bytes()[:2] == b"II"
