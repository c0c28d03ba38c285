"""SSIM against its definition, place by place in float64."""

import keras
import numpy as np
import pytest
from scipy.signal import convolve2d

from keras_ldm.metrics import StructuralSimilarity
from tests.contract import array

pytestmark = pytest.mark.backend


def by_definition(x: np.ndarray, y: np.ndarray, peak: float) -> np.ndarray:
    """One number an image, of (batch, height, width, channels)."""
    places = np.arange(11) - 5
    bell = np.exp(-(places**2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2

    def average(values: np.ndarray) -> np.ndarray:
        return convolve2d(values, window, mode="valid")

    scores = np.zeros((len(x), x.shape[-1]))
    for i, c in np.ndindex(*scores.shape):
        a, b = x[i, ..., c].astype("float64"), y[i, ..., c].astype("float64")
        mean_a, mean_b = average(a), average(b)
        var_a, var_b = average(a * a) - mean_a**2, average(b * b) - mean_b**2
        covariance = average(a * b) - mean_a * mean_b
        scores[i, c] = np.mean(
            (2 * mean_a * mean_b + c1)
            * (2 * covariance + c2)
            / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )
    return scores.mean(axis=1)


def pictures(channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures of several brightnesses in [-1, 1], and those with more and more noise."""
    y, x = np.mgrid[:19, :23] / 20
    waves = [np.sin(4 * x + k) * np.cos(3 * y + c) for k in range(4) for c in range(channels)]
    clean = np.reshape(waves, (4, channels, 19, 23)).transpose(0, 2, 3, 1) * 0.4
    clean += np.array([-0.5, 0, 0.2, 0.5]).reshape(4, 1, 1, 1)
    noise = array(4, 19, 23, channels) * np.array([0.02, 0.1, 0.3, 1]).reshape(4, 1, 1, 1)
    return clean.astype("float32"), (clean + noise).astype("float32")


def measure(*batches: tuple, peak: float = 2.0) -> float:
    metric = StructuralSimilarity(peak=peak)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_the_definition(channels: int) -> None:
    x, y = pictures(channels)
    each = by_definition(x + 1, y + 1, 2.0)
    assert each[0] > 0.9 and each[-1] < 0.3
    for i in range(4):
        assert measure((x[i : i + 1], y[i : i + 1])) == pytest.approx(each[i], abs=1e-4)
    assert measure((x[:1], y[:1]), (x[1:], y[1:])) == pytest.approx(each.mean(), abs=1e-4)
    weights = np.array([1, 0, 2, 3], "float32")
    assert measure((x, y, weights)) == pytest.approx((weights * each).sum() / 6, abs=1e-4)
    assert measure((x, y), peak=1.0) == pytest.approx(by_definition(x, y, 1.0).mean(), abs=1e-4)


def test_ssim_of_uint8_images() -> None:
    x, y = (((p.clip(-1, 1) + 1) * 127.5).astype("uint8") for p in pictures())
    assert measure((x, y), peak=255) == pytest.approx(by_definition(x, y, 255).mean(), abs=1e-4)
    assert measure((x, x), peak=255) == pytest.approx(1.0, abs=1e-6)
    flat = np.full_like(x, 200)
    assert measure((flat, flat), peak=255) == pytest.approx(1.0, abs=1e-6)


def test_floats_and_uint8_images_have_one_ssim() -> None:
    """Of dark, grey and bright ones, whose luminance differs."""
    rng = np.random.default_rng(0)
    for grey in (20, 128, 230):
        x = np.clip(grey + rng.normal(0, 8, (2, 16, 16, 3)), 0, 235).astype("uint8")
        y = x + np.uint8(20)
        floats = [image / np.float32(127.5) - 1 for image in (x, y)]
        assert measure(tuple(floats)) == pytest.approx(measure((x, y), peak=255), abs=1e-5)


def test_ssim_refuses_what_it_cannot_compare() -> None:
    x, y = pictures()
    with pytest.raises(ValueError, match=r"11 pixels a side.*\(4, 10, 23, 3\)"):
        measure((x[:, :10], y[:, :10]))
    with pytest.raises(ValueError, match="one shape"):
        measure((x, y[:, :12]))
    with pytest.raises(ValueError, match="one shape"):
        measure((x[0], y[0]))
    with pytest.raises(ValueError, match="`peak` > 0"):
        StructuralSimilarity(peak=0)


def test_ssim_comes_back_from_its_configuration() -> None:
    metric = StructuralSimilarity(peak=3.0, name="mine")
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (other.peak, other.name) == (3.0, "mine")
