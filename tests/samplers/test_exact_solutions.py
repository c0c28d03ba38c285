"""Samplers against exact solutions, for data from a mixture of normal distributions.

The best denoiser of such data has a closed form, and so the probability flow can be integrated to twelve
digits, which shows the order of each deterministic sampler; stochastic ones have to give the mixture's
mean and covariance.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
from keras import ops
from scipy.integrate import solve_ivp

from keras_ldm import samplers
from keras_ldm.diffusion import scaled_linear_schedule
from keras_ldm.samplers import exponential_sigmas
from tests.contract import numpy

MEANS = np.array([[1.5, -1.0], [-1.0, 0.5], [0.3, 1.2]])
SHARES = np.array([0.5, 0.3, 0.2])
VARIANCES = np.array([0.3, 0.15, 0.25])
MEAN = SHARES @ MEANS
COVARIANCE = (MEANS - MEAN).T @ np.diag(SHARES) @ (MEANS - MEAN) + SHARES @ VARIANCES * np.eye(2)
FIRST, LAST = 10.0, 0.05


def denoise(x, sigma: float) -> np.ndarray:
    """E[x0 | x], in float64."""
    spread = VARIANCES + sigma**2
    points = x if isinstance(x, np.ndarray) else numpy(x)
    distances = points[:, None] - MEANS
    logits = np.log(SHARES / spread) - (distances**2).sum(-1) / (2 * spread)
    posterior = np.exp(logits - logits.max(-1, keepdims=True))
    posterior /= posterior.sum(-1, keepdims=True)
    estimates = MEANS + (VARIANCES / spread)[:, None] * distances
    return (posterior[:, :, None] * estimates).sum(1)


def draw(count: int, sigma: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x0 = rng.choice(3, count, p=SHARES)
    deviations = np.sqrt(VARIANCES[x0] + sigma**2)
    return MEANS[x0] + rng.standard_normal((count, 2)) * deviations[:, None]


@cache
def flow() -> tuple[np.ndarray, np.ndarray]:
    """Points at the first level, and where the probability flow leads them."""
    x = draw(16, FIRST)

    def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:
        points = flat.reshape(-1, 2)
        return (points - denoise(points, np.exp(log_sigma))).ravel()

    ends = np.log([FIRST, LAST])
    solution = solve_ivp(slope, ends, x.ravel(), "DOP853", rtol=1e-11, atol=1e-11)
    return x, solution.y[:, -1].reshape(-1, 2)


def geometric(steps: int) -> np.ndarray:
    return np.geomspace(FIRST, LAST, steps + 1)


def gentle(steps: int) -> np.ndarray:
    """Its first and last steps are short, so that lower orders at the ends do not show."""
    u = np.linspace(0, 1, steps + 1)
    return FIRST * (LAST / FIRST) ** (u**3 * (10 - 15 * u + 6 * u**2))


# What theory says. A multistep sampler's first step is of order one, whose error, once, is of order
# two: so with steps of equal ratio none is better than that.
ORDERS = {
    "ddim": (samplers.ddim, geometric, 1),
    "euler": (samplers.euler, geometric, 1),
    "euler_ancestral without noise": (partial(samplers.euler_ancestral, eta=0.0), geometric, 1),
    "heun": (samplers.heun, geometric, 2),
    "dpm2": (samplers.dpm2, geometric, 2),
    "dpmpp_2s": (samplers.dpmpp_2s, geometric, 2),
    "dpmpp_2m": (samplers.dpmpp_2m, geometric, 2),
    "dpmpp_2m_sde without noise": (partial(samplers.dpmpp_2m_sde, eta=0.0), geometric, 2),
    "the same, heun": (partial(samplers.dpmpp_2m_sde, eta=0.0, solver_type="heun"), geometric, 2),
    "lms of order 2": (partial(samplers.lms, order=2), geometric, 2),
    "lms, gentle": (samplers.lms, gentle, 4),
    "lms of order 3, gentle": (partial(samplers.lms, order=3), gentle, 3),
    # Its weights are those for steps of equal length.
    "plms": (samplers.plms, geometric, 2),
    # The published second difference has half of the weight that the third order asks for.
    "dpmpp_3m_sde without noise": (partial(samplers.dpmpp_3m_sde, eta=0.0), gentle, 2),
    "unipc of order 1": (partial(samplers.unipc, order=1), gentle, 2),
    "unipc": (samplers.unipc, gentle, 3),
    "unipc, bh1": (partial(samplers.unipc, variant="bh1"), gentle, 3),
    "unipc of order 3": (partial(samplers.unipc, order=3), gentle, 4),
    "unipc of order 4": (partial(samplers.unipc, order=4), gentle, 5),
}


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name: str) -> None:
    sampler, grid, order = ORDERS[name]
    x, exact = flow()
    errors = [np.abs(numpy(sampler(denoise, x, grid(steps))) - exact).max() for steps in (80, 160, 320)]
    orders = -np.diff(np.log2(errors))
    assert abs(orders[-1] - order) < (0.35 if order > 2 else 0.1), (errors, orders)
    assert errors[-1] < (0, 0.02, 1e-3, 1e-4, 1e-5, 1e-6)[order]


SIGMAS = exponential_sigmas(scaled_linear_schedule(), 100, sigma_min=0.02, sigma_max=20.0)
COUNT = 20_000
STOCHASTIC = {
    "ddpm": samplers.ddpm,
    "ddim": partial(samplers.ddim, eta=1.0),
    "ddim, half the noise": partial(samplers.ddim, eta=0.5),
    "euler_ancestral": samplers.euler_ancestral,
    "dpm2_ancestral": samplers.dpm2_ancestral,
    "dpmpp_2s": partial(samplers.dpmpp_2s, eta=1.0),
    "dpmpp_2m_sde": samplers.dpmpp_2m_sde,
    "dpmpp_2m_sde, heun": partial(samplers.dpmpp_2m_sde, solver_type="heun"),
    "dpmpp_2m_sde, half the noise": partial(samplers.dpmpp_2m_sde, eta=0.5),
    "dpmpp_3m_sde": samplers.dpmpp_3m_sde,
}


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_give_the_distribution(name: str) -> None:
    rng = np.random.default_rng(1)
    out = numpy(
        STOCHASTIC[name](
            denoise, draw(COUNT, SIGMAS[0]), SIGMAS, seed=lambda shape: rng.standard_normal(shape)
        )
    )
    # Four standard errors, and for steps of the first order their error.
    centred = out - out.mean(axis=0)
    error = 4 * np.sqrt(np.diag(COVARIANCE) / COUNT)
    np.testing.assert_array_less(np.abs(out.mean(axis=0) - MEAN), error + 0.005)
    fourth = np.einsum("ni,nj->ij", centred**2, centred**2) / COUNT - COVARIANCE**2
    first_order = name.startswith(("dd", "euler"))
    error = 4 * np.sqrt(fourth / COUNT) + (0.02 if first_order else 0.005)
    np.testing.assert_array_less(np.abs(np.cov(out.T) - COVARIANCE), error)


def test_consistency_sampling_gives_the_distribution() -> None:
    """With an exact consistency function, which exists in closed form for one normal distribution."""
    values, vectors = np.linalg.eigh(COVARIANCE)

    def consistency(x, sigma: float) -> np.ndarray:
        shrink = vectors @ np.diag(np.sqrt(values / (values + sigma**2))) @ vectors.T
        return MEAN + (numpy(x) - MEAN) @ shrink

    rng = np.random.default_rng(2)
    root = np.linalg.cholesky(COVARIANCE + 20.0**2 * np.eye(2))
    x = MEAN + rng.standard_normal((COUNT, 2)) @ root.T
    out = numpy(
        samplers.lcm(
            consistency, x, [20.0, 5.0, 1.0, 0.3, 0.0], seed=lambda shape: rng.standard_normal(shape)
        )
    )
    np.testing.assert_allclose(out.mean(axis=0), MEAN, atol=4 * np.sqrt(COVARIANCE.max() / COUNT))
    np.testing.assert_allclose(np.cov(out.T), COVARIANCE, atol=4 * np.sqrt(2 / COUNT) * COVARIANCE.max())


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_3m_sde"])
def test_solvers_of_higher_order_need_fewer_steps_for_the_distribution(name: str) -> None:
    """Against DDPM's own sampler, with twelve steps."""
    sigmas = exponential_sigmas(scaled_linear_schedule(), 12, sigma_min=0.05, sigma_max=20.0)
    errors = []
    for sampler in (getattr(samplers, name), samplers.ddpm):
        rng = np.random.default_rng(1)
        seed: Callable = lambda shape, rng=rng: rng.standard_normal(shape)  # noqa: E731
        out = numpy(sampler(denoise, draw(COUNT, 20.0), sigmas, seed=seed))
        errors.append(np.abs(np.cov(out.T) - COVARIANCE).max())
    assert errors[0] < errors[1] / 2


@pytest.mark.backend
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ancestral_euler_is_ddim(eta: float) -> None:
    x = ops.convert_to_tensor(draw(5, 10.0).astype("float32"))

    def affine(x, sigma):
        return 0.3 * x / (1 + sigma) + 0.1

    a, b = (
        numpy(sampler(affine, x, [10.0, 3.0, 1.0, 0.0], eta=eta, seed=3))
        for sampler in (samplers.ddim, samplers.euler_ancestral)
    )
    np.testing.assert_allclose(a, b, atol=1e-5)
