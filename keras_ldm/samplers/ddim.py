r"""DDIM: denoising diffusion implicit models.

With `x = x0 + σ·ε`, from level σ to σ' (equation 12 divided by \sqrt{ᾱ'}):

    x' = x0 + \sqrt{σ'² - σ_up²}·ε + σ_up·z,     σ_up² = η² σ'² (1 - (σ'/σ)²)

where σ_up is equation 16 in terms of σ, with ᾱ = 1/(1 + σ²).
η = 0 is deterministic, η = 1 is DDPM's ancestral sampling.

Reference: Song et al. 2020, https://arxiv.org/abs/2010.02502.
"""

from collections.abc import Sequence

from keras_ldm.samplers.ancestral import ancestral_levels
from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def ddim(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    eta: float = 0.0,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with DDIM.

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
        noise = (state - denoised) / sigma
        steps.append([Stage(sigma, [denoised + sigma_down * noise], sigma_up)])
    return solve(denoise, x, steps, seed=seed, callback=callback)
