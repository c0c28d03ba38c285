"""Embedding of timesteps.

    e_i(t) = cos(t·ω_i) for i < half, sin(t·ω_{i-half}) after,   ω_i = max_period^(-i/half)

Reference: `timestep_embedding` of the original code; Vaswani et al. 2017,
https://arxiv.org/abs/1706.03762.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class SinusoidalEmbedding(keras.layers.Layer):
    """Sinusoidal embedding of timesteps, cosines first, always in float32.

    Args:
        dim: width of the embedding; a last zero is added where it is odd.
        max_period: longest period, in timesteps.
        **kwargs: see `keras.layers.Layer`; the dtype is float32 under any policy, because bfloat16
            cannot tell timestep 999 from 1000.

    Input shape: `(batch,)`, integers or floats. Output shape: `(batch, dim)`, float32.
    """

    def __init__(self, dim: int, max_period: float = 10000.0, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.dim = dim
        self.max_period = max_period

    def call(self, timesteps: Tensor) -> Tensor:
        """Embeds the timesteps."""
        half = self.dim // 2
        frequencies = np.exp(-np.log(self.max_period) * np.arange(half) / half).astype("float32")
        angles = ops.cast(timesteps, "float32")[:, None] * frequencies[None]
        embedding = ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
        return ops.pad(embedding, ((0, 0), (0, 1))) if self.dim % 2 else embedding

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """`(batch, dim)`."""
        return (input_shape[0], self.dim)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "dim": self.dim, "max_period": self.max_period}
