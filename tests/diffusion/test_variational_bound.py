"""The bits of the variational bound: against Gaussians written out, and information that is known."""

from itertools import pairwise

import numpy as np
import pytest

from keras_ldm.diffusion import (
    FlowSchedule,
    cosine_schedule,
    linear_schedule,
    prior_bits,
    scaled_linear_schedule,
    step_bits,
    zero_terminal_snr,
)
from tests.contract import array, numpy

pytestmark = pytest.mark.backend

SCHEDULES = {
    "linear": linear_schedule(),
    "scaled_linear": scaled_linear_schedule(),
    "cosine": cosine_schedule(),
    "zero_terminal_snr": zero_terminal_snr(scaled_linear_schedule()),
}


def divergence(mean, variance, other_mean, other_variance) -> np.ndarray:
    """KL(N(mean, variance) || N(other mean, other variance)) in bits, summed over each row."""
    ratio = variance / other_variance
    terms = 0.5 * (ratio - 1 - np.log(ratio) + (mean - other_mean) ** 2 / other_variance)
    return np.broadcast_to(terms, mean.shape).reshape(len(mean), -1).sum(axis=1) / np.log(2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_is_the_divergence_of_the_posteriors(name: str) -> None:
    """Ho et al. 2020, equations 6 and 7, written out in float64."""
    schedule = SCHEDULES[name]
    products, betas = schedule.alphas_cumprod, schedule.betas
    clean, estimate = array(2, 4, 4, 3), array(2, 4, 4, 3, seed=1)
    x = array(2, 4, 4, 3, seed=2).astype("float64")  # the divergence does not depend on it
    for t in (1, 2, 300, 998):
        before = products[t - 1]
        variance = betas[t] * (1 - before) / (1 - products[t])
        posteriors = [
            np.sqrt(before) * betas[t] / (1 - products[t]) * x0
            + np.sqrt(1 - betas[t]) * (1 - before) / (1 - products[t]) * x
            for x0 in (clean.astype("float64"), estimate.astype("float64"))
        ]
        expected = divergence(posteriors[0], variance, posteriors[1], variance)
        got = step_bits(schedule, clean, estimate, schedule.sigmas[t], schedule.sigmas[t - 1])
        np.testing.assert_allclose(numpy(got), expected, rtol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_prior_is_a_divergence_too(name: str) -> None:
    schedule, clean = SCHEDULES[name], array(2, 4, 4, 3)
    for t in (10, 500, 999):
        kept = schedule.alphas_cumprod[t]
        expected = divergence(np.sqrt(kept) * clean.astype("float64"), 1 - kept, 0.0, 1.0)
        got = numpy(prior_bits(schedule, clean, schedule.sigmas[t]))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", [scaled_linear_schedule(), FlowSchedule()])
def test_all_steps_give_what_the_noisy_latents_tell(schedule) -> None:
    """For normal latents and the best estimate, the bits are ½ log2(1 + variance · SNR), exactly."""
    deviation, count, rng = 2.0, 40_000, np.random.default_rng(0)
    levels = np.geomspace(0.9, 0.01, 200)
    clean = deviation * rng.standard_normal((count, 1)).astype("float32")
    total = 0.0
    for level, following in pairwise(levels):
        _, signal, noise = schedule.rates(float(level))
        seen = signal * clean + noise * rng.standard_normal(clean.shape).astype("float32")
        estimate = deviation**2 * signal / (deviation**2 * signal**2 + noise**2) * seen
        total += numpy(step_bits(schedule, clean, estimate, level, following)).mean()

    def information(level: float) -> float:
        _, signal, noise = schedule.rates(level)
        return 0.5 * np.log2(1 + deviation**2 * signal**2 / noise**2)

    expected = information(0.01) - information(0.9)
    assert total == pytest.approx(expected, rel=0.03)  # the bound of 199 steps, from above
    assert total > expected


def test_pure_noise_says_nothing() -> None:
    bits = numpy(prior_bits(FlowSchedule(), array(3, 2, 2, 1), 1.0))
    assert bits.shape == (3,)
    np.testing.assert_allclose(bits, 0.0, atol=1e-6)


def test_levels_that_have_no_bits_are_refused() -> None:
    schedule, x = scaled_linear_schedule(), array(1, 2, 2, 1)
    with pytest.raises(ValueError, match="falling noise levels. Received: 1, then 2"):
        step_bits(schedule, x, x, 1.0, 2.0)
    with pytest.raises(ValueError, match="above 0.*Received: 0"):
        step_bits(schedule, x, x, 1.0, 0.0)
    for other, level in ((schedule, -1.0), (schedule, np.inf), (FlowSchedule(), 2.0)):
        with pytest.raises(ValueError, match="of the schedule above 0"):
            prior_bits(other, x, level)
