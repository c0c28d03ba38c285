"""Group normalization in two passes over the data, with SiLU after it where it is wanted.

The mean of each channel is taken first, then the variance of each channel around it, and only these
small arrays are combined into groups: the variance of a group is the mean of its channels' variances
plus the variance of their means. It is as stable as the textbook form, and the images themselves
are never reshaped into groups.

With r = 1/√(variance + ε) of a group, x̂ = (x - mean)·r and y = γ·x̂ + β, the gradient is

    dx = r·(γ·dy - mean(γ·dy) - x̂·mean(γ·dy·x̂)),   dγ = Σ dy·x̂,   dβ = Σ dy

with means over a group. Written out, it needs sums of `dy` and `dy·x` over the pixels and is then again
one scale and offset a channel, of x and of dy: half the passes over the data that TensorFlow's own
differentiation makes.

Reference: Wu & He 2018, https://arxiv.org/abs/1803.08494.
"""

from collections.abc import Callable
from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.backend import in_one_pass, with_own_gradient
from keras_ldm.layers.reshaping import as_tokens, reshape_examples, reshape_like
from keras_ldm.layers.shared_statistics import SharedStatistics, shared_statistics
from keras_ldm.types import Config, Shape, Tensor


def _statistics(x: Tensor, groups: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and 1/√(variance + ε) of each group of `(batch, n, c)`, both `(batch, groups, 1)`."""
    mean = ops.mean(x, axis=1, keepdims=True)
    variance = ops.mean(ops.square(x - mean), axis=1, keepdims=True)
    grouped = (groups, x.shape[-1] // groups)
    means = reshape_examples(mean, grouped)
    group_mean = ops.mean(means, axis=-1, keepdims=True)
    group_variance = ops.mean(
        reshape_examples(variance, grouped) + ops.square(means - group_mean), axis=-1, keepdims=True
    )
    return group_mean, ops.rsqrt(group_variance + epsilon)


@in_one_pass
def _before_silu(upstream: Tensor, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The gradient of `y = scale·x + shift` from that of `silu(y)`."""
    y = x * scale + shift
    gate = ops.sigmoid(y)
    return upstream * gate * (1.0 + y * (1.0 - gate))


@in_one_pass
def _affine(dy: Tensor, scale: Tensor, x: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    return dy * scale + (x * slope + offset)


def _normalize(
    x: Tensor, gamma: Tensor, beta: Tensor, groups: int, epsilon: float, silu: bool
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """`silu(γ·x̂ + β)` or `γ·x̂ + β` of `(batch, n, c)`, and what turns its gradient into the inputs'."""
    channels = x.shape[-1]
    pixels = ops.cast(ops.shape(x)[1], "float32") if x.shape[1] is None else float(x.shape[1])

    def spread(values: Tensor) -> Tensor:
        return reshape_examples(ops.tile(values, (1, 1, channels // groups)), (1, channels))

    group_mean, group_rate = _statistics(x, groups, epsilon)
    mean, rate = spread(group_mean), spread(group_rate)
    scale = rate * gamma
    shift = beta - mean * scale
    y = x * scale + shift
    output = ops.silu(y) if silu else y

    def gradient(upstream: Tensor) -> tuple[Tensor, ...]:
        dy = _before_silu(upstream, x, scale, shift) if silu else upstream
        total = ops.sum(dy, axis=1, keepdims=True)
        aligned = (ops.sum(dy * x, axis=1, keepdims=True) - mean * total) * rate  # Σ dy·x̂

        def group_mean_of(sums: Tensor) -> Tensor:
            grouped = reshape_examples(sums * gamma, (groups, channels // groups))
            return spread(ops.mean(grouped, axis=-1, keepdims=True) / pixels)

        slope = -rate * rate * group_mean_of(aligned)
        offset = -rate * group_mean_of(total) - mean * slope
        return _affine(dy, scale, x, slope, offset), ops.sum(aligned, (0, 1)), ops.sum(total, (0, 1))

    return output, gradient


@keras.saving.register_keras_serializable("keras_ldm")
class GroupNorm(keras.layers.Layer):
    """Group normalization over the channels of images, computed in float32.

    Args:
        groups: number of groups; the channels must divide by it.
        epsilon: added to the variance. The original uses 1e-6 in the autoencoder and before the
            spatial transformer, 1e-5 in the U-Net; Keras's own default is 1e-3.
        activation: "silu" or None: what follows.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, ..., channels)`. Output shape: the same.

    Raises:
        ValueError: for another activation; when built with channels that do not divide by `groups`.
    """

    def __init__(
        self,
        groups: int = 32,
        epsilon: float = 1e-5,
        activation: Literal["silu"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if activation not in (None, "silu"):
            raise ValueError(f"Expected `activation` to be None or 'silu'. Received: {activation!r}")
        self.groups = groups
        self.epsilon = epsilon
        self.activation = activation

    def build(self, input_shape: Shape) -> None:
        """Makes the scale and offset of each channel."""
        channels = input_shape[-1]
        if channels is None or channels % self.groups:
            raise ValueError(
                f"Expected a number of channels that divides by {self.groups} groups. "
                f"Received: input shape {tuple(input_shape)}"
            )
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", autocast=False, name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", autocast=False, name="beta")

    def call(self, inputs: Tensor) -> Tensor:
        """Normalizes each example's groups to mean 0 and variance 1, scales, shifts, activates."""
        shared = shared_statistics()
        if shared is not None:
            return self._normalize_tiles(inputs, shared)
        x = as_tokens(ops.cast(inputs, "float32"))
        normalize = with_own_gradient(
            lambda x, gamma, beta: _normalize(
                x, gamma, beta, self.groups, self.epsilon, self.activation == "silu"
            )
        )
        y = normalize(x, ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32"))
        return reshape_like(ops.cast(y, self.compute_dtype), inputs)

    def _normalize_tiles(self, inputs: Tensor, shared: SharedStatistics) -> Tensor:
        """Normalizes `(tiles, height, width, channels)` by statistics that tiles of an image share."""
        x = ops.cast(inputs, "float32")
        by_group = (self.groups, x.shape[-1] // self.groups)
        gamma, beta = (ops.reshape(ops.cast(y, "float32"), by_group) for y in (self.gamma, self.beta))
        mean, variance = (y[..., None] for y in shared.of(x, self.groups))
        scale = ops.rsqrt(variance + self.epsilon) * gamma
        shift = beta - mean * scale
        y = x * ops.reshape(scale, (-1, 1, 1, x.shape[-1])) + ops.reshape(shift, (-1, 1, 1, x.shape[-1]))
        return ops.cast(ops.silu(y) if self.activation == "silu" else y, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "groups": self.groups,
            "epsilon": self.epsilon,
            "activation": self.activation,
        }
