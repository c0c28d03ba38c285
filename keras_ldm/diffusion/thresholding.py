"""Thresholding: wrappers that keep the estimates of a denoise function within a range."""

from keras import ops

from keras_ldm.types import DenoiseFn, Tensor


def static_thresholding(denoise: DenoiseFn, limit: Tensor = 1.0) -> DenoiseFn:
    """Clips estimates to [-limit, limit], for a model of pixels in that range.

    Args:
        denoise: the denoise function.
        limit: the largest size of an estimate.
    """
    return lambda x, sigma: ops.clip(denoise(x, sigma), -limit, limit)


def dynamic_thresholding(
    denoise: DenoiseFn, percentile: float = 0.995, maximum: float | None = None
) -> DenoiseFn:
    """Clips each estimate at a percentile of its own sizes, if above 1, and divides it by that.

    It takes back the saturation that strong guidance brings to a model of pixels in [-1, 1]. Latents
    have no such range: it is not for them.

    Args:
        denoise: the denoise function.
        percentile: share of an example's components that are left as they are, in (0, 1].
        maximum: at most so large a threshold; by default any.

    Raises:
        ValueError: for a percentile outside (0, 1] or a maximum below 1.

    Reference: Saharia et al. 2022, https://arxiv.org/abs/2205.11487, section 2.3.
    """
    if not 0 < percentile <= 1:
        raise ValueError(f"Expected `percentile` in (0, 1]. Received: {percentile}")
    if maximum is not None and maximum < 1:
        raise ValueError(f"Expected `maximum` >= 1. Received: {maximum}")

    def thresholded(x: Tensor, sigma: Tensor) -> Tensor:
        estimate = denoise(x, sigma)
        shape = ops.shape(estimate)
        sizes = ops.reshape(ops.abs(estimate), (shape[0], -1))
        threshold = ops.maximum(ops.quantile(sizes, percentile, axis=1), 1.0)
        if maximum is not None:
            threshold = ops.minimum(threshold, maximum)
        threshold = ops.reshape(threshold, (-1, *[1] * (len(shape) - 1)))
        return ops.clip(estimate, -threshold, threshold) / threshold

    return thresholded
