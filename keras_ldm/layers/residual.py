"""The residual block of the autoencoder and, with a timestep embedding, of the U-Net.

    h = conv(SiLU(norm(x)));  h = h + dense(SiLU(emb));  h = conv(dropout(SiLU(norm(h))));  skip(x) + h

The embedding may scale and shift the second normalization instead, and the block may halve or double
the sides, of `x` and before the first convolution.

Reference: `ResnetBlock` (model.py) and `ResBlock` (openaimodel.py) of the original code.
"""

from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.layers.group_norm import GroupNorm
from keras_ldm.layers.resampling import average_pixels, repeat_pixels
from keras_ldm.layers.reshaping import reshape_like
from keras_ldm.types import Config, Shape, Tensor


class _PointwiseConv(keras.layers.Conv2D):
    """A 1x1 convolution, computed as the matrix product that it is: half the time of its gradient."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The products alone; Keras adds the bias."""
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        return reshape_like(ops.matmul(rows, kernel[0, 0]), inputs, self.filters)


@keras.saving.register_keras_serializable("keras_ldm")
class ResidualBlock(keras.layers.Layer):
    """Two 3x3 convolutions beside a skip connection.

    Args:
        channels: output channels.
        embedding_dim: width of an embedding to be added between the convolutions, or None.
        scale_shift: whether the embedding gives scale and shift of the second normalization instead,
            `norm(h) * (1 + scale) + shift`.
        resample: "down" averages four pixels, "up" repeats each; None keeps the sides.
        dropout: rate before the last convolution.
        groups: of the group normalizations.
        epsilon: of the group normalizations.
        zero_init: start with the last convolution at zero, so that the block starts as its skip.
        seed: of the dropout.
        **kwargs: see `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, height, width, c)`.
        embedding: `(batch, embedding_dim)`, where the block takes one.

    Output shape: `(batch, height, width, channels)`, sides halved or doubled if so asked.

    Raises:
        ValueError: for a scale and shift without embedding, or an unknown way of resampling.
    """

    def __init__(
        self,
        channels: int,
        *,
        embedding_dim: int | None = None,
        scale_shift: bool = False,
        resample: Literal["down", "up"] | None = None,
        dropout: float = 0.0,
        groups: int = 32,
        epsilon: float = 1e-6,
        zero_init: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if scale_shift and embedding_dim is None:
            raise ValueError("Expected an `embedding_dim` with scale_shift=True. Received: None")
        if resample not in (None, "down", "up"):
            raise ValueError(f"Expected `resample` None, 'down' or 'up'. Received: {resample!r}")
        self.channels = channels
        self.embedding_dim = embedding_dim
        self.scale_shift = scale_shift
        self.resample = resample
        self.dropout_rate = dropout
        self.groups = groups
        self.epsilon = epsilon
        self.zero_init = zero_init
        self.seed = seed

        policy = self.dtype_policy
        conv = {"padding": "same", "data_format": "channels_last", "dtype": policy}
        self.norm1 = GroupNorm(groups, epsilon, "silu", dtype=policy, name="norm1")
        self.conv1 = keras.layers.Conv2D(channels, 3, name="conv1", **conv)
        self.embedding_projection = (
            None
            if embedding_dim is None
            else keras.layers.Dense(
                (1 + scale_shift) * channels, dtype=policy, name="embedding_projection"
            )
        )
        self.norm2 = GroupNorm(
            groups, epsilon, None if scale_shift else "silu", dtype=policy, name="norm2"
        )
        self.dropout = keras.layers.Dropout(dropout, seed=seed, dtype=policy) if dropout else None
        self.conv2 = keras.layers.Conv2D(
            channels,
            3,
            kernel_initializer="zeros" if zero_init else "glorot_uniform",
            name="conv2",
            **conv,
        )
        self.skip: _PointwiseConv | None = None

    def build(self, input_shape: Shape) -> None:
        """Builds the parts, and a 1x1 convolution for the skip where the channels change."""
        hidden = (*input_shape[:-1], self.channels)
        self.norm1.build(input_shape)
        self.conv1.build(input_shape)
        if self.embedding_projection is not None:
            self.embedding_projection.build((None, self.embedding_dim))
        self.norm2.build(hidden)
        self.conv2.build(hidden)
        if input_shape[-1] != self.channels:
            self.skip = _PointwiseConv(
                self.channels,
                1,
                data_format="channels_last",
                dtype=self.dtype_policy,
                name="skip",
            )
            self.skip.build(input_shape)

    def call(self, inputs: Tensor, embedding: Tensor | None = None, training: bool = False) -> Tensor:
        """Applies the block."""
        x, skip = self.norm1(inputs), inputs
        if self.resample is not None:
            resize = average_pixels if self.resample == "down" else repeat_pixels
            x, skip = resize(x), resize(skip)
        x = self.conv1(x)
        if self.embedding_projection is None:
            x = self.norm2(x)
        else:
            projected = self.embedding_projection(ops.silu(embedding))[:, None, None, :]
            if self.scale_shift:
                scale, shift = ops.split(projected, 2, axis=-1)
                x = ops.silu(self.norm2(x) * (1.0 + scale) + shift)
            else:
                x = self.norm2(x + projected)
        if self.dropout is not None:
            x = self.dropout(x, training=training)
        if self.skip is not None:
            skip = self.skip(skip)
        return skip + self.conv2(x)

    def compute_output_shape(self, input_shape: Shape, *args: Any, **kwargs: Any) -> Shape:
        """The input's shape with `channels` channels and the sides resampled."""
        batch, *sides, _ = input_shape
        if self.resample is not None:
            down = self.resample == "down"
            sides = [s if s is None else s // 2 if down else 2 * s for s in sides]
        return (batch, *sides, self.channels)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "embedding_dim": self.embedding_dim,
            "scale_shift": self.scale_shift,
            "resample": self.resample,
            "dropout": self.dropout_rate,
            "groups": self.groups,
            "epsilon": self.epsilon,
            "zero_init": self.zero_init,
            "seed": self.seed,
        }
