"""Measures of images against their formulas."""

import keras
import numpy as np
import pytest

from keras_ldm.metrics import PeakSignalToNoiseRatio, retrieval_at_k
from tests.contract import array


def psnr(a: np.ndarray, b: np.ndarray, peak: float) -> np.ndarray:
    error = np.square(a.astype("float64") - b.astype("float64")).mean(axis=(1, 2, 3))
    return 20 * np.log10(peak) - 10 * np.log10(error)


def measure(*batches: tuple, **options: float) -> float:
    metric = PeakSignalToNoiseRatio(**options)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


@pytest.mark.backend
def test_psnr_is_the_formula_batch_by_batch() -> None:
    scale = np.array([0.01, 0.1, 0.3, 0.5, 1.0], "float32").reshape(5, 1, 1, 1)
    a = array(5, 4, 6, 3)
    b = a + scale * array(5, 4, 6, 3, seed=1)
    each = psnr(a, b, 2.0)
    assert np.ptp(each) > 20  # a mean of errors would differ from a mean of decibels
    assert measure((a, b)) == pytest.approx(each.mean(), abs=1e-3)
    parts = (a[:1], b[:1]), (a[1:4], b[1:4]), (a[4:], b[4:])
    assert measure(*parts) == pytest.approx(each.mean(), abs=1e-3)
    weights = np.array([1, 0, 2, 0.5, 3], "float32")
    assert measure((a, b, weights)) == pytest.approx((weights * each).sum() / 6.5, abs=1e-3)
    assert measure((a, b), peak=1.0) == pytest.approx(psnr(a, b, 1.0).mean(), abs=1e-3)


@pytest.mark.backend
def test_psnr_of_uint8_images() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 4, 4, 3)).astype("uint8")
    assert measure((a, b), peak=255) == pytest.approx(psnr(a, b, 255).mean(), abs=1e-3)
    assert measure((a, a), peak=255) == pytest.approx(100.0)


def test_psnr_starts_again_and_comes_back_from_its_configuration() -> None:
    a, b = array(2, 2, 2, 1), array(2, 2, 2, 1, seed=1)
    metric = PeakSignalToNoiseRatio(peak=3.0, name="mine")
    metric.update_state(a, a)
    metric.reset_state()
    metric.update_state(a, b)
    assert float(metric.result()) == pytest.approx(psnr(a, b, 3.0).mean(), abs=1e-3)
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (other.peak, other.name) == (3.0, "mine")


def brute_force(generated: np.ndarray, references: np.ndarray, targets: list, k: int) -> float:
    hits = 0
    for image, target in zip(generated, targets, strict=True):
        distances = [np.linalg.norm((image - r.astype("float64")).ravel()) for r in references]
        hits += target in sorted(range(len(references)), key=distances.__getitem__)[:k]
    return hits / len(generated)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_retrieval_is_brute_force(k: int, dtype: str) -> None:
    rng = np.random.default_rng(k)
    references = rng.integers(0, 256, (9, 3, 3, 2)).astype(dtype)
    targets = rng.integers(0, 9, 40)
    noise = rng.normal(0, 90, (40, 3, 3, 2))
    generated = np.clip(references[targets] + noise, 0, 255).astype(dtype)
    expected = brute_force(generated, references, targets.tolist(), k)
    assert retrieval_at_k(generated, references, targets, k) == pytest.approx(expected)
    assert 0.2 < expected < 1 or k > 2


def test_retrieval_ties_go_to_the_first_picture() -> None:
    references = np.zeros((3, 2, 2, 1), "uint8")
    images = np.zeros((3, 2, 2, 1), "uint8")
    assert retrieval_at_k(images, references, [0, 1, 2]) == pytest.approx(1 / 3)
    assert retrieval_at_k(images, references, [0, 1, 2], k=2) == pytest.approx(2 / 3)
    assert retrieval_at_k(images, references, [0, 1, 2], k=3) == 1.0


def test_retrieval_refuses_what_does_not_fit() -> None:
    a = np.zeros((2, 4, 4, 3))
    with pytest.raises(ValueError, match="one shape and a target for each. Received: generated"):
        retrieval_at_k(a, np.zeros((2, 4, 5, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"targets \(3,\)"):
        retrieval_at_k(a, a, [0, 1, 1])
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k from 1 to 2. Received: {k}"):
            retrieval_at_k(a, a, [0, 1], k)
