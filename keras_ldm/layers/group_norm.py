"""Group normalization in two passes over the data.

The mean of each channel is taken first, then the variance of each channel around it, and only these
small arrays are combined into groups: the variance of a group is the mean of its channels' variances
plus the variance of their means. It is as stable as the textbook form, and the images themselves
are never reshaped into groups.

Reference: Wu & He 2018, https://arxiv.org/abs/1803.08494.
"""

from typing import Any

import keras
from keras import ops

from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class GroupNorm(keras.layers.Layer):
    """Group normalization over the channels of images, computed in float32.

    Args:
        groups: number of groups; the channels must divide by it.
        epsilon: added to the variance. The original uses 1e-6 in the autoencoder and before the
            spatial transformer, 1e-5 in the U-Net; Keras's own default is 1e-3.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, ..., channels)`. Output shape: the same.

    Raises:
        ValueError: when built with channels that do not divide by `groups`.
    """

    def __init__(self, groups: int = 32, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon

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
        """Normalizes each example's groups to mean 0 and variance 1, then scales and shifts."""
        channels = inputs.shape[-1]
        shape = ops.shape(inputs)
        x = ops.reshape(ops.cast(inputs, "float32"), (shape[0], -1, channels))
        mean = ops.mean(x, axis=1, keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=1, keepdims=True)

        grouped = (shape[0], self.groups, channels // self.groups)
        means = ops.reshape(mean, grouped)
        group_mean = ops.mean(means, axis=-1, keepdims=True)
        group_variance = ops.mean(
            ops.reshape(variance, grouped) + ops.square(means - group_mean), axis=-1, keepdims=True
        )
        scale = ops.broadcast_to(ops.rsqrt(group_variance + self.epsilon), grouped)
        per_channel = (shape[0], 1, channels)
        scale = ops.reshape(scale, per_channel) * ops.cast(self.gamma, "float32")
        offset = ops.cast(self.beta, "float32") - scale * ops.reshape(
            ops.broadcast_to(group_mean, grouped), per_channel
        )
        return ops.reshape(ops.cast(x * scale + offset, self.compute_dtype), shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}
