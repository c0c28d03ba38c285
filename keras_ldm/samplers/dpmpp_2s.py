r"""DPM-Solver++(2S): the second-order single-step solver for the denoised estimate.

With λ = -log σ, exact for an estimate that is constant in λ, from σ to s = \sqrt{σσ'} and then, with the
estimate there, over the whole step:

    u = (s/σ)·x + (1 - s/σ)·D(x, σ),     x' = (σ'/σ)·x + (1 - σ'/σ)·D(u, s)

η > 0 puts σ_down in place of σ' and adds noise of deviation σ_up (k-diffusion's "2S ancestral").

Reference: Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 1 with r = 1/2.
"""

from collections.abc import Sequence

import numpy as np

from keras_ldm.samplers.ancestral import ancestral_levels
from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def dpmpp_2s(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    eta: float = 0.0,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with DPM-Solver++(2S), of order 2, calling the denoiser twice a step.

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
        if sigma_down == 0:
            stages = [Stage(sigma, [denoised, state], sigma_up)]
        else:
            middle = float(np.sqrt(sigma * sigma_down))
            half, whole = middle / sigma, sigma_down / sigma
            stages = [
                Stage(sigma, [half * state + (1 - half) * denoised, state]),
                Stage(middle, [whole * start + (1 - whole) * denoised, start], sigma_up),
            ]
        steps.append(stages)
    return solve(denoise, x, steps, seed=seed, callback=callback)
