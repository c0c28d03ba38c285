r"""DPM-Solver++(3M) SDE: the third-order multistep solver of the reverse diffusion equation.

With λ = -log σ, h = λ' - λ, k = (1 + η)h, and d₁, d₂ the first and second differences of the last three
estimates in units of h:

    x' = e^{-k}·x + (1 - e^{-k})·D + φ₂·d₁ - φ₃·d₂ + σ'·\sqrt{1 - e^{-2ηh}}·z
    φ₂ = (e^{-k} - 1)/k + 1,     φ₃ = φ₂/k - 1/2

The first two steps have fewer estimates; a step to σ' = 0 ends at D.

Reference: `sample_dpmpp_3m_sde` of k-diffusion; Lu et al. 2022, https://arxiv.org/abs/2211.01095,
appendix B for the differences.
"""

from collections.abc import Sequence

import numpy as np

from keras_ldm.samplers.ancestral import check_eta
from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def dpmpp_3m_sde(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    eta: float = 1.0,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with DPM-Solver++(3M) SDE.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[0]`, `x0 + sigmas[0] * noise`.
        sigmas: falling noise levels, one more than the steps.
        eta: share of the noise of the reverse diffusion; 0 for none.
        seed: where noise comes from: an int, one int an image, or a function of the shape.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `sigmas` do not fall or `eta` is negative.
    """
    check_eta(eta)
    state, *past, denoised = symbols(3)
    steps = []
    intervals: list[float] = []  # the newest first
    for sigma, sigma_next in steps_between(sigmas):
        if sigma_next == 0:
            steps.append([Stage(sigma, [denoised, denoised, past[0]])])
            continue
        h = float(np.log(sigma / sigma_next))
        k = (1 + eta) * h
        new_state = np.exp(-k) * state - np.expm1(-k) * denoised
        phi_2 = np.expm1(-k) / k + 1
        phi_3 = phi_2 / k - 0.5
        if len(intervals) == 1:
            new_state = new_state + phi_2 * h / intervals[0] * (denoised - past[0])
        elif intervals:
            r_0, r_1 = (interval / h for interval in intervals)
            newer = (denoised - past[0]) / r_0
            older = (past[0] - past[1]) / r_1
            second = (newer - older) / (r_0 + r_1)
            new_state = new_state + phi_2 * (newer + r_0 * second) - phi_3 * second
        deviation = sigma_next * np.sqrt(-np.expm1(-2 * eta * h))
        steps.append([Stage(sigma, [new_state, denoised, past[0]], float(deviation))])
        intervals = [h, *intervals][:2]
    return solve(denoise, x, steps, seed=seed, callback=callback)
