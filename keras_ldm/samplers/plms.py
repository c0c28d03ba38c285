r"""PLMS: pseudo linear multistep, the original's fast sampler.

DDIM's step without noise, `x' = x + (σ' - σ)·ε`, with an average of this and earlier estimates of the
noise (Adams-Bashforth, up to the fourth order). The first step has no earlier ones: it asks the network
a second time, at the end of the step.

Reference: Liu et al. 2022, https://arxiv.org/abs/2202.09778; `PLMSSampler` of the original code.
"""

from collections.abc import Sequence

import numpy as np

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor

# Weights of this estimate, the last one, the one before, ...
_ADAMS_BASHFORTH = {
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def plms(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with PLMS, calling the network once more than there are steps.

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
    state, start, *past, denoised = symbols(5)  # past: estimates of the noise, the newest first
    steps: list[list[Stage]] = []
    for sigma, sigma_next in steps_between(sigmas):
        change = sigma_next - sigma
        noise = (state - denoised) / sigma
        if steps:
            weights = _ADAMS_BASHFORTH[min(len(steps) + 1, 4)]
            average = np.dot(weights, [noise, *past][: len(weights)])
            steps.append([Stage(sigma, [state + change * average, start, noise, *past[:2]])])
            continue
        steps.append([Stage(sigma, [state + change * noise, state, noise, *past[:2]])])
        if sigma_next > 0:
            mean = (past[0] + (state - denoised) / sigma_next) / 2
            steps[0].append(Stage(sigma_next, [start + change * mean, start, *past]))
    return solve(denoise, x, steps, seed=seed, callback=callback)
