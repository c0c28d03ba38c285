"""MS-SSIM against its definition, scale by scale and place by place in float64."""

import keras
import numpy as np
import pytest
from scipy.signal import convolve2d

from keras_ldm.metrics import StructuralSimilarity
from keras_ldm.metrics.ms_ssim import MultiScaleStructuralSimilarity
from tests.contract import array

pytestmark = pytest.mark.backend

PUBLISHED = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def by_definition(x: np.ndarray, y: np.ndarray, peak: float, weights=PUBLISHED) -> np.ndarray:
    """One number an image, of (batch, height, width, channels)."""
    bell = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    scores = np.ones((len(x), x.shape[-1]))
    for i, c in np.ndindex(*scores.shape):
        a, b = x[i, ..., c].astype("float64"), y[i, ..., c].astype("float64")
        for scale, weight in enumerate(weights):
            if scale:
                a, b = halved(a), halved(b)
            mean_a, mean_b, aa, bb, ab = (
                convolve2d(values, window, mode="valid") for values in (a, b, a * a, b * b, a * b)
            )
            value = (2 * (ab - mean_a * mean_b) + c2) / (aa + bb - mean_a**2 - mean_b**2 + c2)
            if scale == len(weights) - 1:
                value = value * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            scores[i, c] *= max(value.mean(), 0) ** weight
    return scores.mean(axis=1)


def halved(a: np.ndarray) -> np.ndarray:
    rows, columns = a.shape[0] // 2, a.shape[1] // 2
    return a[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))


def pictures(height: int, width: int, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Waves of several lengths in [-1, 1], some brighter, and those with more and more noise."""
    y, x = np.mgrid[:height, :width] / 20
    waves = [np.sin(4 * x + k) * np.cos(3 * y + c) for k in range(3) for c in range(channels)]
    clean = np.reshape(waves, (3, channels, height, width)).transpose(0, 2, 3, 1) * 0.4
    clean += np.array([-0.5, 0.1, 0.5]).reshape(3, 1, 1, 1)
    noise = array(3, height, width, channels) * np.array([0.03, 0.2, 1]).reshape(3, 1, 1, 1)
    noise *= 4.0 ** np.arange(channels)  # so that channels differ
    return clean.astype("float32"), (1.1 * clean + noise).astype("float32")


def measure(*batches: tuple, **options) -> float:
    metric = MultiScaleStructuralSimilarity(**options)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_ms_ssim_is_the_definition() -> None:
    x, y = pictures(176, 177)
    each = by_definition(x + 1, y + 1, 2.0)
    assert each[0] > 0.95 and each[-1] < 0.7
    singles = [(x[i : i + 1], y[i : i + 1]) for i in range(3)]
    for pair, expected in zip(singles, each, strict=True):
        assert measure(pair) == pytest.approx(expected, abs=1e-4)
    assert measure(*singles) == pytest.approx(each.mean(), abs=1e-4)


def test_fewer_scales_take_smaller_images() -> None:
    x, y = pictures(47, 50, channels=3)  # 23 and 25 at the next scale, 11 and 12 at the last
    weights = (0.2, 0.5, 0.4)
    each, counts = by_definition(x, y, 1.0, weights), np.array([1, 0, 2], "float32")
    assert measure((x, y), peak=1.0, weights=weights) == pytest.approx(each.mean(), abs=1e-4)
    found = measure((x, y, counts), peak=1.0, weights=weights)
    assert found == pytest.approx((counts * each).sum() / 3, abs=1e-4)
    single = StructuralSimilarity(peak=1.0)
    single.update_state(x, y)
    one = measure((x, y), peak=1.0, weights=[1])
    assert one == pytest.approx(float(single.result()), abs=1e-5)


def test_ms_ssim_of_uint8_images() -> None:
    x, y = (((p.clip(-1, 1) + 1) * 127.5).astype("uint8") for p in pictures(44, 44))
    options = {"peak": 255, "weights": (0.4, 0.3, 0.3)}
    expected = by_definition(x, y, **options).mean()
    assert measure((x, y), **options) == pytest.approx(expected, abs=1e-4)
    assert measure((x, x), **options) == pytest.approx(1.0, abs=1e-5)


def test_negatives_count_as_nothing() -> None:
    x, _ = pictures(22, 22)
    x -= x.mean(axis=(1, 2), keepdims=True)
    assert measure((x, -x), weights=(0.5, 0.5)) == 0.0
    floats, whole = ([(image + 1) / 2 * k for image in (x, x / 2)] for k in (1.0, 255.0))
    options = {"weights": (0.5, 0.5)}
    same = measure(tuple(2 * image - 1 for image in floats), **options)
    assert 0 < same == pytest.approx(measure(tuple(whole), peak=255, **options), abs=1e-5)


def test_ms_ssim_refuses_what_it_cannot_compare() -> None:
    x, y = pictures(176, 176)
    with pytest.raises(ValueError, match=r"176 pixels a side.*\(3, 175, 176, 1\)"):
        measure((x[:, :175], y[:, :175]))
    with pytest.raises(ValueError, match="88 pixels a side"):
        measure((x[:, :87], y[:, :87]), weights=(0.25, 0.25, 0.25, 0.25))
    with pytest.raises(ValueError, match="one shape"):
        measure((x, y[:, 1:]))
    with pytest.raises(ValueError, match="`peak` > 0"):
        MultiScaleStructuralSimilarity(peak=0)
    for weights in ((), (0.5, 0.0), (-1.0,)):
        with pytest.raises(ValueError, match="`weights` > 0"):
            MultiScaleStructuralSimilarity(weights=weights)


def test_ms_ssim_comes_back_from_its_configuration() -> None:
    metric = MultiScaleStructuralSimilarity(peak=3.0, weights=(0.3, 0.7), name="mine")
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (other.peak, other.weights, other.name) == (3.0, (0.3, 0.7), "mine")
