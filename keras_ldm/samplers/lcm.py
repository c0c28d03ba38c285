r"""Multistep consistency sampling, for latent consistency models.

A consistency model D(x, σ) leads from any level straight to the end of the trajectory. Each further step
puts fresh noise on that and leads back:

    x' = D(x, σ) + σ'·z

Reference: Song et al. 2023, https://arxiv.org/abs/2303.01469, algorithm 1; Luo et al. 2023,
https://arxiv.org/abs/2310.04378, algorithm 3.
"""

from collections.abc import Sequence

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def lcm(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with a consistency model.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[0]`, `x0 + sigmas[0] * noise`.
        sigmas: falling noise levels, one more than the steps.
        seed: where noise comes from: an int, one int an image, or a function of the shape.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `sigmas` do not fall.
    """
    _, denoised = symbols(1)
    steps = [[Stage(sigma, [denoised], sigma_next)] for sigma, sigma_next in steps_between(sigmas)]
    return solve(denoise, x, steps, seed=seed, callback=callback)
