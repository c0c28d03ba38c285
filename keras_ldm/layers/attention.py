"""Attention between tokens, and between the pixels of an image.

Reference: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; `CrossAttention` (attention.py) and
`AttnBlock` (model.py) of the original code; Shen et al. 2018, https://arxiv.org/abs/1812.01243
(attention linear in the number of pixels).
"""

from typing import Any

import keras
from keras import ops

from keras_ldm.backend import dot_product_attention
from keras_ldm.layers.dense import Dense
from keras_ldm.layers.group_norm import GroupNorm
from keras_ldm.layers.reshaping import as_tokens, reshape_examples, reshape_like
from keras_ldm.types import Config, Shape, Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Softmax attention of several heads, scaled by the root of a head's width.

    Args:
        query: `(batch, queries, num_heads * head_dim)`.
        key: `(batch, keys, num_heads * head_dim)`.
        value: `(batch, keys, num_heads * head_dim)`.
        num_heads: number of heads, outermost in the last axis.

    Returns:
        `(batch, queries, num_heads * head_dim)`.
    """

    def split(x: Tensor) -> Tensor:
        return reshape_examples(x, (x.shape[1], num_heads, x.shape[-1] // num_heads))

    attended = dot_product_attention(split(query), split(key), split(value))
    return reshape_like(attended, query)


@keras.saving.register_keras_serializable("keras_ldm")
class CrossAttention(keras.layers.Layer):
    """Attention of several heads from tokens to a context, or to themselves.

    Args:
        num_heads: number of heads.
        head_dim: width of each head.
        dropout: rate after the output projection.
        seed: of the dropout.
        **kwargs: see `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, tokens, dim)`.
        context: `(batch, context_tokens, context_dim)`; without it, the tokens attend to themselves.

    Output shape: `(batch, tokens, dim)`.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.dropout_rate = dropout
        self.seed = seed

        policy, inner = self.dtype_policy, num_heads * head_dim
        self.to_query = Dense(inner, use_bias=False, dtype=policy, name="to_query")
        self.to_key = Dense(inner, use_bias=False, dtype=policy, name="to_key")
        self.to_value = Dense(inner, use_bias=False, dtype=policy, name="to_value")
        self.dropout = keras.layers.Dropout(dropout, seed=seed, dtype=policy) if dropout else None

    def build(self, inputs_shape: Shape, context_shape: Shape | None = None) -> None:
        """Builds the four projections."""
        context_shape = context_shape or inputs_shape
        self.to_query.build(inputs_shape)
        self.to_key.build(context_shape)
        self.to_value.build(context_shape)
        self.to_out = Dense(inputs_shape[-1], dtype=self.dtype_policy, name="to_out")
        self.to_out.build((None, None, self.num_heads * self.head_dim))

    def call(self, inputs: Tensor, context: Tensor | None = None, training: bool = False) -> Tensor:
        """Attends."""
        context = inputs if context is None else context
        x = attend(self.to_query(inputs), self.to_key(context), self.to_value(context), self.num_heads)
        x = self.to_out(x)
        return x if self.dropout is None else self.dropout(x, training=training)

    def compute_output_shape(self, input_shape: Shape, *args: Any, **kwargs: Any) -> Shape:
        """The input's shape."""
        return input_shape

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "dropout": self.dropout_rate,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("keras_ldm")
class SpatialSelfAttention(keras.layers.Layer):
    """Every pixel attends to every pixel: normalization, attention, projection, skip.

    Args:
        num_heads: number of heads; the autoencoder's block has one.
        groups: of the group normalization.
        epsilon: of the group normalization.
        zero_init: start with the projection at zero, so that the block starts as the identity.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`. Output shape: the same.

    Raises:
        ValueError: when built with channels that do not divide by `num_heads`.
    """

    def __init__(
        self,
        num_heads: int = 1,
        *,
        groups: int = 32,
        epsilon: float = 1e-6,
        zero_init: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.groups = groups
        self.epsilon = epsilon
        self.zero_init = zero_init
        self.norm = GroupNorm(groups, epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape: Shape) -> None:
        """Builds the normalization and the four projections."""
        channels = input_shape[-1]
        if channels is None or channels % self.num_heads:
            raise ValueError(
                f"Expected channels that divide by {self.num_heads} heads. "
                f"Received: input shape {tuple(input_shape)}"
            )
        self.norm.build(input_shape)
        policy = self.dtype_policy
        self.to_query = Dense(channels, dtype=policy, name="to_query")
        self.to_key = Dense(channels, dtype=policy, name="to_key")
        self.to_value = Dense(channels, dtype=policy, name="to_value")
        self.to_out = Dense(
            channels,
            kernel_initializer="zeros" if self.zero_init else "glorot_uniform",
            dtype=policy,
            name="to_out",
        )
        for projection in (self.to_query, self.to_key, self.to_value, self.to_out):
            projection.build((None, None, channels))

    def call(self, inputs: Tensor) -> Tensor:
        """Attends."""
        x = as_tokens(self.norm(inputs))
        x = attend(self.to_query(x), self.to_key(x), self.to_value(x), self.num_heads)
        return inputs + reshape_like(self.to_out(x), inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "groups": self.groups,
            "epsilon": self.epsilon,
            "zero_init": self.zero_init,
        }


@keras.saving.register_keras_serializable("keras_ldm")
class LinearSpatialAttention(keras.layers.Layer):
    """Attention between the pixels of an image, linear in their number.

    The softmax goes over the keys' pixels, so that keys and values meet first in a small matrix:
    `out = project(query · (softmax(key)ᵀ · value))`. As in the original's `LinAttnBlock`, there is one
    head, no normalization and no skip.

    Input shape: `(batch, height, width, channels)`. Output shape: the same.
    """

    def build(self, input_shape: Shape) -> None:
        """Builds the four projections."""
        channels, policy = input_shape[-1], self.dtype_policy

        def dense(name: str, use_bias: bool = False) -> Dense:
            layer = Dense(channels, use_bias=use_bias, dtype=policy, name=name)
            layer.build((None, None, channels))
            return layer

        self.to_query, self.to_key, self.to_value = dense("to_query"), dense("to_key"), dense("to_value")
        self.to_out = dense("to_out", use_bias=True)

    def call(self, inputs: Tensor) -> Tensor:
        """Attends."""
        x = as_tokens(inputs)
        weights = ops.softmax(ops.cast(self.to_key(x), "float32"), axis=1)
        context = ops.einsum("bnd,bne->bde", ops.cast(weights, x.dtype), self.to_value(x))
        return reshape_like(self.to_out(ops.matmul(self.to_query(x), context)), inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape
