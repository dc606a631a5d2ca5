"""Accuracy figures against scikit-learn and against matrices worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from landcover_export.evaluation import metrics
from landcover_export.evaluation.metrics import Accuracy, confusion_matrix

VALUES = tuple(range(1, 9))
NAN = float("nan")


def test_confusion_by_hand() -> None:
    reference = np.array([[1, 1, 2], [2, 2, 3], [0, 3, 3]], dtype=np.uint8)
    predicted = np.array([[1, 2, 2], [2, 2, 1], [3, 3, 3]], dtype=np.uint8)
    confusion = confusion_matrix(reference, predicted, (1, 2, 3))
    np.testing.assert_array_equal(confusion, [[1, 1, 0], [0, 3, 0], [1, 0, 2]])  # the 0 is left out


@pytest.mark.parametrize(
    ("confusion", "recall", "precision", "f1", "iou", "overall", "average", "mean_iou", "mean_f1"),
    [
        pytest.param(
            [[1, 1, 0], [0, 3, 0], [1, 0, 2]],
            [1 / 2, 1, 2 / 3],
            [1 / 2, 3 / 4, 1],
            [1 / 2, 6 / 7, 4 / 5],
            [1 / 3, 3 / 4, 2 / 3],
            6 / 8,
            (1 / 2 + 1 + 2 / 3) / 3,
            (1 / 3 + 3 / 4 + 2 / 3) / 3,
            (1 / 2 + 6 / 7 + 4 / 5) / 3,
            id="all present",
        ),
        pytest.param(
            [[2, 0, 1], [0, 1, 0], [0, 0, 0]],
            [2 / 3, 1, NAN],
            [1, 1, 0],
            [4 / 5, 1, NAN],
            [2 / 3, 1, NAN],
            3 / 4,
            (2 / 3 + 1) / 2,
            (2 / 3 + 1) / 2,
            (4 / 5 + 1) / 2,
            id="third absent but predicted: an error, and in no mean",
        ),
        pytest.param(
            [[4, 0, 0], [2, 0, 0], [0, 0, 2]],
            [1, 0, 1],
            [4 / 6, NAN, 1],
            [8 / 10, 0, 1],
            [4 / 6, 0, 1],
            6 / 8,
            2 / 3,
            (4 / 6 + 1) / 3,
            (8 / 10 + 1) / 3,
            id="second never predicted: zero, and in the means",
        ),
        pytest.param(
            [[0, 0, 0], [0, 5, 0], [0, 0, 0]],
            [NAN, 1, NAN],
            [NAN, 1, NAN],
            [NAN, 1, NAN],
            [NAN, 1, NAN],
            1,
            1,
            1,
            1,
            id="one class, all right",
        ),
    ],
)
def test_figures_by_hand(
    confusion: list[list[int]],
    recall: list[float],
    precision: list[float],
    f1: list[float],
    iou: list[float],
    overall: float,
    average: float,
    mean_iou: float,
    mean_f1: float,
) -> None:
    accuracy = Accuracy(confusion=np.array(confusion))
    np.testing.assert_allclose(accuracy.recall, recall)
    np.testing.assert_allclose(accuracy.precision, precision)
    np.testing.assert_allclose(accuracy.f1, f1)
    np.testing.assert_allclose(accuracy.iou, iou)
    means = (accuracy.overall, accuracy.average, accuracy.mean_iou, accuracy.mean_f1)
    np.testing.assert_allclose(means, [overall, average, mean_iou, mean_f1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, 9, (61, 47), dtype=np.uint8)
    predicted = np.where(rng.random((61, 47)) < 0.6, reference, rng.integers(1, 9, (61, 47))).astype(np.uint8)
    predicted[predicted == 0] = 1
    counted = reference > 0
    truth, guess = reference[counted], predicted[counted]
    accuracy = Accuracy(confusion=confusion_matrix(reference, predicted, VALUES))
    np.testing.assert_array_equal(accuracy.confusion, sklearn_metrics.confusion_matrix(truth, guess, labels=VALUES))
    assert accuracy.overall == pytest.approx(sklearn_metrics.accuracy_score(truth, guess))
    assert accuracy.average == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, guess))
    assert accuracy.mean_iou == pytest.approx(sklearn_metrics.jaccard_score(truth, guess, average="macro"))
    assert accuracy.mean_f1 == pytest.approx(sklearn_metrics.f1_score(truth, guess, average="macro"))
    for ours, theirs in (
        (accuracy.precision, sklearn_metrics.precision_score),
        (accuracy.recall, sklearn_metrics.recall_score),
        (accuracy.f1, sklearn_metrics.f1_score),
        (accuracy.iou, sklearn_metrics.jaccard_score),
    ):
        np.testing.assert_allclose(ours, theirs(truth, guess, average=None, labels=VALUES))
    np.testing.assert_allclose(accuracy.frequency, np.bincount(truth, minlength=9)[1:] / truth.size)


def test_absent_classes_agree_with_scikit_learn_on_the_labels_that_are_present() -> None:
    rng = np.random.default_rng(5)
    truth = rng.choice([1, 4, 6], 500).astype(np.uint8)
    guess = np.where(rng.random(500) < 0.5, truth, rng.integers(1, 9, 500)).astype(np.uint8)
    accuracy = Accuracy(confusion=confusion_matrix(truth, guess, VALUES))
    present = {"average": "macro", "labels": [1, 4, 6]}
    assert accuracy.mean_iou == pytest.approx(sklearn_metrics.jaccard_score(truth, guess, **present))
    assert accuracy.mean_f1 == pytest.approx(sklearn_metrics.f1_score(truth, guess, **present))
    assert accuracy.average == pytest.approx(sklearn_metrics.recall_score(truth, guess, **present))


def test_many_matrices_at_once_are_as_each_alone() -> None:
    confusions = np.random.default_rng(3).integers(0, 4, (5, 2, 3, 3))
    for statistic in (
        metrics.overall_accuracy,
        metrics.average_accuracy,
        metrics.mean_iou,
        metrics.mean_f1,
        metrics.of_class(metrics.class_precision, 1),
    ):
        together = statistic(confusions)
        assert together.shape == (5, 2)
        for index in np.ndindex(5, 2):
            np.testing.assert_allclose(together[index], statistic(confusions[index]))


def test_nothing_labelled() -> None:
    accuracy = Accuracy(confusion=confusion_matrix(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8), VALUES))
    assert (accuracy.overall, accuracy.average, accuracy.mean_iou) == (0.0, 0.0, 0.0)
    assert np.isnan(metrics.overall_accuracy(accuracy.confusion))


def test_strange_values_and_shapes_are_refused() -> None:
    ones = np.ones((2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"\[9\] are no classes"):
        confusion_matrix(ones * 9, ones, VALUES)
    with pytest.raises(ValueError, match="prediction is"):
        confusion_matrix(ones, ones[:1], VALUES)


def test_contract_metrics() -> None:
    found = Accuracy(confusion=np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).as_metrics("two fields")
    assert found.dataset == "two fields"
    assert found.overall_accuracy == 0.875
    np.testing.assert_array_equal(found.confusion_matrix, [[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert found.classes[0].model_dump() == {"recall": 0.75, "precision": 1.0, "f1": 0.8571, "iou": 0.75}
    assert set(found.classes[2].model_dump().values()) == {None}
