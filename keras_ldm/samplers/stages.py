r"""What every sampler here is made of: evaluations of the denoiser, and weighted sums between them.

A sampler works out in advance, in float64, the weights of every sum from the noise levels alone; what
is left for the tensors is one loop for all samplers, which runs in Python or as a compiled program.

A sampler has some slots. The first holds x, the others what later stages need. A stage estimates
`denoised = denoise(x, sigma)` and fills every slot anew with a weighted sum of the slots and `denoised`.
`symbols` gives names to the unit vectors of these weights, so that a sum is written as in a paper:

    x, denoised = symbols(1)
    stages.append(Stage(sigma, [x + (sigma_next - sigma) * (x - denoised) / sigma]))
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from keras import ops

from keras_ldm.samplers.noise import noise_function
from keras_ldm.types import Array, DenoiseFn, SamplerSeed, SamplerStep, StepCallback, Tensor


@dataclass(frozen=True)
class Stage:
    """One evaluation of the denoiser, and what becomes of the slots.

    Attributes:
        sigma: noise level of the evaluation.
        slots: for each slot, its weights over the slots and `denoised`.
        noise: deviation of the noise added to x afterwards.
    """

    sigma: float
    slots: Sequence[Array]
    noise: float = 0.0


Steps = Sequence[Sequence[Stage]]  # most steps have one stage


def symbols(num_slots: int) -> Iterator[Array]:
    """The unit vectors that stand for the slots and, last, for `denoised`."""
    return iter(np.eye(num_slots + 1))


def steps_between(sigmas: Sequence[float] | Array) -> list[tuple[float, float]]:
    """Pairs of each noise level and the one after it.

    Raises:
        ValueError: if they are not a falling list of finite numbers, the last at least 0.
    """
    levels = np.asarray(sigmas, dtype=np.float64)
    if levels.ndim != 1 or not len(levels) or not np.all(np.isfinite(levels)):
        raise ValueError(f"Expected `sigmas` to be a list of finite numbers. Received: {sigmas}")
    if np.any(np.diff(levels) >= 0) or levels[-1] < 0:
        raise ValueError(f"Expected `sigmas` to fall, to 0 or above. Received: {levels}")
    return [(float(a), float(b)) for a, b in pairwise(levels)]


def solve(
    denoise: DenoiseFn,
    x: Tensor,
    steps: Steps,
    *,
    seed: SamplerSeed = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Runs the steps of a sampler.

    A denoise function that has a method `solve_steps(x, steps, draw, callback)` runs them itself, as a
    compiled program.

    Args:
        denoise: `(x, sigma)` -> estimate of the clean latents.
        x: latents at the first noise level.
        steps: the stages of each step.
        seed: where noise comes from.
        callback: called after each step.

    Returns:
        Latents at the last noise level.
    """
    x = ops.convert_to_tensor(x)
    draw = noise_function(seed, x.shape[0])
    if hasattr(denoise, "solve_steps"):
        return denoise.solve_steps(x, steps, draw, callback)
    slots = [x] * (len(steps[0][0].slots) if steps else 1)
    for i, stages in enumerate(steps):
        first_estimate = None
        for stage in stages:
            denoised = denoise(slots[0], stage.sigma)
            first_estimate = denoised if first_estimate is None else first_estimate
            known = [*slots, denoised]
            slots = [_weighted_sum(weights, known) for weights in stage.slots]
            if stage.noise > 0:
                slots[0] = slots[0] + stage.noise * ops.cast(draw(x.shape), x.dtype)
        if callback is not None:
            callback(SamplerStep(i, len(steps), stages[0].sigma, slots[0], first_estimate))
    return slots[0]


def _weighted_sum(weights: Array, tensors: Sequence[Tensor]) -> Tensor:
    """A sum without the terms of weight 0."""
    terms = [
        tensor if weight == 1 else float(weight) * tensor
        for weight, tensor in zip(weights, tensors, strict=True)
        if weight != 0
    ]
    return sum(terms[1:], start=terms[0])
