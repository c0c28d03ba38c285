r"""Heun's method for the probability-flow equation.

Euler's step from σ to σ', and then again with the mean of the slopes at its two ends. A step to σ' = 0
is Euler's.

Reference: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 1.
"""

from collections.abc import Sequence

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def heun(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with Heun's method, of order 2, calling the denoiser twice a step.

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
    state, start, first_slope, denoised = symbols(3)
    steps = []
    for sigma, sigma_next in steps_between(sigmas):
        slope = (state - denoised) / sigma
        stages = [Stage(sigma, [state + (sigma_next - sigma) * slope, state, slope])]
        if sigma_next > 0:
            mean_slope = (first_slope + (state - denoised) / sigma_next) / 2
            corrected = start + (sigma_next - sigma) * mean_slope
            stages.append(Stage(sigma_next, [corrected, start, first_slope]))
        steps.append(stages)
    return solve(denoise, x, steps, seed=seed, callback=callback)
