"""Samplers against what k-diffusion's compute with the same denoiser and noise."""

import numpy as np
import pytest
from keras import ops

from keras_ldm import samplers
from keras_ldm.diffusion import scaled_linear_schedule
from tests.contract import numpy
from tests.golden.published_samplers import MATRIX_IN, MATRIX_OUT, NOISES, PATH, RUNS, START, STEPS

GOLDEN = np.load(PATH)
SCHEDULE = scaled_linear_schedule()
GRIDS = ("karras", "exponential", "linspace")
OURS = {
    "dpm_2": samplers.dpm2,
    "dpm_2_ancestral": samplers.dpm2_ancestral,
    "dpmpp_2s_ancestral": samplers.dpmpp_2s,
}
CASES = [(name, options) for name, runs in RUNS.items() for options in runs]


def denoise(x, sigma):
    matrix_in, matrix_out = (ops.convert_to_tensor(m.astype("float32")) for m in (MATRIX_IN, MATRIX_OUT))
    level = ops.convert_to_tensor(sigma, "float32")
    hidden = ops.matmul(x / ops.sqrt(1 + level**2), matrix_in) + ops.sin(level)
    return ops.matmul(ops.tanh(hidden), matrix_out)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("grid", GRIDS)
def test_grids_are_the_published_ones(grid: str, steps: int) -> None:
    ours = samplers.get_grid(grid)(SCHEDULE, steps)
    np.testing.assert_allclose(ours, GOLDEN[f"{grid}/{steps}/sigmas"], rtol=1e-9)


@pytest.mark.backend
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{o}" for n, o in CASES])
def test_samplers_are_the_published_ones(name: str, options: dict, grid: str) -> None:
    """Equal in float32 to float64 runs of the originals: so the backends are equal to one another."""
    sampler = OURS.get(name) or getattr(samplers, name)
    for steps in STEPS:
        label = ",".join(f"{k}={v}" for k, v in options.items())
        key = f"{grid}/{steps}/{name}/{label}"
        if key not in GOLDEN:
            assert steps == 1 and name.endswith("_sde")
            continue
        sigmas = GOLDEN[f"{grid}/{steps}/sigmas"]
        noises = iter(NOISES)
        seed = lambda shape, noises=noises: ops.convert_to_tensor(next(noises).astype("float32"))  # noqa: E731
        x = ops.convert_to_tensor((START * sigmas[0]).astype("float32"))
        out = numpy(sampler(denoise, x, sigmas, seed=seed, **options))
        np.testing.assert_allclose(out, GOLDEN[key], atol=1e-5)


def test_sde_samplers_make_one_step() -> None:
    """Where the published code fails."""
    x = ops.convert_to_tensor(START.astype("float32"))
    for sampler in (samplers.dpmpp_2m_sde, samplers.dpmpp_3m_sde):
        np.testing.assert_array_equal(numpy(sampler(denoise, x, [1.0, 0.0])), numpy(denoise(x, 1.0)))
