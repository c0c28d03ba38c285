"""From an image to one vector.

Reference: `AttentionPool2d` (openaimodel.py) of the original code, after Radford et al. 2021,
https://arxiv.org/abs/2103.00020, section 2.4.
"""

from typing import Any

import keras
from keras import ops

from keras_ldm.layers.attention import attend
from keras_ldm.layers.dense import Dense
from keras_ldm.layers.reshaping import as_tokens
from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class AttentionPool(keras.layers.Layer):
    """The mean of the pixels attends to itself and to all pixels, each at a learned position.

    Args:
        units: width of the output.
        num_heads: heads of the attention.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`, of known sides, which the positions are made for.
    Output shape: `(batch, units)`.

    Raises:
        ValueError: when built with channels that do not divide by `num_heads`, or unknown sides.
    """

    def __init__(self, units: int, num_heads: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.num_heads = num_heads

    def build(self, input_shape: Shape) -> None:
        """Makes the positions and the four projections."""
        _, height, width, channels = input_shape
        if height is None or width is None or channels is None or channels % self.num_heads:
            raise ValueError(
                f"Expected images of known sides, with channels that divide by {self.num_heads} heads. "
                f"Received: input shape {tuple(input_shape)}"
            )
        self.positions = self.add_weight(
            shape=(1 + height * width, channels),
            initializer=keras.initializers.RandomNormal(stddev=channels**-0.5),
            name="positions",
        )
        policy = self.dtype_policy
        self.to_query = Dense(channels, dtype=policy, name="to_query")
        self.to_key = Dense(channels, dtype=policy, name="to_key")
        self.to_value = Dense(channels, dtype=policy, name="to_value")
        self.to_out = Dense(self.units, dtype=policy, name="to_out")
        for projection in (self.to_query, self.to_key, self.to_value, self.to_out):
            projection.build((None, None, channels))

    def call(self, inputs: Tensor) -> Tensor:
        """Attends, from the mean alone."""
        pixels = as_tokens(inputs)
        tokens = ops.concatenate([ops.mean(pixels, axis=1, keepdims=True), pixels], axis=1)
        tokens = tokens + ops.cast(self.positions, tokens.dtype)
        x = attend(
            self.to_query(tokens[:, :1]), self.to_key(tokens), self.to_value(tokens), self.num_heads
        )
        return self.to_out(x)[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """One vector for each image."""
        return (input_shape[0], self.units)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units, "num_heads": self.num_heads}
