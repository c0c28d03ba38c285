"""Bits for each dimension: of normal latents, whose information is known."""

import keras
import numpy as np
import pytest

from keras_ldm.diffusion import prior_bits, scaled_linear_schedule, step_bits
from keras_ldm.metrics.bits_per_dimension import BitsPerDimension
from tests.contract import numpy

pytestmark = pytest.mark.backend


def test_normal_latents_need_their_information() -> None:
    """½ log2(1 + variance · SNR) for each, and what steps that are not infinitely small cost."""
    schedule, variance, size = scaled_linear_schedule(), 4.0, 8
    rng, metric, sums = np.random.default_rng(0), BitsPerDimension(), []
    levels = np.geomspace(schedule.sigmas[-1], 0.05, 150)
    left = variance / (1 + variance / levels**2)  # of the latents, where the level is known
    steps = 0.5 * left[:-1] * np.diff(levels**-2.0) / np.log(2)
    for count in (1500, 1000, 2500):
        clean = variance**0.5 * rng.standard_normal((count, 2, 2, size // 4)).astype("float32")
        bits = prior_bits(schedule, clean, levels[0])
        for level, following, kept in zip(levels, levels[1:], left, strict=False):
            seen = clean + level * rng.standard_normal(clean.shape)
            estimate = (kept / level**2 * seen).astype("float32")
            bits = bits + step_bits(schedule, clean, estimate, level, following)
        metric.update_state(bits, size)
        sums.append(numpy(bits).astype("float64").sum())
    found = float(metric.result())
    assert found == pytest.approx(sum(sums) / (5000 * size), rel=1e-5)
    assert found == pytest.approx(steps.sum(), abs=0.02)
    information = 0.5 * np.log2(1 + variance / 0.05**2)
    assert information < found < 1.05 * information


def test_images_count_by_their_values() -> None:
    metric = BitsPerDimension()
    metric.update_state(np.array([6.0, 10.0]), 4)
    metric.update_state(np.array([9.0]), 12)
    assert float(metric.result()) == pytest.approx(25 / 20)
    metric.update_state(np.array([100.0, 7.0]), 5, sample_weight=np.array([0.0, 2.0]))
    assert float(metric.result()) == pytest.approx((25 + 14) / (20 + 10))
    metric.reset_state()
    metric.update_state(np.array([3.0]), 6)
    assert float(metric.result()) == pytest.approx(0.5)


def test_bits_that_are_none_are_refused() -> None:
    for bits, size in ((np.ones((2, 3)), 4), (np.float32(1.0), 4), (np.ones(2), 0)):
        with pytest.raises(ValueError, match=r"Expected bits \(batch,\)"):
            BitsPerDimension().update_state(bits, size)


def test_it_comes_back_from_its_configuration() -> None:
    metric = BitsPerDimension(name="mine")
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert isinstance(other, BitsPerDimension) and other.name == "mine"
