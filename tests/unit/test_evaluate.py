"""Accuracy figures against scikit-learn and against a matrix worked out by hand; maps put together from blocks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from landcover_export.evaluate import map_image
from landcover_export.metrics import Accuracy, confusion_matrix

VALUES = tuple(range(1, 9))


def test_confusion_by_hand() -> None:
    reference = np.array([[1, 1, 2], [2, 2, 3], [0, 3, 3]], dtype=np.uint8)
    predicted = np.array([[1, 2, 2], [2, 2, 1], [3, 3, 3]], dtype=np.uint8)
    confusion = confusion_matrix(reference, predicted, (1, 2, 3))
    np.testing.assert_array_equal(confusion, [[1, 1, 0], [0, 3, 0], [1, 0, 2]])  # the 0 is left out
    accuracy = Accuracy(confusion=confusion)
    assert accuracy.overall == pytest.approx(6 / 8)
    np.testing.assert_allclose(accuracy.recall, [1 / 2, 1, 2 / 3])
    np.testing.assert_allclose(accuracy.precision, [1 / 2, 3 / 4, 1])
    np.testing.assert_allclose(accuracy.iou, [1 / 3, 3 / 4, 2 / 3])
    assert accuracy.average == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
    assert accuracy.mean_iou == pytest.approx((1 / 3 + 3 / 4 + 2 / 3) / 3)


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
    np.testing.assert_allclose(
        accuracy.precision, sklearn_metrics.precision_score(truth, guess, average=None, labels=VALUES)
    )


def test_class_absent_from_the_reference_is_left_out_of_the_means_but_counts_as_error() -> None:
    reference = np.array([[1, 1, 1, 2]], dtype=np.uint8)
    predicted = np.array([[1, 1, 3, 2]], dtype=np.uint8)
    accuracy = Accuracy(confusion=confusion_matrix(reference, predicted, (1, 2, 3)))
    np.testing.assert_array_equal(accuracy.present, [True, True, False])
    assert accuracy.overall == pytest.approx(3 / 4)
    assert accuracy.average == pytest.approx((2 / 3 + 1) / 2)
    assert accuracy.mean_iou == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(accuracy.recall[2])


def test_nothing_labelled() -> None:
    accuracy = Accuracy(confusion=confusion_matrix(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8), VALUES))
    assert (accuracy.overall, accuracy.average, accuracy.mean_iou) == (0.0, 0.0, 0.0)


def test_strange_values_and_shapes_are_refused() -> None:
    ones = np.ones((2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"\[9\] are no classes"):
        confusion_matrix(ones * 9, ones, VALUES)
    with pytest.raises(ValueError, match="prediction is"):
        confusion_matrix(ones, ones[:1], VALUES)


def test_contract_metrics() -> None:
    metrics = Accuracy(confusion=np.array([[3, 1], [0, 4]])).as_metrics("two fields")
    assert metrics.dataset == "two fields"
    assert metrics.overall_accuracy == 0.875
    np.testing.assert_array_equal(metrics.confusion_matrix, [[3, 1], [0, 4]])


@pytest.mark.parametrize(("height", "width"), [(128, 128), (129, 257), (100, 60), (1, 5)])
def test_blocks_put_together_give_the_image_back(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def run(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert window.shape == (192, 192, 3)
        return window[..., 0], window[..., 1]

    classes, confidence = map_image(run, image, window_px=192, halo_px=32)
    np.testing.assert_array_equal(classes, image[..., 0])
    np.testing.assert_array_equal(confidence, image[..., 1])
