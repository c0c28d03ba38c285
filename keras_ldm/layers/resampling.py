"""Halving and doubling of images.

Reference: `Downsample` and `Upsample` of the original's `model.py` (autoencoder) and
`openaimodel.py` (U-Net). They pad differently: the autoencoder's halving pads only below and to the
right, the U-Net's on all sides.
"""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_ldm.types import Config, Shape, Tensor

# Which weights of a 3-wide kernel meet the same pixel, for the 4 outputs that a doubled pixel reaches.
_MERGE_ROWS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=np.float32)
_MERGE = np.kron(_MERGE_ROWS, _MERGE_ROWS)  # the same for the 9 of a 3x3 kernel and 4x4 outputs


def repeat_pixels(images: Tensor) -> Tensor:
    """Doubles height and width of `(batch, height, width, c)`, each pixel becoming four."""
    return ops.repeat(ops.repeat(images, 2, axis=1), 2, axis=2)


def average_pixels(images: Tensor) -> Tensor:
    """Halves height and width of `(batch, height, width, c)`, four pixels becoming their mean."""
    return ops.average_pool(images, 2, 2, padding="valid", data_format="channels_last")


@keras.saving.register_keras_serializable("keras_ldm")
class Downsample(keras.layers.Layer):
    """Halves height and width with a 3x3 convolution of stride 2.

    Args:
        channels: output channels.
        padding: "symmetric" (one pixel on every side, the U-Net's) or "asymmetric" (below and to
            the right only, the autoencoder's).
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, height, width, c)`. Output shape: `(batch, height/2, width/2, channels)`.

    Raises:
        ValueError: if `padding` is neither of the two.
    """

    def __init__(
        self,
        channels: int,
        padding: Literal["symmetric", "asymmetric"] = "symmetric",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if padding not in ("symmetric", "asymmetric"):
            raise ValueError(
                f"Expected `padding` to be 'symmetric' or 'asymmetric'. Received: {padding!r}"
            )
        self.channels = channels
        self.padding = padding
        self.conv = keras.layers.Conv2D(
            channels,
            3,
            strides=2,
            padding="valid",
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="conv",
        )

    def build(self, input_shape: Shape) -> None:
        """Builds the convolution."""
        self.conv.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Pads and convolves."""
        before = 1 if self.padding == "symmetric" else 0
        return self.conv(ops.pad(inputs, ((0, 0), (before, 1), (before, 1), (0, 0))))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Half the sides."""
        odd = 1 if self.padding == "symmetric" else 0
        sides = (None if side is None else (side + odd) // 2 for side in input_shape[1:3])
        return (input_shape[0], *sides, self.channels)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels, "padding": self.padding}


@keras.saving.register_keras_serializable("keras_ldm")
class Upsample(keras.layers.Layer):
    """Doubles height and width by repeating pixels, then a 3x3 convolution.

    Both together are a transposed convolution with a 4x4 kernel, each of whose weights is the sum of
    those that meet the same pixel: 16 products for four output pixels in place of 36, and the image
    of repeated pixels never exists.

    Args:
        channels: output channels.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, height, width, c)`. Output shape: `(batch, 2·height, 2·width, channels)`.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.conv = keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="conv",
        )

    def build(self, input_shape: Shape) -> None:
        """Builds the convolution."""
        self.conv.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Repeats and convolves."""
        kernel = ops.cast(self.conv.kernel, self.compute_dtype)
        kernel = ops.transpose(kernel, (0, 1, 3, 2))
        merge = ops.convert_to_tensor(_MERGE, dtype=self.compute_dtype)
        merged = ops.matmul(merge, ops.reshape(kernel, (9, -1)))
        images = ops.conv_transpose(
            inputs,
            ops.reshape(merged, (4, 4, *kernel.shape[2:])),
            strides=2,
            padding="same",
            data_format="channels_last",
        )
        return images + ops.cast(self.conv.bias, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Twice the sides."""
        sides = (None if side is None else 2 * side for side in input_shape[1:3])
        return (input_shape[0], *sides, self.channels)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}
