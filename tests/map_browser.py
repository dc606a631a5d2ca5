"""The map page in a browser: what a test may expect of any page, and how it waits."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page, Request, ViewportSize

from running import Service

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
COLD_S = 150
"""Longest wait for a whole view of a cold scene, on two cores."""
WARM_S = 30


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


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


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
