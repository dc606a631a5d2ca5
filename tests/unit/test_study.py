"""The study's own arithmetic: shared ground, chosen windows, what is annotated, and the table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from landcover.errors import InvalidConfiguration
from landcover_export.labelled import LabelledImage
from landcover_export.study.config import StudyConfig, read_study
from landcover_export.study.report import comparisons, interval_half_width, markdown, paired, read_rows
from landcover_export.study.runs import Base, Round, plan
from landcover_export.study.scenes import MARGIN_PX, find_shift, parts_of, without_overlap
from landcover_export.study.windows import CONTEXT_PX, annotate, choose, polygons


def ground(seed: int, side: int = 1400) -> np.ndarray:
    """Blurred noise: full of features, none like another."""
    noise = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC))


def cut(image: np.ndarray, top: int, left: int, height: int, width: int, name: str) -> LabelledImage:
    at = slice(top, top + height), slice(left, left + width)
    return LabelledImage(name=name, image=np.ascontiguousarray(image[at]), label=np.ones((height, width), np.uint8))


def test_two_views_of_one_ground_are_found() -> None:
    image = ground(0)
    first, second = cut(image, 0, 0, 900, 800, "first"), cut(image, 500, 300, 900, 1000, "second")
    shift = find_shift(first.image, second.image)
    assert shift is not None
    np.testing.assert_allclose(shift, (-300, -500), atol=3)
    alone, removed = without_overlap(first, second)
    expected = np.ones((900, 800), np.uint8)
    expected[500 - MARGIN_PX :, 300 - MARGIN_PX :] = 0
    assert (alone.label != expected).mean() < 0.01  # the shift is good to a few pixels
    assert removed == pytest.approx((expected == 0).mean(), abs=0.01)


def test_unrelated_scenes_share_nothing() -> None:
    first, other = cut(ground(1), 0, 0, 800, 800, "first"), cut(ground(2), 0, 0, 800, 800, "other")
    assert find_shift(first.image, other.image) is None
    assert without_overlap(first, other) == (first, 0.0)


def test_parts_are_the_nine_thirds() -> None:
    label = np.arange(81, dtype=np.uint8).reshape(9, 9)
    parts = parts_of(LabelledImage(name="s", image=np.zeros((9, 9, 3), np.uint8), label=label))
    assert [part.name for part in parts[:2]] == ["s_001", "s_002"]
    np.testing.assert_array_equal(parts[5].label, label[3:6, 6:9])


def scene_and_map(side: int = 4, window: int = 32) -> tuple[LabelledImage, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """A scene whose windows have each one confidence, the window (0, 0) without a label."""
    rng = np.random.default_rng(3)
    confidence = rng.permutation(side * side).reshape(side, side).astype(np.uint8) * 10 + 50
    wide = np.kron(confidence, np.ones((window, window), np.uint8))
    label = np.ones_like(wide)
    label[:window, :window] = 0
    image = np.zeros((*wide.shape, 3), np.uint8)
    return LabelledImage(name="s", image=image, label=label), (np.ones_like(wide), wide), confidence


def test_the_plain_choice_is_the_least_confident() -> None:
    scene, mapped, confidence = scene_and_map()
    chosen = choose("plain", scene, [mapped], side_px=32, count=4, spread=2, seed=0)
    order = sorted((confidence[row, col], row, col) for row in range(4) for col in range(4) if (row, col) != (0, 0))
    assert chosen == [(row, col) for _, row, col in order[:4]]


def test_random_choice_is_seeded_and_only_of_labelled_windows() -> None:
    scene, _, _ = scene_and_map()
    first = choose("random", scene, [], side_px=32, count=15, spread=2, seed=1)
    assert first == choose("random", scene, [], side_px=32, count=15, spread=2, seed=1)
    assert first != choose("random", scene, [], side_px=32, count=15, spread=2, seed=2)
    assert set(first) == {(row, col) for row in range(4) for col in range(4)} - {(0, 0)}


def test_disagreement_looks_at_two_maps() -> None:
    scene, mapped, _ = scene_and_map()
    other = mapped[0].copy()
    other[64:96, 32:64] = 8
    chosen = choose("disagreement", scene, [mapped, (other, mapped[1])], side_px=32, count=1, spread=0, seed=0)
    assert chosen == [(2, 1)]


def test_a_window_is_annotated_and_its_surroundings_are_not() -> None:
    label = np.random.default_rng(0).integers(1, 9, (512, 512), dtype=np.uint8)
    scene = LabelledImage(name="s", image=np.zeros((512, 512, 3), np.uint8), label=label)
    inner, corner = annotate(scene, [(2, 2), (0, 0)], 64)
    assert inner.label.shape == (64 + 2 * CONTEXT_PX, 64 + 2 * CONTEXT_PX)
    assert corner.label.shape == (64 + CONTEXT_PX, 64 + CONTEXT_PX)
    assert (inner.label > 0).sum() == (corner.label > 0).sum() == 64 * 64
    at = slice(CONTEXT_PX, CONTEXT_PX + 64)
    np.testing.assert_array_equal(inner.label[at, at], label[128:192, 128:192])


def test_polygons_are_connected_patches_but_not_specks() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[0:10, 0:10], label[20:30, 0:10], label[0:10, 20:30], label[38, 38] = 1, 1, 4, 4
    assert polygons([LabelledImage(name="s", image=np.zeros((40, 40, 3), np.uint8), label=label)]) == 3


def test_every_round_has_its_base_in_the_plan() -> None:
    runs = plan(StudyConfig())
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    bases = {run.name for run in runs if isinstance(run, Base)}
    for run in runs:
        if isinstance(run, Round):
            assert {run.base, run.second or run.base} <= bases


def write_result(out: Path, name: str, confusion: list[list[int]], **run: object) -> None:
    (out / "results").mkdir(parents=True, exist_ok=True)
    padded = np.zeros((8, 8), int)
    padded[:2, :2] = confusion
    document = {"run": {"name": name, **run}, "confusions": {"a": padded.tolist(), "b": padded.tolist()}}
    if run:
        document |= {"labelled_px": 20_000, "polygons": 10}
    (out / "results" / f"{name}.json").write_text(json.dumps(document))


def test_the_table_by_hand(tmp_path: Path) -> None:
    """OA 0.5 for the base, 0.9 for all labels; worst first 0.7 and 0.8, random 0.6 and 0.6."""
    write_result(tmp_path, "base", [[5, 5], [5, 5]])
    write_result(tmp_path, "base-all-1-s1", [[9, 1], [1, 9]], seed=1, budget=1.0)
    for seed, worst in ((1, 7), (2, 8)):
        write_result(
            tmp_path, f"base-worst-0.05-s{seed}", [[worst, 10 - worst], [10 - worst, worst]], seed=seed, budget=0.05
        )
        write_result(tmp_path, f"base-random-0.05-s{seed}", [[6, 4], [4, 6]], seed=seed, budget=0.05)
    rows = {row.name: row for row in read_rows(tmp_path)}
    assert rows["base-worst-0.05"].figures["OA"] == pytest.approx((0.7, 0.8))
    difference = paired(list(rows.values()), "base-worst-0.05", "base-random-0.05", "OA")
    assert difference is not None
    assert difference[0] == pytest.approx(0.15)
    assert difference[1] == pytest.approx(12.706 * np.std([0.1, 0.2], ddof=1) / math.sqrt(2), rel=1e-3)
    # Two classes alike: IoU is oa / (2 - oa), so 1/3 for the base, 9/11 for all, 7/13 and 2/3 for the two seeds.
    recovered = ((7 / 13 + 2 / 3) / 2 - 1 / 3) / (9 / 11 - 1 / 3)
    (line,) = (line for line in markdown(list(rows.values())).splitlines() if line.startswith("| base-worst"))
    assert line.endswith(f"| {recovered:.0%} |")
    assert "worst − random at 5.0%, OA: +15.0 ±" in comparisons(list(rows.values()), StudyConfig())


@pytest.mark.parametrize(
    "changes", [{"annotated_scene": "tile1"}, {"budgets": (0.05, 0.02)}, {"budgets": ()}, {"test_scenes": ("tile8",)}]
)
def test_a_study_that_leaks_or_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(changes))  # YAML holds JSON
    with pytest.raises(InvalidConfiguration, match="is no configuration of a study"):
        read_study(path)


def test_one_seed_has_no_interval() -> None:
    assert math.isnan(interval_half_width([0.5]))
