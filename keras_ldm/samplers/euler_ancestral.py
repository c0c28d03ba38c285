r"""Euler's method with ancestral noise.

Euler's step from σ to σ_down, then noise of deviation σ_up leads to σ'. It equals DDIM with the same η.

Reference: `sample_euler_ancestral` of Katherine Crowson's k-diffusion; Song et al. 2020,
https://arxiv.org/abs/2010.02502, equation 16 for σ_up.
"""

from collections.abc import Sequence

from keras_ldm.samplers.ancestral import ancestral_levels
from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def euler_ancestral(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    eta: float = 1.0,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with Euler's method and ancestral noise.

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
    state, denoised = symbols(1)
    steps = []
    for sigma, sigma_next in steps_between(sigmas):
        sigma_down, sigma_up = ancestral_levels(sigma, sigma_next, eta)
        slope = (state - denoised) / sigma
        steps.append([Stage(sigma, [state + (sigma_down - sigma) * slope], sigma_up)])
    return solve(denoise, x, steps, seed=seed, callback=callback)
