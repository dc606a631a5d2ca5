"""What finished tiles are kept by and for how long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from landcover_api.cover import LandCover
from landcover_api.http_caching import FOR_EVER, REVALIDATE, etag, finished, matches, version_token


def cover(*, version: str = "image-1", digest: str = "sha256:aa", **others: Any) -> LandCover:
    """As far as a token needs one."""
    return cast(
        "LandCover",
        SimpleNamespace(scene=SimpleNamespace(version=version), model=SimpleNamespace(digest=digest), **others),
    )


def test_another_image_or_model_has_another_token() -> None:
    tokens = {version_token(each) for each in (cover(), cover(version="image-2"), cover(digest="sha256:bb"))}
    assert len(tokens) == 3
    assert version_token(cover(on_demand_blocks=1)) == version_token(cover(on_demand_blocks=2))
    assert all(token.isalnum() for token in tokens)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (version_token(cover()), FOR_EVER),
        (version_token(cover(version="image-0")), REVALIDATE),
        ("", REVALIDATE),
        (None, "public, max-age=60"),
    ],
    ids=["current", "old", "empty", "none"],
)
def test_only_the_current_token_is_kept_for_ever(token: str | None, expected: str) -> None:
    assert finished(cover(), token, 60) == expected


def test_a_header_of_blanks_costs_no_more_than_its_length() -> None:
    """A pattern that looks for a comma from each of them takes minutes."""
    assert not matches('"a"' + " " * 1_000_000 + '"b"', etag("tile:1"))


def test_if_none_match_is_compared_weakly() -> None:
    tag = etag("tile:1")
    strong = tag.removeprefix("W/")
    assert matches(tag, tag)
    assert matches(f'"other" , {strong}', tag)
    assert not any(matches(each, tag) for each in (None, "", "*", '"other"', etag("tile:2")))
