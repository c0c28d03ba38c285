r"""DDIM inversion: from latents back to the noise that DDIM makes them of.

DDIM's deterministic step from σ to σ' = σ + Δ, upwards, with the noise estimated at its lower end:

    x' = x + (σ' - σ)·ε(x, σ)

The way back follows the same trajectory but for the change of ε within a step: the more steps, the
closer.

Reference: Song et al. 2020, https://arxiv.org/abs/2010.02502, section 4.3; Mokady et al. 2022,
https://arxiv.org/abs/2211.09794, equation 3.
"""

from collections.abc import Sequence

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def ddim_inversion(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Runs DDIM backwards.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[-1]`.
        sigmas: falling noise levels, those that `ddim` is to visit; this goes through them backwards.
        seed: not used, since nothing is drawn.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[0]`.

    Raises:
        ValueError: if `sigmas` do not fall.
    """
    state, denoised = symbols(1)
    steps = []
    for sigma_next, sigma in reversed(steps_between(sigmas)):
        level = sigma if sigma > 0 else sigma_next  # nothing can be asked at 0
        noise = (state - denoised) / level
        steps.append([Stage(level, [state + (sigma_next - sigma) * noise])])
    return solve(denoise, x, steps, seed=seed, callback=callback)
