r"""DDPM: ancestral sampling from the learned reverse process.

With `x = x0 + σ·ε`, the posterior q(x' | x, x0) at level σ' < σ is normal with

    mean = x0 + (σ'/σ)² (x - x0),     variance = σ'² (1 - (σ'/σ)²)

which is DDPM's equations 6 and 7 divided by \sqrt{ᾱ'}. The other choice of variance that the paper
names is β = 1 - ᾱ/ᾱ', here β/ᾱ' = (1 + σ'²)(1 - (1 + σ'²)/(1 + σ²)). The last step adds no noise.

Reference: Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 3.2.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def ddpm(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    variance: Literal["small", "large"] = "small",
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with DDPM's ancestral sampler.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[0]`, `x0 + sigmas[0] * noise`.
        sigmas: falling noise levels, one more than the steps.
        variance: of the noise added at each step: "small", the posterior's, or "large", beta.
        seed: where noise comes from: an int, one int an image, or a function of the shape.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `sigmas` do not fall or `variance` is neither "small" nor "large".
    """
    if variance not in ("small", "large"):
        raise ValueError(f"Expected `variance` to be 'small' or 'large'. Received: {variance!r}")
    state, denoised = symbols(1)
    steps = []
    for sigma, sigma_next in steps_between(sigmas):
        ratio = (sigma_next / sigma) ** 2
        small = sigma_next**2 * (1 - ratio)
        large = (1 + sigma_next**2) * (1 - (1 + sigma_next**2) / (1 + sigma**2))
        deviation = np.sqrt(small if variance == "small" else large) if sigma_next > 0 else 0.0
        steps.append([Stage(sigma, [denoised + ratio * (state - denoised)], float(deviation))])
    return solve(denoise, x, steps, seed=seed, callback=callback)
