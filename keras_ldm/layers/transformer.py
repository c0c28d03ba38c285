"""The spatial transformer: how the condition enters the U-Net.

An image is read as a row of tokens; each block lets them attend to each other, then to the context,
then passes each through a gated feed-forward layer. All three are residual and normalized first.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.3 and appendix E.2.1;
Shazeer 2020, https://arxiv.org/abs/2002.05202 (GEGLU).
"""

from typing import Any

import keras

from keras_ldm.backend import gated_gelu
from keras_ldm.layers.attention import CrossAttention
from keras_ldm.layers.dense import Dense
from keras_ldm.layers.group_norm import GroupNorm
from keras_ldm.layers.layer_norm import LayerNormalization
from keras_ldm.layers.reshaping import as_tokens, reshape_like
from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class GEGLU(keras.layers.Layer):
    """A dense layer gated by a second one: `value * gelu(gate)`, with the exact GELU.

    Args:
        dim: width of the output.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(..., c)`. Output shape: `(..., dim)`.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.projection = Dense(2 * dim, dtype=self.dtype_policy, name="projection")

    def build(self, input_shape: Shape) -> None:
        """Builds the projection to value and gate."""
        self.projection.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Projects and gates."""
        return gated_gelu(self.projection(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape with `dim` features."""
        return (*input_shape[:-1], self.dim)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "dim": self.dim}


@keras.saving.register_keras_serializable("keras_ldm")
class TransformerBlock(keras.layers.Layer):
    """Self-attention, cross-attention and a GEGLU feed-forward layer of four times the width.

    Args:
        num_heads: number of heads.
        head_dim: width of each head.
        dropout: rate in the attentions' outputs and the feed-forward layer.
        seed: of the dropout.
        **kwargs: see `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, tokens, dim)`.
        context: `(batch, context_tokens, context_dim)`; without it, self-attention again.

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

        policy = self.dtype_policy
        self.norm1, self.norm2, self.norm3 = (
            LayerNormalization(epsilon=1e-5, dtype=policy, name=f"norm{i}") for i in (1, 2, 3)
        )
        seeds = [None if seed is None else seed + i for i in range(3)]
        self.self_attention = CrossAttention(
            num_heads, head_dim, dropout, seeds[0], dtype=policy, name="self_attention"
        )
        self.cross_attention = CrossAttention(
            num_heads, head_dim, dropout, seeds[1], dtype=policy, name="cross_attention"
        )
        self.dropout = keras.layers.Dropout(dropout, seed=seeds[2], dtype=policy) if dropout else None

    def build(self, inputs_shape: Shape, context_shape: Shape | None = None) -> None:
        """Builds the parts."""
        dim = int(inputs_shape[-1] or 0)
        for norm in (self.norm1, self.norm2, self.norm3):
            norm.build(inputs_shape)
        self.self_attention.build(inputs_shape)
        self.cross_attention.build(inputs_shape, context_shape)
        self.feed_forward = GEGLU(4 * dim, dtype=self.dtype_policy, name="feed_forward")
        self.feed_forward.build(inputs_shape)
        self.feed_forward_out = Dense(dim, dtype=self.dtype_policy, name="feed_forward_out")
        self.feed_forward_out.build((*inputs_shape[:-1], 4 * dim))

    def call(self, inputs: Tensor, context: Tensor | None = None, training: bool = False) -> Tensor:
        """Applies the block."""
        x = inputs + self.self_attention(self.norm1(inputs), training=training)
        x = x + self.cross_attention(self.norm2(x), context, training=training)
        hidden = self.feed_forward(self.norm3(x))
        if self.dropout is not None:
            hidden = self.dropout(hidden, training=training)
        return x + self.feed_forward_out(hidden)

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
class SpatialTransformer(keras.layers.Layer):
    """Transformer blocks over the pixels of an image, conditioned by cross-attention.

    Args:
        num_heads: number of heads.
        head_dim: width of each head.
        depth: number of transformer blocks.
        dropout: rate inside the blocks.
        groups: of the group normalization.
        seed: of the dropout.
        **kwargs: see `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        context: `(batch, context_tokens, context_dim)`, or None for self-attention only.

    Output shape: `(batch, height, width, channels)`.

    Example:

    ```python
    layer = keras_ldm.layers.SpatialTransformer(num_heads=4, head_dim=16)
    layer(np.zeros((1, 8, 8, 64), "float32"), np.zeros((1, 77, 128), "float32")).shape  # 1, 8, 8, 64
    ```
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        depth: int = 1,
        dropout: float = 0.0,
        groups: int = 32,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.depth = depth
        self.dropout_rate = dropout
        self.groups = groups
        self.seed = seed

        policy, inner = self.dtype_policy, num_heads * head_dim
        self.norm = GroupNorm(groups, 1e-6, dtype=policy, name="norm")
        self.project_in = Dense(inner, dtype=policy, name="project_in")
        self.blocks = [
            TransformerBlock(
                num_heads,
                head_dim,
                dropout,
                seed=None if seed is None else seed + 3 * i,
                dtype=policy,
                name=f"block{i}",
            )
            for i in range(depth)
        ]

    def build(self, inputs_shape: Shape, context_shape: Shape | None = None) -> None:
        """Builds the parts; the output projection starts at zero."""
        channels = inputs_shape[-1]
        tokens = (None, None, self.num_heads * self.head_dim)
        self.norm.build(inputs_shape)
        self.project_in.build((None, None, channels))
        for block in self.blocks:
            block.build(tokens, context_shape)
        self.project_out = Dense(
            channels, kernel_initializer="zeros", dtype=self.dtype_policy, name="project_out"
        )
        self.project_out.build(tokens)

    def call(self, inputs: Tensor, context: Tensor | None = None, training: bool = False) -> Tensor:
        """Applies the blocks."""
        x = self.project_in(as_tokens(self.norm(inputs)))
        for block in self.blocks:
            x = block(x, context, training=training)
        return inputs + reshape_like(self.project_out(x), inputs)

    def compute_output_shape(self, input_shape: Shape, *args: Any, **kwargs: Any) -> Shape:
        """The input's shape."""
        return input_shape

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "depth": self.depth,
            "dropout": self.dropout_rate,
            "groups": self.groups,
            "seed": self.seed,
        }
