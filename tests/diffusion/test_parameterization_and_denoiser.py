"""Parameterizations, the denoiser on a problem with a closed form, weightings."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.diffusion import (
    Denoiser,
    FlowSchedule,
    MinSNRWeighting,
    SimpleWeighting,
    get_parameterization,
    get_weighting,
    scaled_linear_schedule,
)
from tests.contract import array, numpy

NAMES = ["epsilon", "x0", "v", "flow"]
SCHEDULE = scaled_linear_schedule()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("angle", [0.05, 0.7, 1.5])
def test_to_x0_undoes_target(name: str, angle: float) -> None:
    x0, noise = array(2, 3, dtype="float64"), array(2, 3, seed=1, dtype="float64")
    a, s = np.cos(angle), np.sin(angle)
    parameterization = get_parameterization(name)
    target = parameterization.target(x0, noise, a, s)
    recovered = parameterization.to_x0(target, a * x0 + s * noise, a, s)
    np.testing.assert_allclose(recovered, x0, atol=1e-12)
    assert parameterization.name == name


def test_targets() -> None:
    x0, noise, a, s = 2.0, 3.0, 0.6, 0.8
    targets = {n: get_parameterization(n).target(x0, noise, a, s) for n in NAMES}
    v = pytest.approx(0.6 * 3 - 0.8 * 2)
    assert targets == {"epsilon": 3.0, "x0": 2.0, "v": v, "flow": 1.0}
    # v is the velocity of x = cos φ·x0 + sin φ·noise, dx/dφ.
    phi, step = np.arctan2(s, a), 1e-6
    path = [np.cos(p) * x0 + np.sin(p) * noise for p in (phi - step, phi + step)]
    assert targets["v"] == pytest.approx((path[1] - path[0]) / (2 * step), rel=1e-6)


def test_unknown_names_are_listed() -> None:
    with pytest.raises(ValueError, match=r"\['epsilon', 'flow', 'v', 'x0'\]. Received: 'eps'"):
        get_parameterization("eps")
    with pytest.raises(ValueError, match=r"\['min_snr', 'simple'\]. Received: 'snr'"):
        get_weighting("snr")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("timestep", [0, pytest.param(321, marks=pytest.mark.backend), 999])
def test_denoiser_gives_the_posterior_mean(name: str, timestep: int) -> None:
    # Data N(m, λ): the best network in variance-preserving form against the posterior mean of
    # x0 given x = x0 + σ·noise, which is (λx + σ²m) / (λ + σ²).
    m, variance = 0.7, 2.5
    seen = []

    def network(x, timesteps):
        seen.append(numpy(timesteps))
        t = int(np.rint(numpy(timesteps)[0]))
        a, s = SCHEDULE.signal_rates[t], SCHEDULE.noise_rates[t]
        gain = 1 / (a**2 * variance + s**2)
        mean_x0 = m + a * variance * gain * (x - a * m)
        mean_noise = s * gain * (x - a * m)
        best = {"x0": mean_x0, "epsilon": mean_noise, "v": a * mean_noise - s * mean_x0}
        return mean_noise - mean_x0 if name == "flow" else best[name]

    sigma = float(SCHEDULE.sigmas[timestep])
    x = m + np.sqrt(variance + sigma**2) * array(4, 2)
    expected = (variance * x + sigma**2 * m) / (variance + sigma**2)
    denoise = Denoiser(network, SCHEDULE, name)
    tolerance = 1e-4 * (1 + (sigma if name == "epsilon" else 0))
    np.testing.assert_allclose(
        numpy(denoise(ops.convert_to_tensor(x.astype("float32")), sigma)), expected, atol=tolerance
    )
    np.testing.assert_allclose(seen, [[timestep] * 4], atol=1e-3)


def test_denoiser_scales_the_latents_and_interpolates_timesteps() -> None:
    calls = []
    denoise = Denoiser(lambda x, t: calls.append((numpy(x), numpy(t))) or x, SCHEDULE, "x0")
    sigma = float(np.sqrt(SCHEDULE.sigmas[10] * SCHEDULE.sigmas[11]))
    x = array(3, 2)
    denoise(ops.convert_to_tensor(x), sigma)
    (scaled, timesteps), *_ = calls
    np.testing.assert_allclose(scaled, x / np.sqrt(1 + sigma**2), rtol=1e-6)
    np.testing.assert_allclose(timesteps, np.full(3, 10.5), atol=1e-4)


def test_weightings() -> None:
    snr = SCHEDULE.alphas_cumprod / (1 - SCHEDULE.alphas_cumprod)
    assert snr[0] > 5 > snr[-1]
    for name in NAMES:
        np.testing.assert_array_equal(SimpleWeighting()(SCHEDULE, name), np.ones(1000))
    # The error of x0 is that of ε times 1/SNR, and that of v times 1/(SNR + 1): all three weights
    # stand for the same loss, min(SNR, γ)·|x0 error|².
    weighting = MinSNRWeighting(5.0)
    np.testing.assert_allclose(weighting(SCHEDULE, "x0"), np.minimum(snr, 5))
    np.testing.assert_allclose(weighting(SCHEDULE, "epsilon"), np.minimum(1, 5 / snr))
    for name in ("epsilon", "v", "flow"):
        parameterization = get_parameterization(name)
        x0, noise, error = 0.3, -1.2, 0.01
        a, s = SCHEDULE.signal_rates, SCHEDULE.noise_rates
        output = parameterization.target(x0, noise, a, s) + error
        x0_error = parameterization.to_x0(output, a * x0 + s * noise, a, s) - x0
        np.testing.assert_allclose(
            weighting(SCHEDULE, name) * error**2, np.minimum(snr, 5) * x0_error**2, rtol=1e-6
        )


def test_min_snr_weighting_of_flow_matching() -> None:
    schedule = FlowSchedule(8)
    times = np.arange(1, 9) / 8
    snr = (1 - times) ** 2 / times**2
    weights = MinSNRWeighting(5.0)(schedule, "flow")
    np.testing.assert_allclose(weights, np.minimum(snr, 5) * times**2, atol=1e-15)
    for name in NAMES:  # the last timestep is noise alone
        assert np.isfinite(MinSNRWeighting(5.0)(schedule, name)).all()


def test_weightings_by_name_and_from_a_configuration() -> None:
    assert isinstance(get_weighting("simple"), SimpleWeighting)
    assert get_weighting("min_snr").gamma == 5.0
    mine = MinSNRWeighting(3.0)
    assert get_weighting(mine) is mine
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(mine)))
    assert keras.saving.deserialize_keras_object(config).gamma == 3.0
    simple = keras.saving.serialize_keras_object(SimpleWeighting())
    assert isinstance(keras.saving.deserialize_keras_object(simple), SimpleWeighting)
    with pytest.raises(ValueError, match="`gamma` > 0. Received: 0"):
        MinSNRWeighting(0)
    with pytest.raises(ValueError, match="parameterization among"):
        SimpleWeighting()(SCHEDULE, "eps")
