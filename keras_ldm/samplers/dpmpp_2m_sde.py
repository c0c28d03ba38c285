r"""DPM-Solver++(2M) SDE: the second-order multistep solver of the reverse diffusion equation.

With λ = -log σ, h = λ' - λ, r = h_{last}/h and k = (1 + η)h:

    x' = (σ'/σ)·e^{-ηh}·x + (1 - e^{-k})·D_i + c·(D_i - D_{i-1})/r + σ'·\sqrt{1 - e^{-2ηh}}·z
    c = (1 - e^{-k})/2  (midpoint),     c = 1 - (1 - e^{-k})/k  (Heun)

The first step takes D_i alone, and a step to σ' = 0 ends at it. η = 0 with the midpoint is 2M.

Reference: Lu et al. 2022, https://arxiv.org/abs/2211.01095, section 5; `sample_dpmpp_2m_sde` of
k-diffusion.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from keras_ldm.samplers.ancestral import check_eta
from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def dpmpp_2m_sde(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    eta: float = 1.0,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with DPM-Solver++(2M) SDE.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[0]`, `x0 + sigmas[0] * noise`.
        sigmas: falling noise levels, one more than the steps.
        eta: share of the noise of the reverse diffusion; 0 for none.
        solver_type: "midpoint" or "heun".
        seed: where noise comes from: an int, one int an image, or a function of the shape.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `sigmas` do not fall, `eta` is negative or `solver_type` is unknown.
    """
    check_eta(eta)
    if solver_type not in ("midpoint", "heun"):
        raise ValueError(f"Expected `solver_type` to be 'midpoint' or 'heun'. Received: {solver_type!r}")
    state, previous, denoised = symbols(2)
    steps = []
    h_last = None
    for sigma, sigma_next in steps_between(sigmas):
        if sigma_next == 0:
            steps.append([Stage(sigma, [denoised, denoised])])
            continue
        h = np.log(sigma / sigma_next)
        k = (1 + eta) * h
        weight = -np.expm1(-k)
        new_state = np.exp(-k) * state + weight * denoised
        if h_last is not None:
            correction = weight / 2 if solver_type == "midpoint" else 1 - weight / k
            new_state = new_state + correction * h / h_last * (denoised - previous)
        deviation = sigma_next * np.sqrt(-np.expm1(-2 * eta * h))
        steps.append([Stage(sigma, [new_state, denoised], float(deviation))])
        h_last = h
    return solve(denoise, x, steps, seed=seed, callback=callback)
