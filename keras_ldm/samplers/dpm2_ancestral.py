r"""DPM-Solver-2 with ancestral noise.

The midpoint method in log σ from σ to σ_down, through \sqrt{σσ_down}, then noise of deviation σ_up leads
to σ'. A step to σ_down = 0 is Euler's.

Reference: Lu et al. 2022, https://arxiv.org/abs/2206.00927; `sample_dpm_2_ancestral` of k-diffusion.
"""

from collections.abc import Sequence

import numpy as np

from keras_ldm.samplers.ancestral import ancestral_levels
from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def dpm2_ancestral(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    eta: float = 1.0,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with DPM-Solver-2 and ancestral noise, calling the denoiser twice a step.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[0]`, `x0 + sigmas[0] * noise`.
        sigmas: falling noise levels, one more than the steps.
        eta: share of the ancestral noise added at each step, from 0 to 1.
        seed: where noise comes from: an int, one int an image, or a function of the shape.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `sigmas` do not fall or `eta` is outside [0, 1].
    """
    state, start, denoised = symbols(2)
    steps = []
    for sigma, sigma_next in steps_between(sigmas):
        sigma_down, sigma_up = ancestral_levels(sigma, sigma_next, eta)
        middle = float(np.sqrt(sigma * sigma_down))
        slope = (state - denoised) / sigma
        if sigma_down == 0:
            stages = [Stage(sigma, [denoised, state], sigma_up)]
        else:
            middle_slope = (state - denoised) / middle
            stages = [
                Stage(sigma, [state + (middle - sigma) * slope, state]),
                Stage(middle, [start + (sigma_down - sigma) * middle_slope, start], sigma_up),
            ]
        steps.append(stages)
    return solve(denoise, x, steps, seed=seed, callback=callback)
