"""Noise schedules: identities, the way back from σ to the timestep, errors."""

import json

import keras
import numpy as np
import pytest

from keras_ldm.diffusion import (
    Denoiser,
    FlowSchedule,
    NoiseSchedule,
    cosine_schedule,
    linear_schedule,
    scaled_linear_schedule,
    zero_terminal_snr,
)

SCHEDULES = [linear_schedule(), scaled_linear_schedule(), cosine_schedule(), NoiseSchedule([0.3])]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["linear", "scaled_linear", "cosine", "one"])
def test_schedule_identities(schedule: NoiseSchedule) -> None:
    direct = [np.prod(1 - schedule.betas[: t + 1]) for t in range(schedule.num_timesteps)]
    np.testing.assert_allclose(schedule.alphas_cumprod, direct, rtol=1e-10)
    np.testing.assert_allclose(schedule.signal_rates**2 + schedule.noise_rates**2, 1, rtol=1e-14)
    np.testing.assert_allclose(1 / (1 + schedule.sigmas**2), direct, rtol=1e-10)
    np.testing.assert_allclose(schedule.signal_rates**2, direct, rtol=1e-10)
    assert np.all(np.diff(schedule.sigmas) > 0)
    assert schedule.betas.dtype == schedule.sigmas.dtype == np.float64


def test_known_values() -> None:
    # Ho et al. 2020: β from 1e-4 to 0.02, ᾱ_T = 4e-5. Stable Diffusion: σ from 0.029 to 14.61.
    linear, scaled = linear_schedule(), scaled_linear_schedule()
    assert linear.alphas_cumprod[-1] == pytest.approx(4.0358e-5, rel=1e-4)
    assert (linear.betas[0], linear.betas[-1]) == (1e-4, 2e-2)
    assert np.ptp(np.diff(linear.betas)) < 1e-15
    assert scaled.sigmas[0] == pytest.approx(0.0291672, rel=1e-5)
    assert scaled.sigmas[-1] == pytest.approx(14.6146, rel=1e-5)
    assert np.ptp(np.diff(np.sqrt(scaled.betas))) < 1e-15


def test_cosine_is_a_squared_cosine() -> None:
    schedule = cosine_schedule(1000, offset=0.008)
    curve = np.cos((np.arange(1, 1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    start = np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alphas_cumprod[:998], (curve / start)[:998], rtol=1e-9)
    assert schedule.betas.max() == 0.999
    assert cosine_schedule(100, max_beta=0.5).betas.max() == 0.5


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["linear", "scaled_linear", "cosine", "one"])
def test_timestep_is_the_inverse_of_sigma(schedule: NoiseSchedule) -> None:
    last = schedule.num_timesteps - 1
    for t in {0, 1, last // 3, last - 1, last} & set(range(last + 1)):
        assert schedule.timestep(schedule.sigmas[t]) == pytest.approx(t, abs=1e-9)
        if t < last:
            between = np.sqrt(schedule.sigmas[t] * schedule.sigmas[t + 1])
            assert schedule.timestep(between) == pytest.approx(t + 0.5, abs=1e-6)
    assert schedule.timestep(0.0) == schedule.timestep(schedule.sigmas[0] / 2) == 0.0
    assert schedule.timestep(schedule.sigmas[-1] * 2) == schedule.timestep(1e9) == last


def test_schedule_survives_serialization_exactly() -> None:
    schedule = scaled_linear_schedule(17, 0.001, 0.03)
    text = json.dumps(keras.saving.serialize_keras_object(schedule))
    assert "keras_ldm>NoiseSchedule" in text
    other = keras.saving.deserialize_keras_object(json.loads(text))
    np.testing.assert_array_equal(other.betas, schedule.betas)
    np.testing.assert_array_equal(other.sigmas, schedule.sigmas)


def test_schedule_keeps_its_own_betas() -> None:
    betas = np.array([0.1, 0.2])
    schedule = NoiseSchedule(betas)
    betas[:] = 0.5
    np.testing.assert_array_equal(schedule.betas, [0.1, 0.2])
    with pytest.raises(ValueError, match="read-only"):
        schedule.betas[0] = 0.3


@pytest.mark.parametrize("betas", [[], [0.0], [0.1, 1.0], [-0.1], [[0.1]], 0.1, [np.nan]])
def test_schedule_refuses_betas(betas: object) -> None:
    with pytest.raises(ValueError, match="numbers between 0 and 1 .exclusive.. Received: shape"):
        NoiseSchedule(betas)


@pytest.mark.parametrize("arguments", [(0,), (-3,), (10, 0.0), (10, 0.02, 0.01), (10, 0.1, 1.0)])
def test_schedule_builders_refuse_ranges(arguments: tuple) -> None:
    for builder in (linear_schedule, scaled_linear_schedule):
        with pytest.raises(ValueError, match="`beta_start` <= `beta_end` < 1. Received: num_time"):
            builder(*arguments)
    with pytest.raises(ValueError, match="`num_timesteps` >= 1"):
        cosine_schedule(0)


def test_sigma_undoes_timestep() -> None:
    for schedule in (*SCHEDULES[:3], FlowSchedule(), FlowSchedule(50, shift=3.0)):
        times = np.array([0.0, 0.4, 7.25, schedule.num_timesteps - 1])
        sigmas = schedule.sigma(times)
        np.testing.assert_allclose([schedule.timestep(s) for s in sigmas], times, atol=1e-9)
        np.testing.assert_allclose(schedule.sigma(np.arange(20)), schedule.sigmas[:20], rtol=1e-12)


# === Zero terminal SNR ===


def test_zero_terminal_snr() -> None:
    base = scaled_linear_schedule()
    schedule = zero_terminal_snr(base)
    assert schedule.signal_rates[0] == pytest.approx(base.signal_rates[0], rel=1e-12)
    assert schedule.alphas_cumprod[-1] == pytest.approx(2.0**-24)
    # The square roots of ᾱ are moved and stretched.
    rates = (base.signal_rates - base.signal_rates[-1]) * base.signal_rates[0]
    rates /= base.signal_rates[0] - base.signal_rates[-1]
    np.testing.assert_allclose(schedule.signal_rates[:-1], rates[:-1], rtol=1e-9)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(again.betas, schedule.betas)
    with pytest.raises(ValueError, match="at least 2 timesteps. Received: 1"):
        zero_terminal_snr(linear_schedule(1))


@pytest.mark.parametrize(
    "base", [linear_schedule(), linear_schedule(4000), scaled_linear_schedule(4000), cosine_schedule()]
)
def test_zero_terminal_snr_of_schedules_that_are_nearly_there(base: NoiseSchedule) -> None:
    schedule = zero_terminal_snr(base)
    assert np.all(np.diff(schedule.alphas_cumprod) < 0)
    assert 0 < schedule.alphas_cumprod[-1] <= 2.0**-24


# === Flow matching ===


def test_noise_alone_says_nothing_to_a_network_that_predicts_noise() -> None:
    with pytest.raises(ValueError, match='"flow", "v" or "x0".*Received: "epsilon" with FlowSchedule'):
        Denoiser(lambda x, t: x, FlowSchedule())


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_schedule(shift: float) -> None:
    schedule = FlowSchedule(10, shift)
    times = np.arange(1, 11) / 10
    np.testing.assert_allclose(schedule.sigmas, shift * times / (1 + (shift - 1) * times))
    np.testing.assert_allclose(schedule.signal_rates + schedule.noise_rates, 1)
    assert schedule.sigmas[-1] == 1 and schedule.starting_scale(1.0) == 1
    assert schedule.add_noise(2.0, 3.0, 0.25) == 0.75 * 2 + 0.25 * 3
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    again = keras.saving.deserialize_keras_object(config)
    assert (again.num_timesteps, again.shift) == (10, shift)
    for arguments in ((0, 1.0), (10, 0.0), (10, -1.0)):
        with pytest.raises(ValueError, match="`num_timesteps` >= 1 and `shift` > 0. Received: "):
            FlowSchedule(*arguments)
