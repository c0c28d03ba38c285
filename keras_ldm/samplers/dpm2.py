r"""DPM-Solver-2: the midpoint method in log σ.

Euler's step from σ to \sqrt{σσ'}; its slope there makes the whole step. A step to σ' = 0 is Euler's.

Reference: Lu et al. 2022, https://arxiv.org/abs/2206.00927; `sample_dpm_2` of k-diffusion.
"""

from collections.abc import Sequence

from keras_ldm.samplers.dpm2_ancestral import dpm2_ancestral
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def dpm2(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with DPM-Solver-2, of order 2, calling the denoiser twice a step.

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
    return dpm2_ancestral(denoise, x, sigmas, eta=0.0, seed=seed, callback=callback)
