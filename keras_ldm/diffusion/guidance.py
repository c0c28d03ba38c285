"""Guidance: wrappers that make a denoise function follow a condition more closely.

They take a denoise function and give one, so that they compose.
"""

from collections.abc import Callable

from keras import ops

from keras_ldm.backend import gradient
from keras_ldm.types import DenoiseFn, Tensor


def classifier_free_guidance(
    denoise: DenoiseFn,
    scale: Tensor,
    *,
    rescale: Tensor = 0.0,
    interval: tuple[Tensor, Tensor] | None = None,
    origin: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> DenoiseFn:
    """Extrapolates from the unconditional estimate through the conditional one.

        x0 = x0_uncond + scale * (x0_cond - x0_uncond)

    The estimates of the clean latents, of the noise and of v are affine in one another, so guiding
    one guides them all.

    Args:
        denoise: takes a batch of twice the size, the first half to be denoised with the negative or
            empty condition, the second half with the condition, and is called once a step.
        scale: 1 follows the condition as trained, more exaggerates it, 0 ignores it.
        rescale: from 0 to 1: how far the guided output of the network is brought back to the deviation
            of the conditional one, against overexposed images.
        interval: noise levels (low, high] at which to guide; at others the scale is 1.
        origin: `(x, sigma)` -> the estimate that an output of zero stands for, `Denoiser.origin`, for
            `rescale`; by default x, that of a network that predicts the noise.

    Reference: Ho & Salimans 2022, https://arxiv.org/abs/2207.12598; Lin et al. 2023,
    https://arxiv.org/abs/2305.08891, section 3.4 (rescale); Kynkäänniemi et al. 2024,
    https://arxiv.org/abs/2404.07724 (interval).
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        unconditional, conditional = ops.split(denoise(ops.concatenate([x, x]), sigma), 2)
        weight = scale
        if interval is not None:
            low, high = interval
            inside = ops.logical_and(sigma > low, sigma <= high)
            weight = ops.where(inside, ops.cast(scale, x.dtype), 1.0)
        estimate = unconditional + weight * (conditional - unconditional)
        if isinstance(rescale, (int, float)) and rescale == 0:
            return estimate
        # An estimate lies as far from the origin as the output from zero, but for a factor.
        zero = x if origin is None else origin(x, sigma)
        factor = _deviation(conditional - zero) / ops.maximum(_deviation(estimate - zero), 1e-20)
        return zero + (rescale * factor + (1 - rescale)) * (estimate - zero)

    return guided


def _deviation(x: Tensor) -> Tensor:
    """The standard deviation of each example."""
    return ops.std(x, axis=tuple(range(1, len(x.shape))), keepdims=True)


def classifier_guidance(
    denoise: DenoiseFn, log_probability: Callable[[Tensor, Tensor], Tensor], scale: Tensor = 1.0
) -> DenoiseFn:
    """Moves the estimate to where a classifier of noisy latents sees the wanted class.

        x0 = x0 + scale * σ² * ∇_x log p(class | x, σ)

    which adds the gradient to the score (x0 - x) / σ².

    Args:
        denoise: over `x = x0 + sigma * noise`.
        log_probability: `(x, sigma)` -> log-probability of each example's wanted class, `(batch,)`.
        scale: 1 samples from p(x | class), more exaggerates the class, 0 leaves the estimate.

    Reference: Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 4 and algorithm 2.
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        x = ops.convert_to_tensor(x)
        slope = gradient(lambda x: log_probability(x, sigma), x)
        return denoise(x, sigma) + scale * sigma**2 * slope

    return guided
