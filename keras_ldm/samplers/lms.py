r"""Linear multistep: variable-step Adams-Bashforth.

The slopes dx/dσ = (x - D)/σ of the last steps are joined by a polynomial in σ, whose integral from σ to
σ' is the step. The first steps have fewer slopes; the first one is Euler's.

Reference: `sample_lms` of k-diffusion; Hairer et al. 1993, Solving Ordinary Differential Equations I,
section III.5.
"""

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import Polynomial

from keras_ldm.samplers.stages import Stage, solve, steps_between, symbols
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, StepCallback, Tensor


def lms(
    denoise: DenoiseFn,
    x: Tensor,
    sigmas: Sequence[float] | Array,
    *,
    order: int = 4,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Samples with a linear multistep method.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at noise level `sigmas[0]`, `x0 + sigmas[0] * noise`.
        sigmas: falling noise levels, one more than the steps.
        order: how many slopes a step uses, from 1 to 4.
        seed: not used, since nothing is drawn.
        callback: called after each step.

    Returns:
        Latents at noise level `sigmas[-1]`.

    Raises:
        ValueError: if `sigmas` do not fall or `order` is not from 1 to 4.
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"Expected `order` from 1 to 4. Received: {order}")
    state, *past, denoised = symbols(4)
    steps = []
    visited: list[float] = []  # the newest first
    for sigma, sigma_next in steps_between(sigmas):
        visited = [sigma, *visited][:order]
        slopes = [(state - denoised) / sigma, *past]
        weights = _integrals(visited, sigma_next)
        change = np.dot(weights, slopes[: len(weights)])
        steps.append([Stage(sigma, [state + change, *slopes[:3]])])
    return solve(denoise, x, steps, seed=seed, callback=callback)


def _integrals(nodes: Sequence[float], end: float) -> list[float]:
    """Integrals from `nodes[0]` to `end` of the nodes' Lagrange polynomials."""
    length = end - nodes[0]
    places = [(node - nodes[0]) / length for node in nodes]  # the step is from 0 to 1
    integrals = []
    for place in places:
        basis = Polynomial([1.0])
        for other in places:
            if other != place:
                basis *= Polynomial([-other, 1.0]) / (place - other)
        integrals.append(length * float(basis.integ()(1.0)))
    return integrals
