"""Blocks meet: the shipped model's halo keeps a map made block by block close to one made in far larger windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from landcover.catalog import demo_model_path
from landcover.contract import read_model
from landcover_worker.seams import compare, map_by_blocks, read_area
from landcover_worker.session import Session
from landcover_worker.settings import WorkerSettings


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(read_model(demo_model_path()), WorkerSettings())


@pytest.mark.parametrize("scene", ["drawn", "real"])
def test_the_halo_removes_most_of_the_disagreement_at_borders(
    session: Session, scene: str, demo_scene: Path, request: pytest.FixtureRequest
) -> None:
    path = demo_scene if scene == "drawn" else request.getfixturevalue("data") / "scenes" / "dubai_tile3.tif"
    contract = session.model.contract
    image = read_area(str(path), demo_model_path(), 2 * contract.block_px)
    choices = [(contract.block_px, 0), (contract.block_px, contract.halo_px)]
    without, with_halo = compare(session, [image], choices)
    assert without.border > 0.01  # blocks that know nothing of each other do differ
    assert with_halo.border < without.border / 5
    assert with_halo.overall < 0.01


def test_a_map_in_one_window_has_no_seams(session: Session, demo_scene: Path) -> None:
    image = read_area(str(demo_scene), demo_model_path(), 512)
    whole, _ = map_by_blocks(session, image, 512, 0)
    classes, _ = session.run([image])
    assert np.array_equal(whole, classes[0])
