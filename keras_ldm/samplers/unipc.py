r"""UniPC: a predictor and a corrector of one form.

With λ = -log σ, h = λ' - λ, estimates D_0 at the start of the step and D_k at λ_k = λ + r_k·h, and a
function B(h), the step is

    x' = (σ'/σ)·x + (1 - e^{-h})·D_0 + B(h)·Σ_k ρ_k·(D_k - D_0)/r_k

The predictor has the estimates of earlier steps, r_k < 0. Once the network has been asked at its result,
the corrector makes the step again with that estimate too, r = 1, which costs nothing more and raises the
order by one. The weights ρ solve Σ_k ρ_k·r_k^{n-1} = b_n (the paper's equation 5, for data prediction).
Orders rise from 1 and, as the paper does for few steps, fall to 1 at the end.

Reference: Zhao et al. 2023, https://arxiv.org/abs/2302.04867, algorithms 1 to 4.
"""

from collections.abc import Sequence
from math import factorial
from typing import Literal

import numpy as np

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def unipc(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    order: int = 2,
    variant: Literal["bh1", "bh2"] = "bh2",
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with UniPC.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[0]`, `x0 + sigmas[0] * noise`.
        sigmas: falling noise levels, one more than the steps.
        order: of the predictor, from 1 to 4; the corrector's is one higher.
        variant: B(h): "bh1" for h, "bh2" for 1 - e^{-h}.
        seed: not used, since nothing is drawn.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `sigmas` do not fall or an option is none of those named.
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"Expected `order` from 1 to 4. Received: {order}")
    if variant not in ("bh1", "bh2"):
        raise ValueError(f"Expected `variant` to be 'bh1' or 'bh2'. Received: {variant!r}")
    state, start, *past, denoised = symbols(order + 2)  # past: estimates, the newest first
    pairs = steps_between(sigmas)
    levels = [sigma for sigma, _ in pairs]
    steps = []
    last_order = 0
    for i, (sigma, sigma_next) in enumerate(pairs):
        corrected = state
        if i > 0:
            older = list(zip(levels[i - 1 :: -1], past, strict=False))[:last_order]
            corrected = _step(start, sigma, older, (sigma, denoised), variant)
        last_order = min(order, i + 1, len(pairs) - i)
        known = list(zip(levels[i::-1], [denoised, *past], strict=False))[:last_order]
        predicted = _step(corrected, sigma_next, known, None, variant)
        steps.append([Stage(sigma, [predicted, corrected, denoised, *past[: order - 1]])])
    return solve(denoise, x, steps, seed=seed, callback=callback)


def _step(
    state: Array,
    sigma_next: float,
    estimates: Sequence[tuple[float, Array]],
    ahead: tuple[float, Array] | None,
    variant: str,
) -> Array:
    """A step of the predictor or, with an estimate at its end, of the corrector.

    Args:
        state: x at the level of the first estimate.
        sigma_next: noise level after the step.
        estimates: levels and estimates, the newest first.
        ahead: level and estimate at the end of the step.
        variant: of B(h).
    """
    (sigma, newest), *others = estimates
    ratio = sigma_next / sigma
    new_state = ratio * state + (1 - ratio) * newest
    if ahead is not None:
        others = [*others, ahead]
    if not others:
        return new_state
    h = -np.log(ratio)
    scale = h if variant == "bh1" else -np.expm1(-h)
    distances = np.array([np.log(sigma / level) / h for level, _ in others])
    weights = _weights(distances, h, scale)
    differences = [(estimate - newest) / r for r, (_, estimate) in zip(distances, others, strict=True)]
    return new_state + scale * np.dot(weights, differences)


def _weights(distances: Array, h: float, scale: float) -> Array:
    """ρ, with b_n = n!/B(h) times the integral of e^{-(h - τ)}·(τ/h)^n / n! over the step."""
    if len(distances) == 1:
        return np.array([0.5])  # enough for the order; the paper's code has it so
    rows, values = [], []
    integral = -np.expm1(-h)  # of e^{-(h - τ)}·(τ/h)^n / n!, here n = 0
    for n in range(1, len(distances) + 1):
        integral = 1 / factorial(n) - integral / h
        rows.append(distances ** (n - 1))
        values.append(integral * factorial(n) / scale)
    return np.linalg.solve(np.array(rows), np.array(values))
