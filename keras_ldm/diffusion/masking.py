"""Mask blending: a wrapper that fills in part of known latents with a model not trained for it."""

from collections.abc import Callable

from keras_ldm.types import DenoiseFn, Tensor


def _add_noise(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    return latents + sigma * noise


def mask_blending(
    denoise: DenoiseFn,
    known: Tensor,
    mask: Tensor,
    noise: Tensor,
    *,
    add_noise: Callable[[Tensor, Tensor, Tensor], Tensor] = _add_noise,
) -> DenoiseFn:
    """Shows the denoise function the known latents, with noise, where they are to stay.

        x = mask·x + (1 - mask)·(known + σ·noise),     x0 = mask·D(x, σ) + (1 - mask)·known

    Args:
        denoise: the denoise function.
        known: clean latents, shaped like x.
        mask: 1 where to fill, 0 where `known` stays, `(batch, height, width, 1)`.
        noise: of unit variance, shaped like x, the same at every level.
        add_noise: `(known, noise, sigma)` -> noisy latents; `Schedule.add_noise`.

    Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, whose sampler blends at each step
    (with new noise); Lugmayr et al. 2022, https://arxiv.org/abs/2201.09865, equation 8.
    """

    def blended(x: Tensor, sigma: Tensor) -> Tensor:
        x = mask * x + (1.0 - mask) * add_noise(known, noise, sigma)
        return mask * denoise(x, sigma) + (1.0 - mask) * known

    return blended
