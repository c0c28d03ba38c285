r"""Euler's method for the probability-flow equation.

    dx/dσ = (x - D(x, σ)) / σ,     x' = x + (σ' - σ)·dx/dσ

It equals DDIM with η = 0. Over a flow-matching model, whose levels are times t and whose state is
x = (1 - t)·x0 + t·noise, the same derivative is the velocity noise - x0, and this is its Euler sampler.

Reference: Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 3; Lipman et al. 2022,
https://arxiv.org/abs/2210.02747.
"""

from collections.abc import Sequence

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def euler(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with Euler's method, of order 1.

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
    state, denoised = symbols(1)
    steps = []
    for sigma, sigma_next in steps_between(sigmas):
        slope = (state - denoised) / sigma
        steps.append([Stage(sigma, [state + (sigma_next - sigma) * slope])])
    return solve(denoise, x, steps, seed=seed, callback=callback)
