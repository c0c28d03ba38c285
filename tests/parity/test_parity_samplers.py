"""DDIM, DDPM and guidance against diffusers' schedulers, with one random network and the same noise.

The network is a few lines of NumPy, so that only the samplers can differ.
"""

from collections.abc import Callable, Iterator
from itertools import chain

import diffusers
import diffusers.schedulers.scheduling_ddpm as scheduling_ddpm
import numpy as np
import pytest
import torch
from keras import ops

from keras_ldm.diffusion import Denoiser, classifier_free_guidance, scaled_linear_schedule
from keras_ldm.samplers import ddim, ddpm, leading_sigmas, uniform_sigmas
from tests.golden.original import deviation

pytestmark = pytest.mark.parity

SHAPE = (2, 4, 6, 3)
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
NAMES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}

RNG = np.random.default_rng(0)
MATRIX_IN, MATRIX_OUT = RNG.standard_normal((3, 16)), RNG.standard_normal((16, 3)) / 4
START = RNG.standard_normal(SHAPE, np.float32)
NOISES = RNG.standard_normal((64, *SHAPE), np.float32)


def network(x: np.ndarray, timestep: float, condition: np.ndarray | float = 0.0) -> np.ndarray:
    """Any function of latents, timestep and condition."""
    hidden = np.tanh(x @ MATRIX_IN + np.sin(timestep / 100.0) + condition)
    return (hidden @ MATRIX_OUT + 0.3 * x).astype(np.float32)


def denoiser(schedule, parameterization: str, condition: np.ndarray | float = 0.0) -> Denoiser:
    def ours(x, timesteps):
        steps = ops.convert_to_numpy(timesteps).reshape(-1, 1, 1, 1)
        return ops.convert_to_tensor(network(ops.convert_to_numpy(x), steps, condition))

    return Denoiser(ours, schedule, parameterization)


def noise_source() -> tuple[Callable, Iterator[np.ndarray]]:
    """The same noises in order: ours take a function of the shape, theirs the tensors."""
    ours, theirs = iter(NOISES), iter(NOISES)
    return (lambda shape: ops.convert_to_tensor(next(ours))), theirs


def unit_variance(sampler, denoise, sigmas, **options) -> np.ndarray:
    """Runs a sampler between the variance-preserving latents that diffusers works with."""
    x = ops.convert_to_tensor(START * np.float32(np.sqrt(1 + sigmas[0] ** 2)))
    x = sampler(denoise, x, sigmas, **options)
    return ops.convert_to_numpy(x) / np.sqrt(1 + sigmas[-1] ** 2)


def ddim_scheduler(num_steps: int, **config) -> diffusers.DDIMScheduler:
    scheduler = diffusers.DDIMScheduler(
        **BETAS,
        set_alpha_to_one=False,
        clip_sample=False,
        steps_offset=1,
        timestep_spacing="leading",
        **config,
    )
    scheduler.set_timesteps(num_steps)
    return scheduler


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_steps", [1, 10, 25])
def test_ddim(name, eta, num_steps) -> None:
    draw, noises = noise_source()
    scheduler = ddim_scheduler(num_steps, prediction_type=NAMES[name])
    x = torch.from_numpy(START)
    for t in scheduler.timesteps:
        output = torch.from_numpy(network(x.numpy(), float(t)))
        noise = torch.from_numpy(next(noises)) if eta else None
        x = scheduler.step(output, t, x, eta=eta, variance_noise=noise).prev_sample

    schedule = scaled_linear_schedule()
    sigmas = uniform_sigmas(schedule, num_steps)
    ours = unit_variance(ddim, denoiser(schedule, name), sigmas, eta=eta, seed=draw)
    assert deviation(ours, x) < 1e-4
    np.testing.assert_array_equal(draw(SHAPE), next(noises))  # as many draws on both sides


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("num_timesteps", "num_steps"), [(20, 20), (1000, 20), (1000, 7)])
def test_ddpm(monkeypatch, name, variance, num_timesteps, num_steps) -> None:
    """Over all timesteps of a short schedule, and over some of a long one."""
    draw, noises = noise_source()
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: torch.from_numpy(next(noises)))
    scheduler = diffusers.DDPMScheduler(
        num_timesteps,
        **BETAS,
        variance_type=f"fixed_{variance}",
        clip_sample=False,
        prediction_type=NAMES[name],
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(num_steps)
    x = torch.from_numpy(START)
    for t in scheduler.timesteps:
        output = torch.from_numpy(network(x.numpy(), float(t)))
        x = scheduler.step(output, t, x).prev_sample

    schedule = scaled_linear_schedule(num_timesteps)
    sigmas = leading_sigmas(schedule, num_steps)
    ours = unit_variance(ddpm, denoiser(schedule, name), sigmas, variance=variance, seed=draw)
    assert deviation(ours, x) < 1e-4
    np.testing.assert_array_equal(draw(SHAPE), next(noises))  # as many draws on both sides


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, 7.5])
@pytest.mark.parametrize("name", NAMES)
def test_classifier_free_guidance(name, scale) -> None:
    """diffusers' pipelines guide the network's output: uncond + scale * (cond - uncond)."""
    condition = np.random.default_rng(1).standard_normal((2, 1, 1, 16))
    scheduler = ddim_scheduler(10, prediction_type=NAMES[name])
    x = torch.from_numpy(START)
    for t in scheduler.timesteps:
        unconditional, conditional = (network(x.numpy(), float(t), c) for c in (0.0, condition))
        output = unconditional + scale * (conditional - unconditional)
        x = scheduler.step(torch.from_numpy(output.astype(np.float32)), t, x).prev_sample

    schedule = scaled_linear_schedule()
    both = np.concatenate([np.zeros_like(condition), condition])
    guided = classifier_free_guidance(denoiser(schedule, name, both), scale)
    ours = unit_variance(ddim, guided, uniform_sigmas(schedule, 10))
    assert deviation(ours, x) < 1e-4


def test_visited_timesteps() -> None:
    """diffusers' "leading" spacing plus one is the original's, where the steps divide the schedule."""
    schedule = scaled_linear_schedule()
    for num_steps in (1, 2, 10, 50, 250, 500):
        expected = [*ddim_scheduler(num_steps).timesteps.tolist(), 0]
        sigmas = uniform_sigmas(schedule, num_steps)
        assert [schedule.timestep(s) for s in sigmas] == pytest.approx(expected, abs=1e-6)


def test_interpolated_timesteps_are_the_samplers() -> None:
    """Each level that the samplers visit is given to the network as its own, whole timestep."""
    seen = []
    schedule = scaled_linear_schedule()
    grids = chain(uniform_sigmas(schedule, 50)[:-1], leading_sigmas(schedule, 50)[:-1])

    def record(x, timesteps):
        seen.append(float(ops.convert_to_numpy(timesteps)[0]))
        return x

    denoise = Denoiser(record, schedule, "epsilon")
    for sigma in grids:
        denoise(ops.zeros(SHAPE), float(sigma))
    assert seen == pytest.approx(np.round(seen), abs=1e-3)
