"""Which noise levels samplers visit, and where their noise comes from."""

import functools
import itertools

import numpy as np
import pytest
from scipy import stats

from keras_ldm.diffusion import (
    FlowSchedule,
    linear_schedule,
    scaled_linear_schedule,
    zero_terminal_snr,
)
from keras_ldm.samplers import (
    ImageNoise,
    ddim,
    ddpm,
    exponential_sigmas,
    get_grid,
    get_sampler,
    image_seeds,
    interpolate_sigmas,
    karras_sigmas,
    leading_sigmas,
    linspace_sigmas,
    trailing_sigmas,
    uniform_sigmas,
)
from tests.contract import numpy

SCHEDULE = scaled_linear_schedule()

# Steps asked for: steps given, first and last timestep visited. The original's rule is
# `range(0, 1000, 1000 // S)`, plus one; timestep 1000, where it fails, is left out (S = 300, 1000).
ORIGINAL = {
    1: (1, 1, 1),
    7: (8, 995, 1),
    8: (8, 876, 1),
    10: (10, 901, 1),
    30: (31, 991, 1),
    50: (50, 981, 1),
    300: (333, 997, 1),
    1000: (999, 999, 1),
}


@pytest.mark.parametrize("steps", ORIGINAL)
def test_uniform_sigmas_visit_the_timesteps_of_the_original(steps: int) -> None:
    timesteps = [t + 1 for t in range(0, 1000, 1000 // steps) if t + 1 < 1000][::-1]
    assert (len(timesteps), timesteps[0], timesteps[-1]) == ORIGINAL[steps]
    sigmas = uniform_sigmas(SCHEDULE, steps)
    np.testing.assert_array_equal(sigmas[:-1], SCHEDULE.sigmas[timesteps])
    assert sigmas[-1] == SCHEDULE.sigmas[0]  # alphas_prev[0] is ᾱ_0, not 1


@pytest.mark.parametrize("steps", [1, 7, 10, 300, 1000])
def test_leading_sigmas_end_at_zero(steps: int) -> None:
    sigmas = leading_sigmas(SCHEDULE, steps)
    timesteps = [(1000 // steps) * i for i in reversed(range(steps))]
    np.testing.assert_array_equal(sigmas, [*SCHEDULE.sigmas[timesteps], 0.0])


def test_a_schedule_of_one_timestep_has_a_grid() -> None:
    schedule = linear_schedule(1)
    np.testing.assert_array_equal(leading_sigmas(schedule, 1), [schedule.sigmas[0], 0])
    assert len(uniform_sigmas(schedule, 1)) == 2


@pytest.mark.parametrize("grid", [uniform_sigmas, leading_sigmas, trailing_sigmas])
@pytest.mark.parametrize("steps", [0, 1001, -1, 2.5, "10", None])
def test_grids_refuse_steps(grid: object, steps: object) -> None:
    with pytest.raises(ValueError, match="integer from 1 to 1000.*Received: "):
        grid(SCHEDULE, steps)
    assert len(grid(SCHEDULE, np.int64(10))) == 11


GRIDS = ["uniform", "leading", "trailing", "linspace", "lcm", "karras", "exponential"]


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_falls_within_the_schedule(name: str) -> None:
    grid = get_grid(name)
    schedules = (SCHEDULE, zero_terminal_snr(SCHEDULE), FlowSchedule(), FlowSchedule(60, 3.0))
    for schedule, steps in itertools.product(schedules, (1, 2, 7, 50, 1000, 1500)):
        most = 50 if name == "lcm" else schedule.num_timesteps
        if steps > most and name not in ("linspace", "karras", "exponential"):
            with pytest.raises(ValueError, match=f"integer from 1 to {most}.*Received: {steps}"):
                grid(schedule, steps)
            continue
        if name == "lcm" and schedule.num_timesteps < 100:
            continue
        sigmas = grid(schedule, steps)
        assert len(sigmas) == steps + 1 or name == "uniform"
        assert np.all(np.diff(sigmas) < 0) and sigmas[0] <= schedule.sigmas[-1] * (1 + 1e-9)
    assert get_grid(grid) is grid
    for steps in (0, -3, 2.0, True):
        with pytest.raises(ValueError, match="Expected `num_steps` to be an integer"):
            grid(SCHEDULE, steps)


def test_grids_refuse_options() -> None:
    with pytest.raises(ValueError, match=r"among \['exponential', .*'uniform'\]. Received: 'kar'"):
        get_grid("kar")
    for ends in ({"sigma_min": 0.0}, {"sigma_min": 3.0, "sigma_max": 2.0}, {"sigma_max": -1.0}):
        for grid in (karras_sigmas, exponential_sigmas):
            with pytest.raises(ValueError, match="0 < `sigma_min` < `sigma_max`. Received: "):
                grid(SCHEDULE, 5, **ends)
    with pytest.raises(ValueError, match="timesteps from 0 to 999. Received: offset=-1 for 5"):
        leading_sigmas(SCHEDULE, 5, offset=-1)
    with pytest.raises(ValueError, match="offset=200 for 5 steps, up to 1000"):
        leading_sigmas(SCHEDULE, 5, offset=200)
    for levels in ([1.0], [1.0, 0.0], [1.0, 2.0], [3.0, -1.0], [[2.0, 1.0]]):
        with pytest.raises(ValueError, match="falling levels, at least two above 0. Received: "):
            interpolate_sigmas(levels, 5)


def test_interpolated_levels_keep_their_ends() -> None:
    np.testing.assert_allclose(interpolate_sigmas([8.0, 2.0], 4), np.geomspace(8, 2, 5))
    np.testing.assert_allclose(interpolate_sigmas([8.0, 2.0, 0.0], 3), [8.0, 4.0, 2.0, 0.0])


def test_samplers_by_name() -> None:
    assert (get_sampler("ddim").function, get_sampler("ddim").grid) == (ddim, uniform_sigmas)
    assert (get_sampler("ddpm").function, get_sampler("ddpm").grid) == (ddpm, leading_sigmas)

    def mine(denoise, x, sigmas, *, seed=None, callback=None):
        return x

    assert (get_sampler(mine).function, get_sampler(mine).grid) == (mine, linspace_sigmas)
    assert get_sampler(ddim) == get_sampler("ddim")
    with pytest.raises(ValueError, match=r"among \['ddim', .*, 'unipc'\]. Received: 'eular'"):
        get_sampler("eular")


def test_a_partial_of_a_sampler_keeps_its_levels_and_start() -> None:
    half = functools.partial(functools.partial(ddim, eta=0.5))
    named = get_sampler(half)
    assert named.function is half and named.grid is uniform_sigmas
    assert named.starts_from_unit_variance

    class Unhashable:
        __hash__ = None

        def __call__(self, denoise, x, sigmas, *, seed=None, callback=None):
            return x

    assert get_sampler(Unhashable()).grid is linspace_sigmas
    for wrong in ("", ["ddim"], 3):
        with pytest.raises(ValueError, match="Expected a sampler among"):
            get_sampler(wrong)


def draws(seeds: list, count: int = 2) -> np.ndarray:
    noise = ImageNoise(seeds)
    return np.stack([numpy(noise((len(seeds), 3, 2))) for _ in range(count)], axis=1)


@pytest.mark.backend
def test_the_noise_of_an_image_does_not_depend_on_the_batch() -> None:
    whole = draws(image_seeds(7, 5))
    parts = [draws(image_seeds(7, n, offset=o)) for n, o in [(2, 0), (1, 2), (2, 3)]]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole)) == whole.size  # all images and all draws differ
    assert not np.intersect1d(whole, draws(image_seeds(8, 5))).size
    # Frozen: files and documents show these numbers.
    np.testing.assert_allclose(whole[1, 0, 0], FROZEN, rtol=1e-6)


FROZEN = np.random.default_rng(np.array([7, 1], np.uint64)).standard_normal(2, np.float32)


def test_one_seed_an_image() -> None:
    listed = draws(image_seeds([4, 9, 4], 3))
    np.testing.assert_array_equal(listed[0], listed[2])
    np.testing.assert_array_equal(listed[1:2], draws(image_seeds([9], 1)))
    np.testing.assert_array_equal(listed[1:2], draws(image_seeds(9, 1)))
    np.testing.assert_array_equal(draws(image_seeds(np.array([4, 9, 4]), 3)), listed)


def test_without_a_seed_noise_is_fresh() -> None:
    assert not np.intersect1d(draws(image_seeds(None, 3)), draws(image_seeds(None, 3))).size


def test_noise_is_standard_normal() -> None:
    values = numpy(ImageNoise(image_seeds(0, 50))((50, 10, 10)))
    assert stats.kstest(values.ravel(), stats.norm.cdf).pvalue > 1e-3
    # ... across images too: neighbouring seeds give unrelated streams.
    assert stats.kstest(values.mean(axis=(1, 2)) * 10, stats.norm.cdf).pvalue > 1e-3


def test_seeds_that_make_no_sense_are_refused() -> None:
    for seed in (-1, [3, -1]):
        with pytest.raises(ValueError, match="seeds >= 0. Received: "):
            image_seeds(seed, 2)
    with pytest.raises(ValueError, match="each of the 3 images. Received: 2"):
        image_seeds([1, 2], 3)
    for seed in (1.5, [1.5, 2.0], "12", [None, 1]):
        with pytest.raises(ValueError, match="Expected `seed` as an int, one int an image, or None"):
            image_seeds(seed, 2)
    with pytest.raises(ValueError, match="below 2"):
        image_seeds(2**70, 2)
