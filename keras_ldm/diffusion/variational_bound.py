r"""How many bits a diffusion model needs to say an image: the terms of its variational bound.

    prior:  KL(q(x_T | x_0) || N(0, I)) = ½ Σ (a²·x_0² + s² - 1 - log s²)
    step:   KL(q(x_{σ'} | x_σ, x_0) || p(x_{σ'} | x_σ)) = ½ (a'²/s'² - a²/s²)·|x_0 - x̂_0(x_σ)|²

a and s are the signal and noise rates at a level σ, a' and s' those at the next one, σ' < σ. The reverse
process p is the posterior q with the estimate x̂_0 in the place of x_0, so that both have one variance.
What is left at the last level, above 0, is not counted: there is no end to the digits of a real number.

Reference: Ho et al. 2020, https://arxiv.org/abs/2006.11239, equation 5; Kingma et al. 2021,
https://arxiv.org/abs/2107.00630, equation 13.
"""

import math

from keras import ops

from keras_ldm.diffusion.schedules import Schedule
from keras_ldm.types import Tensor


def prior_bits(schedule: Schedule, latents: Tensor, sigma: float) -> Tensor:
    """Bits that the noisiest latents say of the clean ones.

    Args:
        schedule: the noise schedule.
        latents: clean, at unit scale, `(batch, ...)`.
        sigma: the highest noise level.

    Returns:
        `(batch,)`: bits of each image, almost none where the level is high.

    Raises:
        ValueError: for a level that is not above 0, not finite, or not one of the schedule.
    """
    signal, noise = _rates(schedule, sigma)
    terms = signal**2 * ops.square(latents) + (noise**2 - 1.0 - 2.0 * math.log(noise))
    return _sums(terms) * (0.5 / math.log(2.0))


def step_bits(
    schedule: Schedule, latents: Tensor, estimate: Tensor, sigma: float, sigma_next: float
) -> Tensor:
    """Bits that lead from one noise level to the next.

    Args:
        schedule: the noise schedule.
        latents: clean, at unit scale, `(batch, ...)`.
        estimate: of them, from those at level `sigma`.
        sigma: the noise level that is known.
        sigma_next: the lower one that is to be known.

    Returns:
        `(batch,)`: bits of each image.

    Raises:
        ValueError: if the levels do not fall, or the next one is not above 0.
    """
    if not sigma > sigma_next:
        raise ValueError(f"Expected falling noise levels. Received: {sigma:g}, then {sigma_next:g}")
    (signal, noise), (signal_next, noise_next) = (_rates(schedule, x) for x in (sigma, sigma_next))
    gain = (signal_next / noise_next) ** 2 - (signal / noise) ** 2
    return _sums(ops.square(latents - estimate)) * (0.5 * gain / math.log(2.0))


def _rates(schedule: Schedule, sigma: float) -> tuple[float, float]:
    _, signal, noise = schedule.rates(float(sigma))
    if not 0 < sigma < math.inf or signal < 0:
        raise ValueError(
            f"Expected a noise level of the schedule above 0, where bits are finite. Received: {sigma:g}"
        )
    return float(signal), float(noise)


def _sums(values: Tensor) -> Tensor:
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
