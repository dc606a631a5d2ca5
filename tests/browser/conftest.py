"""A browser, and the map page opened in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from map_browser import DESKTOP, WARM_S, Open, Watched
from running import Service

expect.set_options(timeout=WARM_S * 1000)


@pytest.fixture
def service(shared_service: Service) -> Service:
    """The session's service as it is: warm, but for the first test that asks."""
    return shared_service


@pytest.fixture
def cold_service(shared_service: Service) -> Service:
    shared_service.forget()
    return shared_service


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
