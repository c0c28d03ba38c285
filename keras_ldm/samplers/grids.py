"""Which noise levels a sampler visits.

A grid takes a schedule and a number of steps and gives falling sigmas, one more than the steps.
"""

import numpy as np

from keras_ldm.diffusion.schedules import NoiseSchedule
from keras_ldm.types import Array


def check_num_steps(schedule: NoiseSchedule, num_steps: int) -> None:
    """Refuses a number of steps that the schedule cannot give.

    Raises:
        ValueError: if it is not an integer from 1 to the schedule's number of timesteps.
    """
    is_integer = isinstance(num_steps, (int, np.integer)) and not isinstance(num_steps, bool)
    if not is_integer or not 1 <= num_steps <= schedule.num_timesteps:
        raise ValueError(
            f"Expected `num_steps` to be an integer from 1 to {schedule.num_timesteps}, the number "
            f"of timesteps in the schedule. Received: {num_steps!r}"
        )


def uniform_timesteps_grid(schedule: NoiseSchedule, num_steps: int) -> Array:
    """The timesteps of the original's DDIM and PLMS, rising: every `T // num_steps`-th, plus one.

    There are more than `num_steps` of them where it does not divide T (31 for 30 of 1,000). A step
    that would fall beyond the schedule (the original fails there) is left out.
    """
    check_num_steps(schedule, num_steps)
    total = schedule.num_timesteps
    timesteps = np.arange(0, total, total // num_steps) + 1
    return timesteps[timesteps < total] if total > 1 else np.zeros(1, int)


def uniform_sigmas(schedule: NoiseSchedule, num_steps: int) -> Array:
    """Sigmas at the original's uniform timesteps, ending at that of timestep 0 (not at 0).

    Reference: `make_ddim_timesteps` and `make_ddim_sampling_parameters` of the original code.
    """
    timesteps = uniform_timesteps_grid(schedule, num_steps)
    return np.append(schedule.sigmas[timesteps[::-1]], schedule.sigmas[0])


def leading_sigmas(schedule: NoiseSchedule, num_steps: int) -> Array:
    """Sigmas at timesteps 0, c, 2c, ... with c = T // num_steps, exactly `num_steps`, ending at 0.

    With as many steps as timesteps it is DDPM's own chain.
    """
    check_num_steps(schedule, num_steps)
    timesteps = np.arange(num_steps) * (schedule.num_timesteps // num_steps)
    return np.append(schedule.sigmas[timesteps[::-1]], 0.0)
