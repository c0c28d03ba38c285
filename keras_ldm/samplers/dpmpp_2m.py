r"""DPM-Solver++(2M): the second-order multistep solver for the denoised estimate.

With λ = -log σ, h = λ' - λ and r = h_{last}/h, the estimate is extrapolated from the last two:

    D = (1 + 1/2r)·D_i - (1/2r)·D_{i-1},     x' = (σ'/σ)·x + (1 - σ'/σ)·D

The first step, and one to σ' = 0, take D_i alone.

Reference: Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2.
"""

from collections.abc import Sequence

import numpy as np

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def dpmpp_2m(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with DPM-Solver++(2M), of order 2.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[0]`, `x0 + sigmas[0] * noise`.
        sigmas: falling noise levels, one more than the steps.
        seed: not used, since nothing is drawn.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `sigmas` do not fall.
    """
    state, previous, denoised = symbols(2)
    steps = []
    h_last = None
    for sigma, sigma_next in steps_between(sigmas):
        ratio = sigma_next / sigma
        estimate = denoised
        if sigma_next > 0:
            h = -np.log(ratio)
            if h_last is not None:
                estimate = denoised + h / (2 * h_last) * (denoised - previous)
            h_last = h
        steps.append([Stage(sigma, [ratio * state + (1 - ratio) * estimate, denoised])])
    return solve(denoise, x, steps, seed=seed, callback=callback)
