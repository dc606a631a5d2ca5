"""Error-adjusted areas: the paper's example, properties, and how often the intervals hold the truth."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from landcover.cli import main
from landcover.contract import Contract, DesignEffects, Metrics, read_model
from landcover.demo.noise import value_noise
from landcover.statistics.adjusted import Adjusted, adjust
from landcover_export.evaluation.dispersion import design_effects, scatter_of
from landcover_export.evaluation.metrics import confusion_matrix
from onnx_models import BAND_STEP, pixel_contract, write_pixel_model

PAPER = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
"""Olofsson et al. 2014, table 8: rows are the map's deforestation, forest gain, stable forest, stable non-forest."""
PAPER_PX = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HECTARE = 10_000.0


def metrics(mapped_by_reference: np.ndarray | list[list[int]], effects: tuple[DesignEffects, ...] = ()) -> Metrics:
    matrix = np.asarray(mapped_by_reference).T.tolist()
    return Metrics(
        dataset="a test",
        overall_accuracy=0.5,
        average_accuracy=0.5,
        mean_iou=0.5,
        confusion_matrix=matrix,
        design_effects=effects,
    )


def adjusted(pixels: np.ndarray, area_m2: np.ndarray, known: Metrics) -> Adjusted:
    found = adjust(pixels, area_m2, known)
    assert found is not None
    return found


def test_the_papers_worked_example() -> None:
    found = adjusted(PAPER_PX, PAPER_PX * 900.0, metrics(PAPER))
    assert np.round(found.area_m2 / HECTARE).tolist() == [21158, 11686, 285770, 581386]
    assert np.round(1.96 * found.standard_error_m2 / HECTARE).tolist() == [6158, 3756, 15510, 16282]
    np.testing.assert_allclose(found.high_m2 - found.area_m2, 1.96 * found.standard_error_m2)
    np.testing.assert_allclose(found.area_m2 - found.low_m2, 1.96 * found.standard_error_m2)


def test_by_hand_with_design_effects() -> None:
    """Half of 400 m² in 400 pixels is mapped as each class; of the first a fifth is wrong, in 1010 samples.

    Matrix: 200² · 0.16 · 4 / 1009. Place: φ(400) = 2 lies half way from φ(1) = 1 to φ(160 000) = 4 on logarithmic axes;
    200² · 0.16 · 2 / 200 = 64.
    """
    effects = (DesignEffects(place_px=160_000.0, classes=(4.0, 4.0)),)
    known = metrics([[808, 202], [0, 1010]], effects)
    found = adjusted(np.array([200, 200]), np.array([200.0, 200.0]), known)
    assert found.area_m2 == pytest.approx([160.0, 240.0])
    assert found.standard_error_m2 == pytest.approx([np.sqrt(6400 * 4 / 1009 + 64)] * 2)


def test_beyond_the_measured_sizes_the_relative_error_shrinks_no_further() -> None:
    known = metrics([[800, 200], [100, 900]], (DesignEffects(place_px=1e6, classes=(50.0, 60.0)),))
    at, beyond = (adjusted(np.array([n, n]), np.array([n, n]), known) for n in (5e5, 5e8))
    np.testing.assert_allclose(at.standard_error_m2 / 1e6, beyond.standard_error_m2 / 1e9)


def test_a_place_of_a_pixel_is_right_or_wrong() -> None:
    """However strong the design effect, a share cannot vary by more than p (1 - p)."""
    known = metrics([[800_000, 200_000], [0, 10]], (DesignEffects(place_px=2.0, classes=(1e9, 1e9)),))
    found = adjusted(np.array([1.0, 0.0]), np.array([3.0, 0.0]), known)
    assert found.area_m2 == pytest.approx([2.4, 0.6])
    assert found.standard_error_m2 == pytest.approx([3 * np.sqrt(0.16 * 2)] * 2)  # the place's and the matrix's
    tiny = adjusted(np.array([0.001, 0.0]), np.array([0.003, 0.0]), known)
    np.testing.assert_allclose(tiny.standard_error_m2, found.standard_error_m2 / 1000)


@pytest.mark.parametrize("samples", [0, 1])
def test_a_mapped_class_without_samples(samples: int) -> None:
    """It is taken as mapped; its ground may be anything."""
    known = metrics([[80, 20, 0], [10, 90, 0], [samples, 0, 0]])
    found = adjusted(np.array([10, 0, 5]), np.array([10.0, 0.0, 5.0]), known)
    assert found.area_m2 == pytest.approx([8.0, 2.0, 5.0])
    assert (found.low_m2[2], found.high_m2[2]) == (0.0, 5.0)
    error = 1.96 * 10 * np.sqrt(0.16 / 99)
    assert found.high_m2[:2] == pytest.approx([8 + error + 5, 2 + error + 5])
    assert found.low_m2[:2] == pytest.approx([8 - error, 2 - error])
    without = adjusted(np.array([10, 0, 0]), np.array([10.0, 0.0, 0.0]), known)
    assert without.high_m2[2] == 0.0  # where it is not mapped, nothing is lost


def test_nothing_mapped_or_nothing_measured_has_no_answer() -> None:
    assert adjust([0, 0], [0, 0], metrics([[80, 20], [10, 90]])) is None
    assert adjust([5, 0], [5, 0], metrics([[0, 0], [0, 0]])) is None


@pytest.mark.parametrize("pixels", [[1.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 2.0]]])
def test_rubbish_is_refused(pixels: list[float]) -> None:
    with pytest.raises(ValueError, match="for each of 2 classes"):
        adjust(pixels, [1, 1], metrics([[80, 20], [10, 90]]))
    with pytest.raises(ValueError, match="for each of 2 classes"):
        adjust([1, 1], pixels, metrics([[80, 20], [10, 90]]))


CLASSES = 4
MATRICES = st.lists(st.integers(0, 10**7) | st.integers(0, 3), min_size=16, max_size=16).map(
    lambda counts: np.array(counts).reshape(CLASSES, CLASSES)
)
SHARES = st.lists(
    st.just(0.0) | st.floats(1e-3, 1e9), min_size=CLASSES, max_size=CLASSES
).map(np.array).filter(lambda pixels: pixels.any())  # fmt: skip
SIZES = st.lists(st.floats(1.5, 1e7), min_size=1, max_size=4, unique=True).map(sorted)
OF_CLASSES = st.tuples(*[st.floats(1, 1e6)] * CLASSES)
EFFECTS = st.just(()) | SIZES.flatmap(
    lambda sizes: st.tuples(*(st.builds(DesignEffects, place_px=st.just(size), classes=OF_CLASSES) for size in sizes))
)


@given(MATRICES, SHARES, EFFECTS, st.floats(1e-3, 1e3), st.permutations(range(CLASSES)))
@settings(max_examples=200, deadline=None)
def test_properties(
    matrix: np.ndarray, pixels: np.ndarray, effects: tuple[DesignEffects, ...], metres: float, order: list[int]
) -> None:
    area = pixels * 0.25
    known = metrics(matrix, effects)
    found = adjust(pixels, area, known)
    if not matrix.any():
        assert found is None
        return
    assert found is not None
    total = area.sum()
    close = 1e-9 * total
    assert found.area_m2.sum() == pytest.approx(total)
    assert (found.low_m2 >= 0).all()
    assert (found.low_m2 <= found.area_m2 + close).all()
    assert (found.area_m2 <= found.high_m2 + close).all()
    assert (found.high_m2 <= total).all()
    # Square metres are a unit only; pixels are the evidence.
    scaled = adjusted(pixels, area * metres, known)
    np.testing.assert_allclose(scaled.low_m2, found.low_m2 * metres, rtol=1e-9, atol=close * metres)
    np.testing.assert_allclose(scaled.high_m2, found.high_m2 * metres, rtol=1e-9, atol=close * metres)
    # The order of the classes does not matter.
    reordered = tuple(each.model_copy(update={"classes": tuple(each.classes[i] for i in order)}) for each in effects)
    moved = adjusted(pixels[order], area[order], metrics(matrix[np.ix_(order, order)], reordered))
    np.testing.assert_allclose(moved.area_m2, found.area_m2[order], atol=close)
    np.testing.assert_allclose(moved.high_m2, found.high_m2[order], atol=close)
    # Design effects only ever widen.
    plain = adjusted(pixels, area, metrics(matrix))
    np.testing.assert_allclose(plain.area_m2, found.area_m2)
    assert (found.standard_error_m2 >= plain.standard_error_m2 * (1 - 1e-9)).all()


@given(SHARES, EFFECTS)
@settings(max_examples=50, deadline=None)
def test_a_perfect_matrix_changes_nothing(pixels: np.ndarray, effects: tuple[DesignEffects, ...]) -> None:
    found = adjusted(pixels, pixels * 2, metrics(np.eye(CLASSES, dtype=int) * 100, effects))
    for each in (found.area_m2, found.low_m2, found.high_m2):
        np.testing.assert_allclose(each, pixels * 2)


@given(MATRICES, st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_the_matrix_of_the_very_place_gives_its_truth(matrix: np.ndarray, metres: int) -> None:
    """Mapped areas in the proportions of the matrix: the reference's own areas come back."""
    matrix = matrix + 2
    found = adjusted(matrix.sum(axis=1), matrix.sum(axis=1) * metres, metrics(matrix))
    np.testing.assert_allclose(found.area_m2, matrix.sum(axis=0) * metres)


def test_independent_samples_cover_in_about_95_percent() -> None:
    """Stratified samples of the map's classes out of one population, 2000 times."""
    rng = np.random.default_rng(5)
    truth = np.array([[0.85, 0.1, 0.05], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9]])
    area = np.array([2e5, 3e5, 5e5])
    held = np.zeros(3)
    trials = 2000
    for _ in range(trials):
        sample = np.stack([rng.multinomial(150, each) for each in truth])
        found = adjusted(area, area, metrics(sample))
        true_m2 = area @ truth
        held += (found.low_m2 <= true_m2) & (true_m2 <= found.high_m2)
    np.testing.assert_allclose(held / trials, 0.95, atol=0.02)


def test_contracts_from_before_stay_valid_and_bad_effects_are_refused() -> None:
    known = metrics([[80, 20], [10, 90]])
    old = known.model_dump()
    del old["design_effects"]
    assert Metrics.model_validate(old) == known
    twice = (DesignEffects(place_px=5, classes=(1, 1)),) * 2
    with pytest.raises(ValidationError, match="not ordered by size"):
        metrics([[80, 20], [10, 90]], twice)
    base = pixel_contract("under-test").model_dump()
    eight = metrics(np.eye(8, dtype=int) * 9, (DesignEffects(place_px=5, classes=(1, 1)),))
    with pytest.raises(ValidationError, match="not one design effect for each class"):
        Contract.model_validate(base | {"metrics": eight.model_dump()})


SIDE_PX = 1024


def smooth(rng: np.random.Generator, cell_px: int) -> np.ndarray:
    """Noise `(SIDE_PX, SIDE_PX)` that is alike over about `cell_px`."""
    return value_noise(rng, SIDE_PX, SIDE_PX, cell_px)


@cache
def simulated(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and map, class values `(SIDE_PX, SIDE_PX)`: errors in patches of 15 to 150 px, and one pixel in fifty."""
    rng = np.random.default_rng(seed)
    bounds = np.quantile(fields := smooth(rng, 120) + 0.5 * smooth(rng, 25), [0.2, 0.5, 0.8])
    truth = np.searchsorted(bounds, fields).astype(np.uint8) + 1
    doubt = smooth(rng, 150) + smooth(rng, 50) + smooth(rng, 15)
    found = np.where(doubt > 1.1, np.maximum(truth - 1, 1), truth)
    found = np.where(doubt < -1.0, np.minimum(found + 1, 4), found)
    return truth, np.where(rng.random(truth.shape) < 0.02, 2, found).astype(np.uint8)


@pytest.fixture(scope="module")
def measured_metrics(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """What `landcover evaluate` writes into the contract of a model that maps twelve simulated scenes.

    The model reads each pixel's class from its red, so that the map is the simulated one.
    """
    folder = tmp_path_factory.mktemp("simulated")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for seed in range(12):
        truth, found = simulated(seed)
        image = np.zeros((*found.shape, 3), np.uint8)
        image[..., 0] = (found - 1) * BAND_STEP
        Image.fromarray(image).save(folder / "images" / f"{seed}.png", compress_level=1)
        Image.fromarray(truth).save(folder / "labels" / f"{seed}.png", compress_level=1)
    model = write_pixel_model(folder / "m.onnx", pixel_contract("simulated", window_px=544, halo_px=16))
    arguments = ["evaluate", str(model), "--data", str(folder), "--bootstrap", "20", "--write-contract"]
    assert main(arguments) == 0
    found_metrics = read_model(model).contract.metrics
    assert found_metrics is not None
    return found_metrics


def coverage(known: Metrics, side_px: int) -> float:
    """Share of the areas of mapped or present classes that the intervals hold, over squares in other scenes."""
    held = []
    for seed in range(100, 106):
        truth, found = simulated(seed)
        places = min(60, round(4 * (SIDE_PX / side_px) ** 2)) if side_px < SIDE_PX else 1
        corners = np.random.default_rng(seed).integers(0, SIDE_PX - side_px + 1, (places, 2))
        for row, col in corners:
            place = slice(row, row + side_px), slice(col, col + side_px)
            true_px, mapped_px = (np.bincount(each[place].ravel(), minlength=9)[1:] for each in (truth, found))
            areas = adjusted(mapped_px, mapped_px * 0.25, known)
            inside = (areas.low_m2 <= true_px * 0.25) & (true_px * 0.25 <= areas.high_m2)
            held += inside[(true_px > 0) | (mapped_px > 0)].tolist()
    return float(np.mean(held))


@pytest.mark.parametrize("side_px", [20, 64, 200, 500, SIDE_PX])
def test_measured_design_effects_cover_in_about_95_percent(measured_metrics: Metrics, side_px: int) -> None:
    """Scenes that were not measured, places of 0.01 to 26 hectares; counts taken as independent samples fail."""
    assert 0.9 <= coverage(measured_metrics, side_px) <= 1.0
    assert coverage(measured_metrics.model_copy(update={"design_effects": ()}), side_px) < 0.3


def test_design_effects_of_independent_pixels_are_one() -> None:
    """Errors without any correlation: nothing is widened. Of blocks of 8 × 8 equal pixels, 64 times."""
    rng = np.random.default_rng(3)
    for side, expected in ((1, 1.0), (8, 64.0)):
        cells = 2048 // side
        truth, found = (rng.integers(1, 4, (cells, cells), dtype=np.uint8) for _ in range(2))
        truth, found = (np.kron(each, np.ones((side, side), np.uint8)) for each in (truth, found))
        confusion = confusion_matrix(truth, found, [1, 2, 3])
        effects = design_effects(confusion, scatter_of(truth, found, [1, 2, 3]))
        assert [each.place_px for each in effects] == [1024.0, 4096.0, 16384.0, 65536.0, 262144.0]
        np.testing.assert_allclose([each.classes for each in effects[:3]], expected, rtol=0.3)
