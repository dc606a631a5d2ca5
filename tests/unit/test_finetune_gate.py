"""The gate, on confusion matrices whose figures are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from landcover.classes import OPENEARTHMAP
from landcover_export.finetuning.gate import ANNOTATIONS, BASE, Measured, Verdict, judge

TWO = OPENEARTHMAP[:2]
"""bareland and rangeland."""


def windows(*rights: tuple[int, int], of: int = 1000) -> np.ndarray:
    """A window for each pair: so many of `of` pixels of either class are right, the others taken for the other one."""
    return np.array([[[a, of - a], [of - b, b]] for a, b in rights])


def measured(parent: list[tuple[int, int]], child: list[tuple[int, int]], of: int = 1000) -> Measured:
    return Measured(parent=windows(*parent, of=of), child=windows(*child, of=of))


FIVE_BETTER = measured([(600, 600)] * 5, [(800, 800), (700, 800), (900, 700), (800, 900), (750, 850)])
NOTHING = measured([(600, 600)] * 5, [(600, 600)] * 5)
# 600 of 1000 and 600 of 1000 right: IoU 600 / (1000 + 400) = 0.4286 for both classes.
# 900 and 560 right: bareland 900 / (1000 + 440) = 0.625, rangeland 560 / (1000 + 100) = 0.5091.
BASE_BETTER = measured([(600, 600)] * 4, [(900, 560)] * 4)
# 700 and 400 right: bareland 700 / (1000 + 600) = 0.4375, rangeland 400 / (1000 + 300) = 0.3077: 0.1209 less.
BASE_WORSE = measured([(600, 600)] * 4, [(700, 400)] * 4)


def row(verdict: Verdict, on: str, figure: str, name: str = "") -> tuple[float, float, bool]:
    (found,) = (each for each in verdict.table if (each.on, each.figure, each.name) == (on, figure, name))
    return found.parent, found.child, found.fell


@pytest.mark.parametrize(
    ("annotations", "base", "bound", "promoted", "said"),
    [
        (FIVE_BETTER, BASE_BETTER, 0.02, True, "OA on 5 held-out places: 0.600 → 0.800"),
        (FIVE_BETTER, None, 0.02, True, "Without a base set"),
        (FIVE_BETTER, BASE_WORSE, 0.02, False, "Class 'rangeland' falls by 0.121 in IoU, from 0.429 to 0.308"),
        (FIVE_BETTER, BASE_WORSE, 0.12, False, "at most 0.12 is allowed"),
        (FIVE_BETTER, BASE_WORSE, 0.13, True, "mIoU on 5 held-out places"),
        (NOTHING, BASE_BETTER, 0.02, False, "Neither mIoU nor OA is surely higher"),
        # Better on four places and worse on the fifth: another sample of places could say the opposite.
        (
            measured([(600, 600)] * 5, [(610, 610)] * 4 + [(300, 300)]),
            BASE_BETTER,
            0.02,
            False,
            "Neither mIoU nor OA is surely higher",
        ),
        (measured([(600, 600)] * 5, [(500, 500)] * 5), BASE_BETTER, 0.02, False, "OA is surely lower"),
    ],
)
def test_cases(annotations: Measured, base: Measured | None, bound: float, promoted: bool, said: str) -> None:
    verdict = judge(TWO, annotations, base, bound=bound)
    assert said in " ".join(verdict.reasons)
    assert verdict.promoted is promoted


def test_the_figures_are_those_worked_out_by_hand() -> None:
    verdict = judge(TWO, FIVE_BETTER, BASE_WORSE)
    assert row(verdict, BASE, "IoU", "bareland") == pytest.approx((600 / 1400, 700 / 1600, False))
    assert row(verdict, BASE, "IoU", "rangeland") == pytest.approx((600 / 1400, 400 / 1300, True))
    assert row(verdict, BASE, "OA") == pytest.approx((0.6, 0.55, False))
    assert row(verdict, BASE, "mIoU") == pytest.approx((600 / 1400, (700 / 1600 + 400 / 1300) / 2, False))
    # Pooled over the five places: 3950 of 5000 and 4050 of 5000.
    assert row(verdict, ANNOTATIONS, "IoU", "bareland") == pytest.approx((600 / 1400, 3950 / 5950, False))


def test_the_base_set_overrules_the_annotations_on_a_class() -> None:
    """On the held-out annotations rangeland falls far; the base set knows better."""
    falls = measured([(600, 600)] * 5, [(1000, 320)] * 5)
    assert judge(TWO, falls, BASE_BETTER).promoted
    alone = judge(TWO, falls)
    assert not alone.promoted
    # 320 / (1000 + 0) = 0.32 against 600 / 1400 = 0.4286.
    assert "Class 'rangeland' falls by 0.109 in IoU, from 0.429 to 0.320 on the held-out annotations" in " ".join(
        alone.reasons
    )


@pytest.mark.parametrize("places", [0, 1, 2])
def test_too_few_places_are_not_judged_unless_forced(places: int) -> None:
    few = measured([(600, 600)] * places, [(900, 900)] * places) if places else _no_places()
    verdict = judge(TWO, few, BASE_BETTER)
    assert not verdict.promoted and "too few to judge by, 3 are needed" in verdict.reasons[0]
    assert judge(TWO, few, BASE_BETTER, force=True).promoted
    assert not judge(TWO, few, BASE_WORSE, force=True).promoted


def test_three_places_suffice_if_each_improves() -> None:
    assert judge(TWO, measured([(600, 600)] * 3, [(700, 700)] * 3)).promoted
    assert not judge(TWO, measured([(600, 600)] * 3, [(700, 700), (700, 700), (590, 590)])).promoted


def test_a_class_with_few_pixels_is_reported_and_not_judged() -> None:
    few = np.array([[[100_000, 0], [50, 50]]] * 2)
    worse = np.array([[[100_000, 0], [100, 0]]] * 2)
    enough = judge(TWO, FIVE_BETTER, Measured(parent=few, child=worse))
    assert not enough.promoted  # 200 pixels
    verdict = judge(TWO, FIVE_BETTER, Measured(parent=few[:1], child=worse[:1]))
    assert verdict.promoted
    assert "Too little reference to judge: rangeland (fewer than 200 px)." in verdict.reasons


def test_a_class_that_the_parent_lacks_counts_from_zero() -> None:
    parent = np.array([[[1000, 0], [1000, 0]]] * 4)
    child = np.array([[[990, 10], [200, 800]]] * 4)
    verdict = judge(TWO, Measured(parent=parent, child=child))
    assert verdict.promoted
    assert row(verdict, ANNOTATIONS, "IoU", "rangeland") == pytest.approx((0.0, 800 / 1010, False))


def test_classes_that_the_reference_lacks_are_left_out() -> None:
    verdict = judge(TWO, _only_bareland())
    assert not any(each.name == "rangeland" for each in verdict.table)


def _only_bareland() -> Measured:
    return Measured(
        parent=np.array([[[600, 400], [0, 0]]] * 3),
        child=np.array([[[900, 100], [0, 0]]] * 3),
    )


def _no_places() -> Measured:
    return Measured(parent=np.zeros((0, 2, 2), int), child=np.zeros((0, 2, 2), int))
