r"""DDIM: denoising diffusion implicit models.

With `x = x0 + σ·ε`, from level σ to σ' (equation 12 divided by \sqrt{ᾱ'}):

    x' = x0 + \sqrt{σ'² - σ_up²}·ε + σ_up·z,     σ_up² = η² σ'² (1 - (σ'/σ)²)

where σ_up is equation 16 in terms of σ, with ᾱ = 1/(1 + σ²).
η = 0 is deterministic, η = 1 is DDPM's ancestral sampling.

Reference: Song et al. 2020, https://arxiv.org/abs/2010.02502.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from keras_ldm.samplers.noise import noise_function
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, SamplerStep, StepCallback, Tensor


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
        seed: where that noise comes from: an int, one int an image, or a function of the shape.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `eta` is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"Expected `eta` from 0 to 1. Received: {eta}")
    levels = np.asarray(sigmas, dtype=np.float64)
    draw = noise_function(seed, x.shape[0])
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x, float(sigma))
        variance = sigma_next**2 * (1 - (sigma_next / sigma) ** 2)
        sigma_up = eta * np.sqrt(variance)
        sigma_down = np.sqrt(sigma_next**2 - sigma_up**2)
        x = denoised + float(sigma_down / sigma) * (x - denoised)
        if sigma_up > 0:
            x = x + float(sigma_up) * draw(x.shape)
        if callback is not None:
            callback(SamplerStep(i, len(levels) - 1, float(sigma), x, denoised))
    return x
