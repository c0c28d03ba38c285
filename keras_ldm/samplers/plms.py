r"""PLMS: pseudo linear multistep, the original's fast sampler.

DDIM's step without noise, `x' = x + (σ' - σ)·ε`, with an average of this and earlier estimates of the
noise (Adams-Bashforth, up to the fourth order). The first step has no earlier ones: it asks the network
a second time, at the end of the step.

Reference: Liu et al. 2022, https://arxiv.org/abs/2202.09778; `PLMSSampler` of the original code.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from keras_ldm.types import Array, DenoiseFn, SamplerSeed, SamplerStep, StepCallback, Tensor

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
    """
    levels = np.asarray(sigmas, dtype=np.float64)
    estimates: list[Tensor] = []  # of the noise, the newest first
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x, float(sigma))
        noise = (x - denoised) / float(sigma)
        estimates = [noise, *estimates[:3]]
        step = float(sigma_next - sigma)
        if len(estimates) > 1:
            weights = _ADAMS_BASHFORTH[len(estimates)]
            noise = sum(w * e for w, e in zip(weights, estimates, strict=True))
        elif sigma_next > 0:
            ahead = x + step * noise
            noise_ahead = (ahead - denoise(ahead, float(sigma_next))) / float(sigma_next)
            noise = (noise + noise_ahead) / 2.0
        x = x + step * noise
        if callback is not None:
            callback(SamplerStep(i, len(levels) - 1, float(sigma), x, denoised))
    return x
