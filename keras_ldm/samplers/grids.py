"""Which noise levels a sampler visits.

A grid takes a schedule and a number of steps and gives falling sigmas, one more than the steps.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from keras_ldm.diffusion.schedules import Schedule
from keras_ldm.types import Array

GridFn: TypeAlias = Callable[[Schedule, int], Array]


def check_num_steps(num_steps: int, most: float = np.inf) -> None:
    """Refuses a number of steps that a grid cannot give.

    Raises:
        ValueError: if it is not an integer from 1 to `most`, such as the number of timesteps.
    """
    is_integer = isinstance(num_steps, (int, np.integer)) and not isinstance(num_steps, bool)
    if not is_integer or not 1 <= num_steps <= most:
        limit = ">= 1" if most == np.inf else f"from 1 to {most}, the number of timesteps there are"
        raise ValueError(f"Expected `num_steps` to be an integer {limit}. Received: {num_steps!r}")


# === Timesteps of the schedule ===


def uniform_timesteps_grid(schedule: Schedule, num_steps: int) -> Array:
    """The timesteps of the original's DDIM and PLMS, rising: every `T // num_steps`-th, plus one.

    There are more than `num_steps` of them where it does not divide T (31 for 30 of 1,000). A step
    that would fall beyond the schedule (the original fails there) is left out.
    """
    total = schedule.num_timesteps
    check_num_steps(num_steps, total)
    timesteps = np.arange(0, total, total // num_steps) + 1
    return timesteps[timesteps < total]


def uniform_sigmas(schedule: Schedule, num_steps: int) -> Array:
    """Sigmas at the original's uniform timesteps, ending at that of timestep 0 (not at 0).

    Reference: `make_ddim_timesteps` and `make_ddim_sampling_parameters` of the original code.
    """
    timesteps = uniform_timesteps_grid(schedule, num_steps)
    if not len(timesteps):
        return np.append(schedule.sigmas, 0.0)  # a schedule of one timestep
    return np.append(schedule.sigmas[timesteps[::-1]], schedule.sigmas[0])


def leading_sigmas(schedule: Schedule, num_steps: int, *, offset: int = 0) -> Array:
    """Sigmas at timesteps 0, c, 2c, ... with c = T // num_steps, exactly `num_steps`, ending at 0.

    With as many steps as timesteps it is DDPM's own chain.

    Args:
        schedule: the noise schedule.
        num_steps: how many.
        offset: added to each timestep; 1 for Stable Diffusion's configurations.

    Raises:
        ValueError: for a number of steps or an offset that leads out of the schedule.
    """
    check_num_steps(num_steps, schedule.num_timesteps)
    timesteps = np.arange(num_steps) * (schedule.num_timesteps // num_steps) + offset
    if timesteps[0] < 0 or timesteps[-1] >= schedule.num_timesteps:
        raise ValueError(
            f"Expected timesteps from 0 to {schedule.num_timesteps - 1}. "
            f"Received: offset={offset} for {num_steps} steps, up to {timesteps[-1]}"
        )
    return np.append(schedule.sigmas[timesteps[::-1]], 0.0)


def trailing_sigmas(schedule: Schedule, num_steps: int) -> Array:
    """Sigmas at timesteps T - 1, T - 1 - c, ... with c = T / num_steps, rounded, ending at 0.

    It begins at the last timestep, which a schedule with zero terminal SNR needs.

    Reference: Lin et al. 2023, https://arxiv.org/abs/2305.08891, table 2.
    """
    total = schedule.num_timesteps
    check_num_steps(num_steps, total)
    timesteps = np.round(total - np.arange(num_steps) * (total / num_steps)).astype(int) - 1
    return np.append(schedule.sigmas[timesteps], 0.0)


def linspace_sigmas(schedule: Schedule, num_steps: int) -> Array:
    """Sigmas at (fractional) timesteps spread evenly from the last to the first, then 0.

    Reference: `DiscreteSchedule.get_sigmas` of k-diffusion.
    """
    check_num_steps(num_steps)
    return np.append(schedule.sigma(np.linspace(schedule.num_timesteps - 1, 0, num_steps)), 0.0)


def lcm_sigmas(schedule: Schedule, num_steps: int, *, original_steps: int = 50) -> Array:
    """Sigmas at some of the timesteps that a latent consistency model was distilled at, then 0.

    Args:
        schedule: the noise schedule.
        num_steps: how many.
        original_steps: timesteps of the distillation, at T/original_steps - 1 and its multiples.

    Reference: Luo et al. 2023, https://arxiv.org/abs/2310.04378; the authors' scheduler.
    """
    check_num_steps(original_steps, schedule.num_timesteps)
    check_num_steps(num_steps, original_steps)
    apart = schedule.num_timesteps // original_steps
    timesteps = np.arange(original_steps, 0, -1) * apart - 1
    chosen = np.floor(np.linspace(0, original_steps, num_steps, endpoint=False)).astype(int)
    return np.append(schedule.sigmas[timesteps[chosen]], 0.0)


# === Levels between the schedule's ends ===


def _ends(schedule: Schedule, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    lowest = schedule.sigmas[0] if sigma_min is None else sigma_min
    highest = schedule.sigmas[-1] if sigma_max is None else sigma_max
    if not 0 < lowest < highest and not (lowest == highest and schedule.num_timesteps == 1):
        raise ValueError(
            f"Expected 0 < `sigma_min` < `sigma_max`. Received: sigma_min={lowest}, sigma_max={highest}"
        )
    return float(lowest), float(highest)


def karras_sigmas(
    schedule: Schedule,
    num_steps: int,
    *,
    rho: float = 7.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Array:
    """Sigmas whose ρ-th roots are spread evenly, then 0: most steps at little noise.

    Args:
        schedule: the noise schedule.
        num_steps: how many.
        rho: 1 for even sigmas; the larger, the more steps at little noise.
        sigma_min: last level before 0; by default the schedule's first.
        sigma_max: first level; by default the schedule's last.

    Reference: Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 5.
    """
    check_num_steps(num_steps)
    lowest, highest = _ends(schedule, sigma_min, sigma_max)
    roots = np.linspace(highest ** (1 / rho), lowest ** (1 / rho), num_steps)
    return np.append(roots**rho, 0.0)


def exponential_sigmas(
    schedule: Schedule,
    num_steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Array:
    """Sigmas whose logarithms are spread evenly, then 0.

    Args:
        schedule: the noise schedule.
        num_steps: how many.
        sigma_min: last level before 0; by default the schedule's first.
        sigma_max: first level; by default the schedule's last.

    Reference: `get_sigmas_exponential` of k-diffusion.
    """
    check_num_steps(num_steps)
    lowest, highest = _ends(schedule, sigma_min, sigma_max)
    return np.append(np.exp(np.linspace(np.log(highest), np.log(lowest), num_steps)), 0.0)


# === Given levels ===


def interpolate_sigmas(sigmas: Sequence[float] | Array, num_steps: int) -> Array:
    """A published list of noise levels for another number of steps: even in place, linear in log σ.

    Args:
        sigmas: falling levels, such as those of Align Your Steps; the last may be 0.
        num_steps: how many steps there should be.

    Returns:
        `num_steps + 1` levels with the same ends.

    Reference: Sabour et al. 2024, https://arxiv.org/abs/2404.14507, section 3.3 and its code.

    Raises:
        ValueError: if there are fewer than two levels above 0, or they do not fall.
    """
    check_num_steps(num_steps)
    levels = np.asarray(sigmas, dtype=np.float64)
    ends_at_zero = levels.ndim == 1 and len(levels) and levels[-1] == 0
    positive = levels[:-1] if ends_at_zero else levels
    if positive.ndim != 1 or len(positive) < 2 or np.any(np.diff(positive) >= 0) or positive[-1] <= 0:
        raise ValueError(f"Expected falling levels, at least two above 0. Received: {sigmas}")
    count = num_steps if ends_at_zero else num_steps + 1
    places = np.linspace(0, len(positive) - 1, count)
    between = np.exp(np.interp(places, np.arange(len(positive)), np.log(positive)))
    return np.append(between, 0.0) if ends_at_zero else between


# === By name ===

_GRIDS: dict[str, GridFn] = {
    "uniform": uniform_sigmas,
    "leading": leading_sigmas,
    "trailing": trailing_sigmas,
    "linspace": linspace_sigmas,
    "lcm": lcm_sigmas,
    "karras": karras_sigmas,
    "exponential": exponential_sigmas,
}


def get_grid(identifier: str | GridFn) -> GridFn:
    """A grid by name, or a function `(schedule, num_steps)` -> falling sigmas.

    Raises:
        ValueError: if there is none of that name; the message lists those there are.
    """
    if callable(identifier):
        return identifier
    if identifier not in _GRIDS:
        raise ValueError(f"Expected a grid among {sorted(_GRIDS)}. Received: {identifier!r}")
    return _GRIDS[identifier]
