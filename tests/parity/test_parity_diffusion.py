"""Schedules, parameterizations, min-SNR weights against diffusers' schedulers and training code."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers.training_utils import compute_snr

from keras_ldm.diffusion import (
    MinSNRWeighting,
    cosine_schedule,
    get_parameterization,
    linear_schedule,
    scaled_linear_schedule,
)
from tests.golden.original import deviation

pytestmark = pytest.mark.parity

NAMES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
SCHEDULES = {
    "linear": (linear_schedule, {"beta_start": 1e-4, "beta_end": 2e-2}),
    "scaled_linear": (scaled_linear_schedule, {"beta_start": 0.00085, "beta_end": 0.012}),
    "squaredcos_cap_v2": (cosine_schedule, {}),
}


def scheduler(**config) -> diffusers.DDIMScheduler:
    defaults = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "set_alpha_to_one": False,
        "clip_sample": False,
    }
    return diffusers.DDIMScheduler(**{**defaults, **config})


@pytest.mark.parametrize("num_timesteps", [1000, 50])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name, num_timesteps) -> None:
    make, arguments = SCHEDULES[name]
    ours = make(num_timesteps, **arguments)
    theirs = diffusers.DDPMScheduler(num_timesteps, beta_schedule=name, **arguments)
    np.testing.assert_allclose(ours.betas, theirs.betas, rtol=2e-4)
    assert deviation(ours.betas, theirs.betas) < 1e-6
    assert deviation(ours.alphas_cumprod, theirs.alphas_cumprod) < 1e-5


def test_defaults_are_those_of_stable_diffusion() -> None:
    theirs = scheduler()
    assert deviation(scaled_linear_schedule().betas, theirs.betas) < 1e-6


@pytest.fixture(scope="module")
def tensors():
    rng = np.random.default_rng(0)
    timesteps = np.array([0, 10, 400, 999])
    x0, other = rng.standard_normal((2, 4, 3, 5, 2))
    ours = scaled_linear_schedule()
    signal, spread = (
        rates[timesteps].reshape(-1, 1, 1, 1) for rates in (ours.signal_rates, ours.noise_rates)
    )
    return timesteps, x0, other, signal, spread


def test_noisy_latents(tensors) -> None:
    timesteps, x0, noise, signal, spread = tensors
    expected = scheduler().add_noise(torch.tensor(x0), torch.tensor(noise), torch.tensor(timesteps))
    assert deviation(signal * x0 + spread * noise, expected) < 1e-5


def test_target_of_v(tensors) -> None:
    timesteps, x0, noise, signal, spread = tensors
    expected = scheduler().get_velocity(torch.tensor(x0), torch.tensor(noise), torch.tensor(timesteps))
    target = get_parameterization("v").target(x0, noise, signal, spread)
    assert deviation(target, expected) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_clean_latents_from_the_output(tensors, name) -> None:
    timesteps, output, x, signal, spread = tensors
    theirs = scheduler(prediction_type=NAMES[name])
    theirs.set_timesteps(1000)
    estimate = get_parameterization(name).to_x0(output, x, signal, spread)
    for i, timestep in enumerate(timesteps):
        step = theirs.step(torch.tensor(output[i]), int(timestep), torch.tensor(x[i]))
        assert deviation(estimate[i], step.pred_original_sample) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_target_leads_back_to_the_clean_latents(tensors, name) -> None:
    _, x0, noise, signal, spread = tensors
    parameterization = get_parameterization(name)
    target = parameterization.target(x0, noise, signal, spread)
    estimate = parameterization.to_x0(target, signal * x0 + spread * noise, signal, spread)
    assert deviation(estimate, x0) < 1e-9


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_weights(gamma) -> None:
    """As diffusers' training scripts compute them: /snr for epsilon, /(snr + 1) for v."""
    snr = compute_snr(scheduler(), torch.arange(1000)).double().numpy()
    schedule, weighting = scaled_linear_schedule(), MinSNRWeighting(gamma)
    clipped = np.minimum(snr, gamma)
    expected = {"epsilon": clipped / snr, "v": clipped / (snr + 1), "x0": clipped}
    for name, weights in expected.items():
        np.testing.assert_allclose(weighting(schedule, name), weights, rtol=1e-3)
