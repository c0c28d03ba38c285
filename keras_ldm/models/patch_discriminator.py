"""Tells patches of real images from patches of reconstructed ones: PatchGAN.

Reference: Isola et al. 2017, https://arxiv.org/abs/1611.07004, section 3.2.2; `NLayerDiscriminator` of
taming-transformers, with which the original code trains its autoencoders.
"""

from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class PatchDiscriminator(keras.Model):
    """Convolutions to one logit for each patch: large where it looks real.

    Args:
        filters: width of the first convolution; each further one has twice as many, up to eight times.
        num_layers: convolutions that halve the sides; with 3, a logit sees 70x70 pixels.
        norm: "batch", as published, or None: for small batches, and where images should not matter
            to one another.
        in_channels: channels of the images, with those of a condition where there is one.
        **kwargs: see `keras.Model`.

    Input shape: `(batch, height, width, in_channels)`, floats in [-1, 1], of at least `min_size` pixels
        a side. They may be smaller than what a logit sees: the rest is padding.
    Output shape: `(batch, h, w, 1)`, float32; 6x6 logits for 64x64 pixels, 30x30 for 256x256.

    Raises:
        ValueError: for no layers, another norm, or images that are smaller or have other channels.
    """

    def __init__(
        self,
        filters: int = 64,
        num_layers: int = 3,
        norm: Literal["batch"] | None = "batch",
        in_channels: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        if norm not in ("batch", None):
            raise ValueError(f"Expected `norm` 'batch' or None. Received: {norm!r}")
        if min(filters, num_layers, in_channels) < 1:
            raise ValueError(
                "Expected `filters`, `num_layers` and `in_channels` of at least 1. Received: "
                f"filters={filters}, num_layers={num_layers}, in_channels={in_channels}"
            )
        self.filters = filters
        self.num_layers = num_layers
        self.norm = norm
        self.in_channels = in_channels
        self.rows = [
            self._make_row(index, filters * min(2**index, 8), stride=2 if index < num_layers else 1)
            for index in range(num_layers + 1)
        ]
        self.rows.append([self._convolution(1, 1, fan_in=self.rows[-1][0].filters, name="to_logits")])
        self.build()

    def _make_row(self, index: int, filters: int, stride: int) -> list[keras.layers.Layer]:
        normalizes = self.norm is not None and index > 0
        before = self.filters * min(2 ** (index - 1), 8) if index else self.in_channels
        name = f"conv{index}"
        convolution = self._convolution(filters, stride, fan_in=before, name=name, bias=not normalizes)
        if not normalizes:
            return [convolution]
        norm = keras.layers.BatchNormalization(
            momentum=0.9,
            epsilon=1e-5,
            gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
            dtype=self.dtype_policy,
            name=f"norm{index}",
        )
        return [convolution, norm]

    def _convolution(
        self, filters: int, stride: int, *, fan_in: int, name: str, bias: bool = True
    ) -> keras.layers.Conv2D:
        limit = (fan_in * 16) ** -0.5
        return keras.layers.Conv2D(
            filters,
            4,
            stride,
            padding="valid",
            use_bias=bias,
            kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02),
            bias_initializer=keras.initializers.RandomUniform(-limit, limit),
            data_format="channels_last",
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: Shape | None = None) -> None:
        """Builds every layer; the constructor has done it."""
        if self.built:
            return
        shape: Shape = (None, None, None, self.in_channels)
        for layer in (layer for row in self.rows for layer in row):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    @property
    def min_size(self) -> int:
        """The least side of an image, in pixels, that leaves one logit."""
        return int(3 * 2**self.num_layers)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """The logits of each patch."""
        sides = inputs.shape[1:3]
        if inputs.shape[-1] != self.in_channels or any(
            side is not None and side < self.min_size for side in sides
        ):
            raise ValueError(
                f"Expected images (batch, height, width, {self.in_channels}) of at least "
                f"{self.min_size} pixels a side for a discriminator with num_layers={self.num_layers}. "
                f"Received: shape {tuple(inputs.shape)}"
            )
        x = ops.cast(inputs, self.compute_dtype)
        last = len(self.rows) - 1
        for index, row in enumerate(self.rows):
            x = row[0](ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]))
            for norm in row[1:]:
                x = norm(x, training=training)
            if index < last:
                x = ops.maximum(x, 0.2 * x)  # leaky; TensorFlow's graph optimizer fails at its own
        return ops.cast(x, "float32")

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_layers": self.num_layers,
            "norm": self.norm,
            "in_channels": self.in_channels,
        }
