"""A key names everything its value depends on, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from landcover.grid import BlockIndex
from landcover.keys import BlockKey, tile_key

KEY = BlockKey("scene", "v1", "sha256:" + "ab" * 32, 2, BlockIndex(3, 4))
TILE = {
    "scene": "scene", "version": "v1", "digest": "sha256:" + "ab" * 32, "tms": "WebMercatorQuad",
    "z": 17, "x": 1, "y": 2, "rendering": "r1:class:all:256:png",
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"scene": "scene2"},
        {"version": "v2"},
        {"digest": "sha256:" + "cd" * 32},
        {"decimation": 3},
        {"index": BlockIndex(4, 3)},
        {"index": BlockIndex(34, 0)},
    ],
    ids=str,
)
def test_another_block_has_other_keys(change: dict[str, object]) -> None:
    other = replace(KEY, **change)  # type: ignore[arg-type]
    for name in ("text", "block", "marker", "lease", "failure", "attempts"):
        assert getattr(other, name) != getattr(KEY, name)


def test_a_blocks_own_keys_differ_but_lie_on_one_node() -> None:
    keys = [KEY.block, KEY.marker, KEY.lease, KEY.failure]
    assert len(set(keys)) == 4
    assert {key[key.index("{") : key.index("}") + 1] for key in keys} == {"{" + KEY.text + "}"}


@pytest.mark.parametrize(
    "change",
    [
        {"scene": "b"}, {"version": "b"}, {"digest": "sha256:" + "b" * 64}, {"tms": "b"}, {"z": 0}, {"x": 0}, {"y": 0},
        {"rendering": "b"},
    ],
    ids=str,
)  # fmt: skip
def test_another_tile_has_another_key(change: dict[str, object]) -> None:
    assert tile_key(**(TILE | change)) != tile_key(**TILE)  # type: ignore[arg-type]


def test_neighbouring_numbers_do_not_run_together() -> None:
    assert replace(KEY, index=BlockIndex(1, 23)).text != replace(KEY, index=BlockIndex(12, 3)).text
    assert tile_key(**(TILE | {"x": 1, "y": 23})) != tile_key(**(TILE | {"x": 12, "y": 3}))  # type: ignore[arg-type]
