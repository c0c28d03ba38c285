"""Guidance: a wrapper that makes a denoise function follow its condition more closely.

Reference: Ho & Salimans 2022, https://arxiv.org/abs/2207.12598.
"""

from keras import ops

from keras_ldm.types import DenoiseFn, Tensor


def classifier_free_guidance(denoise: DenoiseFn, scale: float) -> DenoiseFn:
    """Extrapolates from the unconditional estimate through the conditional one.

        x0 = x0_uncond + scale * (x0_cond - x0_uncond)

    The estimates of the clean latents, of the noise and of v are affine in one another, so guiding
    one guides them all.

    Args:
        denoise: takes a batch of twice the size, the first half to be denoised with the negative or
            empty condition, the second half with the condition, and is called once a step.
        scale: 1 follows the condition as trained, more exaggerates it, 0 ignores it.
    """

    def guided(x: Tensor, sigma: float) -> Tensor:
        unconditional, conditional = ops.split(denoise(ops.concatenate([x, x]), sigma), 2)
        return unconditional + scale * (conditional - unconditional)

    return guided
