"""What the README tells people to type gives what it says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import rasterio

from running import Service

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
CURLS = re.findall(r'^curl .*"http://127\.0\.0\.1:8000(\S+)"$', README, re.MULTILINE)


def test_the_readme_has_examples() -> None:
    assert len(CURLS) == 3


@pytest.mark.parametrize("address", CURLS)
def test_its_requests_show_something(service: Service, address: str) -> None:
    with service.client as client:
        response = client.get(address, params=None if "wait=" in address else {"wait": 30})
    assert response.status_code == 200, response.text
    if "/statistics" in address:
        document = response.json()
        assert document["complete"]
        assert document["coverage"] > 0.99
        assert sum(each["share"] for each in document["classes"]) == pytest.approx(1)
        for name in re.findall(r"`(area_m2|pixels|share|mean_confidence|adjusted_area_m2)`", README):
            assert name in document["classes"][0]
    elif "/point/" in address:
        assert response.json()["value"] > 0
    else:
        with rasterio.open(io.BytesIO(response.content)) as image:
            assert image.read(1).all()
            assert image.colormap(1)


def test_its_polygon_is_counted(service: Service) -> None:
    address, body = re.search(
        r'^curl -X POST "http://127\.0\.0\.1:8000(\S+)" -d \'(.*?)\'$', README, re.M | re.S
    ).groups()
    with service.client as client:
        response = client.post(address.replace("wait=30", "wait=60"), content=body)
    statistics = response.json()["properties"]["statistics"]
    assert statistics["complete"] and statistics["coverage"] > 0.5
    for name in ("pixels", "area_m2", "share", "mean_confidence"):
        assert f"`{name}`" in README and name in statistics["classes"][0]


def test_its_links_lead_somewhere() -> None:
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    dead = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not dead
