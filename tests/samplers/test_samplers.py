"""Samplers against exact solutions for normally distributed data, and against NumPy loops.

For data N(μ, C) the best denoiser is linear, D(x, σ) = μ + C (C + σ²)^-1 (x - μ), and every sampler's
output has a closed form.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from keras import ops

from keras_ldm import samplers
from keras_ldm.diffusion import linear_schedule, scaled_linear_schedule
from keras_ldm.samplers import (
    ImageNoise,
    ddim,
    ddpm,
    euler,
    image_seeds,
    leading_sigmas,
    plms,
    uniform_sigmas,
)
from keras_ldm.types import SamplerStep
from tests.contract import array, numpy

MEAN = np.array([0.5, -1.0])
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.8]])
VALUES, VECTORS = np.linalg.eigh(COVARIANCE)


def gain(sigma: float) -> np.ndarray:
    return COVARIANCE @ np.linalg.inv(COVARIANCE + sigma**2 * np.eye(2))


def denoise(x, sigma):
    mean, shrink = (ops.convert_to_tensor(v.astype("float32")) for v in (MEAN, gain(sigma).T))
    return ops.matmul(x - mean, shrink) + mean


def start(count: int, sigma: float) -> np.ndarray:
    """Draws of x0 + σ·noise; if many, with exactly the mean and covariance that they should have."""
    x = array(count, 2, dtype="float64")
    if count > 10:
        x -= x.mean(axis=0)
        x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True))).T
    root = np.linalg.cholesky(COVARIANCE + sigma**2 * np.eye(2))
    return (MEAN + x @ root.T).astype("float32").reshape(count, 1, 1, 2)


@pytest.mark.backend
def test_ddim_converges_to_the_probability_flow_with_order_one() -> None:
    first, last = 10.0, 0.05
    x = start(16, first)
    scales = np.sqrt((VALUES + last**2) / (VALUES + first**2))
    flow = VECTORS @ np.diag(scales) @ VECTORS.T
    exact = MEAN + (x.reshape(-1, 2) - MEAN) @ flow.T
    errors = []
    for steps in (40, 80, 160):
        sigmas = np.geomspace(first, last, steps + 1)
        out = numpy(ddim(denoise, ops.convert_to_tensor(x), sigmas)).reshape(-1, 2)
        errors.append(np.abs(out - exact).max())
    orders = -np.diff(np.log2(errors))
    assert errors[-1] < 0.05
    assert np.all(np.abs(orders - 1) < 0.1), (errors, orders)


def moments(sigmas: np.ndarray, variance: Callable[[float, float], float]) -> tuple:
    """Mean and covariance after ancestral sampling, carried exactly from step to step."""
    mean = MEAN.copy()
    covariance = COVARIANCE + sigmas[0] ** 2 * np.eye(2)
    for s, n in itertools.pairwise(sigmas):
        shrink = gain(s) + (n / s) ** 2 * (np.eye(2) - gain(s))
        mean = MEAN + shrink @ (mean - MEAN)
        covariance = shrink @ covariance @ shrink.T + variance(s, n) * np.eye(2)
    return mean, covariance


def small(s: float, n: float) -> float:
    return n**2 * (1 - n**2 / s**2)


def large(s: float, n: float) -> float:
    # β = 1 - ᾱ/ᾱ', divided by ᾱ'; no noise at the end.
    a, b = 1 / (1 + s**2), 1 / (1 + n**2)
    return (1 - a / b) / b if n else 0.0


@pytest.mark.parametrize(
    "sample, variance",
    [
        (lambda *a, **k: ddpm(*a, **k), small),
        (lambda *a, **k: ddpm(*a, variance="large", **k), large),
        (lambda *a, **k: ddim(*a, eta=1.0, **k), small),
    ],
    ids=["ddpm", "ddpm_large", "ddim"],
)
@pytest.mark.parametrize("steps", [1000, 20])
def test_ancestral_sampling_gives_the_distribution(
    sample: Callable, variance: Callable, steps: int
) -> None:
    sigmas = leading_sigmas(scaled_linear_schedule(), steps)
    count = 4000
    rng = np.random.default_rng(3)
    out = sample(
        denoise,
        ops.convert_to_tensor(start(count, sigmas[0])),
        sigmas,
        seed=lambda shape: ops.convert_to_tensor(rng.standard_normal(shape, np.float32)),
    )
    out = numpy(out).reshape(-1, 2)
    mean, covariance = moments(sigmas, variance)
    if steps == 1000:  # with many steps that is the data's own distribution
        np.testing.assert_allclose(covariance, COVARIANCE, atol=0.02)
    np.testing.assert_allclose(mean, MEAN, atol=1e-9)
    # The standard error of each entry is about √(2/4000)·C = 0.02; of the mean 0.016.
    np.testing.assert_allclose(out.mean(axis=0), mean, atol=0.055)
    np.testing.assert_allclose(np.cov(out.T), covariance, atol=0.09)


@pytest.mark.backend
def test_ddim_with_all_its_noise_is_ddpm() -> None:
    sigmas = uniform_sigmas(scaled_linear_schedule(), 10)
    x = ops.convert_to_tensor(start(3, sigmas[0]))
    a, b = (
        numpy(sample(denoise, x, sigmas, seed=ImageNoise(image_seeds(4, 3)), **options))
        for sample, options in ((ddim, {"eta": 1.0}), (ddpm, {}))
    )
    np.testing.assert_allclose(a, b, atol=2e-5)
    c = numpy(ddim(denoise, x, sigmas, seed=4))
    assert np.abs(a - c).max() > 0.1


def reference(
    kind: str, x: np.ndarray, timesteps: list[int], last: float, seed: int, eta: float = 0.0
) -> np.ndarray:
    """The papers' equations, in variance-preserving form and float64, ᾱ by ᾱ."""
    cumulative = linear_schedule().alphas_cumprod
    noise = [np.random.default_rng(np.array([seed, i], np.uint64)) for i in range(len(x))]
    levels = [*cumulative[timesteps], last]
    y = x.astype("float64") * np.sqrt(levels[0])
    for a, b in itertools.pairwise(levels):
        x0 = np.tanh(y / np.sqrt(a))  # any denoiser
        epsilon = (y - np.sqrt(a) * x0) / np.sqrt(1 - a)
        alpha, beta = a / b, 1 - a / b
        draw = np.stack([rng.standard_normal(x.shape[1:], np.float32) for rng in noise])
        if kind == "ddim":  # Song et al. 2020, equations 12 and 16
            deviation = eta * np.sqrt((1 - b) / (1 - a)) * np.sqrt(1 - a / b)
            y = np.sqrt(b) * x0 + np.sqrt(1 - b - deviation**2) * epsilon + deviation * draw
        else:  # Ho et al. 2020, equation 7, and β̃ or β
            y = np.sqrt(b) * beta / (1 - a) * x0 + np.sqrt(alpha) * (1 - b) / (1 - a) * y
            variance = (1 - b) / (1 - a) * beta if kind == "small" else beta
            y = y + (np.sqrt(variance) * draw if b < 1 else 0)
    return y / np.sqrt(levels[-1])


@pytest.mark.backend
@pytest.mark.parametrize(
    "kind, eta", [("ddim", 0.0), ("ddim", 0.4), ("ddim", 1.0), ("small", 0.0), ("large", 0.0)]
)
def test_samplers_are_the_papers_equations(kind: str, eta: float) -> None:
    schedule = linear_schedule()
    x = np.float32(schedule.sigmas[901]) * array(3, 2, 2, 1)
    if kind == "ddim":
        timesteps, last = list(range(901, 0, -100)), schedule.alphas_cumprod[0]
        options = {"eta": eta}
        sigmas = uniform_sigmas(schedule, 10)
    else:
        timesteps, last = list(range(900, -1, -100)), 1.0
        options = {"variance": kind}
        sigmas = leading_sigmas(schedule, 10)
    sample = ddim if kind == "ddim" else ddpm
    out = numpy(
        sample(lambda x, sigma: ops.tanh(x), ops.convert_to_tensor(x), sigmas, seed=11, **options)
    )
    expected = reference(kind, x, timesteps, last, 11, eta)
    np.testing.assert_allclose(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.backend
@pytest.mark.parametrize("sample", [ddim, ddpm, plms, lambda *a, **k: ddim(*a, eta=0.7, **k)])
def test_an_image_does_not_depend_on_its_batch(sample: Callable) -> None:
    sigmas = uniform_sigmas(scaled_linear_schedule(), 5)
    x = start(4, sigmas[0])
    whole = numpy(sample(denoise, ops.convert_to_tensor(x), sigmas, seed=[5, 6, 7, 8]))
    part = numpy(sample(denoise, ops.convert_to_tensor(x[2:3]), sigmas, seed=[7]))
    np.testing.assert_allclose(whole[2:3], part, atol=1e-6)


@pytest.mark.parametrize("sample", [ddim, ddpm])
def test_callback_sees_every_step(sample: Callable) -> None:
    sigmas = leading_sigmas(scaled_linear_schedule(), 4)
    steps: list[SamplerStep] = []
    seen = []

    def spy(x, sigma):
        seen.append((numpy(x), sigma))
        return denoise(x, sigma)

    x = ops.convert_to_tensor(start(2, sigmas[0]))
    out = numpy(sample(spy, x, sigmas, seed=0, callback=steps.append))
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert {step.num_steps for step in steps} == {4} and len(seen) == 4
    assert [step.sigma for step in steps] == list(sigmas[:-1]) == [sigma for _, sigma in seen]
    np.testing.assert_array_equal(numpy(steps[-1].latents), out)
    for step, (state, sigma) in zip(steps, seen, strict=True):
        np.testing.assert_array_equal(numpy(step.denoised), numpy(denoise(state, sigma)))
    for step, (state, _) in zip(steps, seen[1:], strict=False):
        np.testing.assert_array_equal(numpy(step.latents), state)
    # The last level is 0, where nothing but the estimate is left.
    np.testing.assert_allclose(out, numpy(steps[-1].denoised), atol=1e-6)


def test_samplers_refuse_options() -> None:
    x, sigmas = ops.convert_to_tensor(start(2, 1.0)), [1.0, 0.5]
    for eta in (-0.1, 1.1):
        with pytest.raises(ValueError, match="`eta` from 0 to 1. Received: "):
            ddim(denoise, x, sigmas, eta=eta)
    with pytest.raises(ValueError, match="'small' or 'large'. Received: 'beta'"):
        ddpm(denoise, x, sigmas, variance="beta")
    with pytest.raises(ValueError, match="each of the 2 images. Received: 1"):
        ddpm(denoise, x, sigmas, seed=[1])


@pytest.mark.parametrize("name", ["euler", "heun", "plms", "lms", "unipc", "dpmpp_2m", "lcm"])
def test_one_level_is_no_step(name: str) -> None:
    x = ops.convert_to_tensor(start(2, 1.0))
    np.testing.assert_array_equal(numpy(getattr(samplers, name)(denoise, x, [1.0])), numpy(x))


@pytest.mark.backend
def test_samplers_take_numpy_latents() -> None:
    x = start(2, 1.0)
    out = [numpy(euler(denoise, v, [1.0, 0.0])) for v in (x, ops.convert_to_tensor(x))]
    np.testing.assert_array_equal(*out)


@pytest.mark.parametrize(
    "sigmas", [[], [1.0, 1.0], [1.0, 2.0], [1.0, -0.1], [np.inf, 1.0], [[2.0, 1.0]], [1.0, np.nan]]
)
def test_samplers_refuse_levels_that_do_not_fall(sigmas: list) -> None:
    with pytest.raises(ValueError, match="Expected `sigmas` to .*Received: "):
        euler(denoise, start(2, 1.0), sigmas)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lms", {"order": 5}, "`order` from 1 to 4. Received: 5"),
        ("unipc", {"order": 0}, "`order` from 1 to 4. Received: 0"),
        ("unipc", {"variant": "bh3"}, "'bh1' or 'bh2'. Received: 'bh3'"),
        ("dpmpp_2m_sde", {"eta": -1.0}, "`eta` >= 0. Received: -1.0"),
        ("dpmpp_3m_sde", {"eta": float("nan")}, "`eta` >= 0. Received: nan"),
        ("dpmpp_2m_sde", {"solver_type": "mid"}, "'midpoint' or 'heun'. Received: 'mid'"),
        ("euler_ancestral", {"eta": 1.5}, "`eta` from 0 to 1. Received: 1.5"),
        ("dpm2_ancestral", {"eta": -0.5}, "`eta` from 0 to 1. Received: -0.5"),
        ("dpmpp_2s", {"eta": 2.0}, "`eta` from 0 to 1. Received: 2.0"),
    ],
)
def test_samplers_refuse_other_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(samplers, name)(denoise, start(2, 1.0), [1.0, 0.5], **options)


# How often each asks the denoiser in ten steps to 0.
EVALUATIONS = {"heun": 19, "dpm2": 19, "dpm2_ancestral": 19, "dpmpp_2s": 19, "plms": 11}
NAMES = samplers.sampler_names()


@pytest.mark.parametrize("name", NAMES)
def test_evaluations_and_steps(name: str) -> None:
    calls, steps = [], []

    def spy(x, sigma):
        calls.append(sigma)
        return denoise(x, sigma)

    sigmas = np.append(np.geomspace(10, 0.1, 10), 0.0)
    x = ops.convert_to_tensor(start(2, 10.0))
    out = getattr(samplers, name)(spy, x, sigmas, seed=1, callback=steps.append)
    assert len(calls) == EVALUATIONS.get(name, 10)
    assert [step.index for step in steps] == list(range(10))
    np.testing.assert_allclose([step.sigma for step in steps], sigmas[:-1])
    assert min(calls) > 0  # where nothing is left to ask
    np.testing.assert_array_equal(numpy(steps[-1].latents), numpy(out))
    np.testing.assert_allclose(numpy(steps[0].denoised), numpy(denoise(x, 10.0)), rtol=1e-6)
    # The same with a given noise function; deterministic ones never draw.
    deterministic = {"ddim", "plms", "euler", "heun", "dpm2", "lms", "dpmpp_2s", "dpmpp_2m", "unipc"}
    drawn = []
    getattr(samplers, name)(
        denoise, x, sigmas, seed=lambda shape: drawn.append(shape) or ops.zeros(shape)
    )
    assert len(drawn) == (0 if name in deterministic else 9)


@pytest.mark.backend
def test_noise_has_the_dtype_of_the_latents() -> None:
    x = start(2, 1.0).astype("float64")
    out = numpy(samplers.ddpm(denoise_slowly, x, [1.0, 0.5, 0.0], seed=1))
    assert np.isfinite(out).all()


def denoise_slowly(x, sigma):
    return 0.9 * x
