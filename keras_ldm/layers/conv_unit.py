"""What classifiers of images are built from: convolution, batch normalization, activation."""

from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class ConvUnit(keras.layers.Layer):
    """A convolution without bias, batch normalization by running statistics, and an activation.

    The statistics are never updated: it is for networks that others have trained.

    Args:
        filters: channels of the output; None for a convolution of each channel by itself.
        kernel_size: one side or both.
        strides: of both sides.
        padding: "same" or "valid".
        activation: "relu", "relu6" or None.
        epsilon: added to the variance.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, h, w, filters)`.
    """

    def __init__(
        self,
        filters: int | None,
        kernel_size: int | tuple[int, int] = 1,
        strides: int = 1,
        padding: Literal["same", "valid"] = "same",
        activation: Literal["relu", "relu6"] | None = "relu",
        epsilon: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.activation = activation
        self.epsilon = epsilon
        options = {
            "strides": strides,
            "padding": padding,
            "data_format": "channels_last",
            "use_bias": False,
            "dtype": self.dtype_policy,
            "name": "conv",
        }
        self.conv = (
            keras.layers.DepthwiseConv2D(kernel_size, **options)
            if filters is None
            else keras.layers.Conv2D(filters, kernel_size, **options)
        )
        self.norm = keras.layers.BatchNormalization(
            epsilon=epsilon, dtype=self.dtype_policy, name="norm"
        )

    def build(self, input_shape: Shape) -> None:
        """Builds both layers."""
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, inputs: Tensor) -> Tensor:
        """Applies them."""
        x = self.norm(self.conv(inputs), training=False)
        if self.activation is None:
            return x
        return ops.relu(x) if self.activation == "relu" else ops.relu6(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the convolution."""
        shape: Shape = self.conv.compute_output_shape(input_shape)
        return shape

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "activation": self.activation,
            "epsilon": self.epsilon,
        }
