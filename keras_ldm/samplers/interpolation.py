"""Spherical interpolation, which stays where normal noise is."""

from keras import ops

from keras_ldm.types import Tensor

_PARALLEL = 1 - 1e-6


def slerp(start: Tensor, end: Tensor, weights: Tensor, num_axes: int = 1) -> Tensor:
    """Interpolates along the arc between two vectors.

        sin((1 - w)·Ω)/sin Ω · start + sin(w·Ω)/sin Ω · end,     Ω the angle between them

    Lengths change with w as those of the ends ask; parallel vectors are interpolated linearly.

    Args:
        start: `(..., *vector)`.
        end: shaped like `start`.
        weights: 0 for `start` to 1 for `end`; broadcast against all axes but the vectors'.
        num_axes: how many of the last axes make up a vector: 3 for latents, 1 for tokens.

    Returns:
        Shaped like `start`, or with as many examples as there are weights.

    Raises:
        ValueError: if the shapes differ.

    Reference: Shoemake 1985, "Animating rotation with quaternion curves"; White 2016,
    https://arxiv.org/abs/1609.04468.
    """
    start, end = ops.convert_to_tensor(start), ops.convert_to_tensor(end)
    if tuple(start.shape) != tuple(end.shape):
        raise ValueError(f"Expected two tensors of one shape. Received: {start.shape} and {end.shape}")
    dtype = start.dtype
    start, end = ops.cast(start, "float32"), ops.cast(end, "float32")
    axes = tuple(range(-num_axes, 0))

    def length(x: Tensor) -> Tensor:
        return ops.sqrt(ops.sum(x * x, axis=axes, keepdims=True))

    weights = ops.cast(ops.convert_to_tensor(weights), "float32")
    weights = ops.reshape(weights, (*weights.shape, *[1] * num_axes))
    lengths = ops.maximum(length(start) * length(end), 1e-20)
    cosine = ops.sum(start * end, axis=axes, keepdims=True) / lengths
    parallel = ops.abs(cosine) > _PARALLEL
    angle = ops.arccos(ops.where(parallel, 0.0, cosine))
    first = ops.where(parallel, 1 - weights, ops.sin((1 - weights) * angle) / ops.sin(angle))
    second = ops.where(parallel, weights, ops.sin(weights * angle) / ops.sin(angle))
    return ops.cast(first * start + second * end, dtype)
