"""The half of the U-Net that all its relatives share: embeddings, encoder and middle.

Each level has residual blocks, each followed by attention at the levels that attend, and, but for the
last, a halving. The timestep enters every residual block, the context every spatial transformer.

Reference: `UNetModel` and `EncoderUNetModel` (openaimodel.py) of the original code.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.backend import rematerialized
from keras_ldm.layers import (
    ConditionalSequential,
    Downsample,
    ResidualBlock,
    SinusoidalEmbedding,
    SpatialSelfAttention,
    SpatialTransformer,
)
from keras_ldm.models.encoder_decoder import check_rematerialize
from keras_ldm.types import Conditions, Config, Shape, Tensor


class UNetEncoder(keras.Model):
    """Features of noisy latents at a timestep: a base class.

    A subclass extends `_make_layers`, `build`, `call` and `get_config` with what it makes of them.

    Args:
        channels: see `UNet` for this and the following.
        in_channels: channels of the input.
        num_res_blocks: residual blocks a level.
        attention_levels: levels with attention.
        context_dim: width of the context's tokens, or None.
        num_heads: heads of each attention, or None.
        head_dim: width of each head, where `num_heads` is None.
        transformer_depth: transformer blocks in each spatial transformer.
        scale_shift: whether the embedding scales and shifts.
        residual_resampling: whether residual blocks halve.
        dropout: rate in the residual blocks.
        groups: of the group normalizations.
        seed: of the dropout.
        rematerialize: whether training keeps the inputs of each block alone.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: for levels or heads that do not fit together, or dropout with `rematerialize`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        in_channels: int,
        *,
        num_res_blocks: int,
        attention_levels: Sequence[int] | None,
        context_dim: int | None,
        num_heads: int | None,
        head_dim: int | None,
        transformer_depth: int,
        scale_shift: bool,
        residual_resampling: bool,
        dropout: float,
        groups: int,
        seed: int | None,
        rematerialize: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        levels = range(len(channels))
        attention_levels = tuple(levels if attention_levels is None else attention_levels)
        if not channels or not set(attention_levels) <= set(levels):
            raise ValueError(
                "Expected at least one level, and attention levels among them. Received: "
                f"channels={tuple(channels)}, attention_levels={attention_levels}"
            )
        if num_heads is not None and head_dim is not None:
            raise ValueError(
                "Expected `num_heads` or `head_dim`, the other following from the channels. "
                f"Received: num_heads={num_heads}, head_dim={head_dim}"
            )
        check_rematerialize(rematerialize, dropout)
        self.channels = tuple(channels)
        self.in_channels = in_channels
        self.num_res_blocks = num_res_blocks
        self.attention_levels = attention_levels
        self.context_dim = context_dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.transformer_depth = transformer_depth
        self.scale_shift = scale_shift
        self.residual_resampling = residual_resampling
        self.dropout_rate = dropout
        self.groups = groups
        self.seed = seed
        self.rematerialize = rematerialize
        self._seeds_given = 0

    # === Layers ===

    def _next_seed(self) -> int | None:
        self._seeds_given += 1
        return None if self.seed is None else self.seed + self._seeds_given

    def _residual(
        self, channels: int, name: str = "residual", resample: Literal["down", "up"] | None = None
    ) -> ResidualBlock:
        return ResidualBlock(
            channels,
            embedding_dim=4 * self.channels[0],
            scale_shift=self.scale_shift,
            resample=resample,
            dropout=self.dropout_rate,
            groups=self.groups,
            epsilon=1e-5,
            zero_init=True,
            seed=self._next_seed(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _num_heads(self, channels: int) -> int:
        heads = self.num_heads or channels // (self.head_dim or channels)
        if not heads or channels % heads:
            raise ValueError(
                "Expected channels that divide into heads. Received: "
                f"channels={channels}, num_heads={self.num_heads}, head_dim={self.head_dim}"
            )
        return heads

    def _attention(self, channels: int) -> keras.layers.Layer:
        heads = self._num_heads(channels)
        if self.context_dim is None:
            return SpatialSelfAttention(
                heads,
                groups=self.groups,
                epsilon=1e-5,
                zero_init=True,
                dtype=self.dtype_policy,
                name="attention",
            )
        return SpatialTransformer(
            heads,
            channels // heads,
            self.transformer_depth,
            groups=self.groups,
            dtype=self.dtype_policy,
            name="transformer",
        )

    def _down(self, channels: int) -> keras.layers.Layer:
        if self.residual_resampling:
            return self._residual(channels, "down", "down")
        return Downsample(channels, "symmetric", dtype=self.dtype_policy, name="down")

    def _stage(self, layers: Sequence[keras.layers.Layer], name: str) -> ConditionalSequential:
        return ConditionalSequential(layers, dtype=self.dtype_policy, name=name)

    def _conv(self, channels: int, name: str, zero_init: bool = False) -> keras.layers.Conv2D:
        return keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            data_format="channels_last",
            kernel_initializer="zeros" if zero_init else "glorot_uniform",
            dtype=self.dtype_policy,
            name=name,
        )

    def _make_embeddings(self) -> None:
        policy, first = self.dtype_policy, self.channels[0]
        self.timestep_embedding = SinusoidalEmbedding(first, name="timestep_embedding")
        self.embedding_in = keras.layers.Dense(4 * first, dtype=policy, name="embedding_in")
        self.embedding_out = keras.layers.Dense(4 * first, dtype=policy, name="embedding_out")

    def _make_layers(self) -> None:
        self._make_embeddings()
        first, last = self.channels[0], self.channels[-1]

        # === Encoder ===
        self.conv_in = self._conv(first, "conv_in")
        self.encoder: list[ConditionalSequential] = []
        self.skip_channels = [first]
        for level, width in enumerate(self.channels):
            for i in range(self.num_res_blocks):
                layers: list[keras.layers.Layer] = [self._residual(width)]
                if level in self.attention_levels:
                    layers.append(self._attention(width))
                self.encoder.append(self._stage(layers, f"encoder_level{level}_{i}"))
                self.skip_channels.append(width)
            if level < len(self.channels) - 1:
                self.encoder.append(self._stage([self._down(width)], f"encoder_down{level}"))
                self.skip_channels.append(width)

        # === Middle ===
        # No two weights may share a path: PyTorch would clear the gradient of only one of them.
        first_block, second_block = self._residual(last, "residual0"), self._residual(last, "residual1")
        self.middle = self._stage([first_block, self._attention(last), second_block], "middle")

    def _build_embeddings(self) -> None:
        first = self.channels[0]
        self.timestep_embedding.build((None,))
        self.embedding_in.build((None, first))
        self.embedding_out.build((None, 4 * first))

    def _build_encoder(self) -> None:
        self._build_embeddings()
        self.conv_in.build(image_shape(self.in_channels))
        width = self.channels[0]
        for stage in self.encoder:
            stage.build(image_shape(width), self._context_shape())
            width = stage.layers[0].channels
        self.middle.build(image_shape(width), self._context_shape())

    def _context_shape(self) -> Shape | None:
        return None if self.context_dim is None else (None, None, self.context_dim)

    def _check(self, inputs: Conditions) -> None:
        shape = inputs["latents"].shape
        factor = 2 ** (len(self.channels) - 1)
        if any(side is not None and side % factor for side in shape[1:3]):
            raise ValueError(
                f"Expected latents with sides that divide by {factor}. Received: shape {tuple(shape)}"
            )

    def embed(self, inputs: Conditions) -> Tensor:
        """The embedding of the timesteps, `(batch, 4 * channels[0])`."""
        embedding = self.embedding_in(self.timestep_embedding(inputs["timesteps"]))
        return self.embedding_out(ops.silu(embedding))

    def encode(
        self, x: Tensor, embedding: Tensor, context: Tensor | None, training: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """What the middle makes of latents; and what the encoder had at each place, for a decoder."""
        x = self.conv_in(ops.cast(x, self.compute_dtype))
        skips = [x]
        for stage in self.encoder:
            x = self._apply(stage, x, embedding, context, training)
            skips.append(x)
        return self._apply(self.middle, x, embedding, context, training), skips

    def _apply(
        self,
        stage: ConditionalSequential,
        x: Tensor,
        embedding: Tensor,
        context: Tensor | None,
        training: bool,
    ) -> Tensor:
        if not (self.rematerialize and training):
            return stage(x, embedding, context, training=training)
        given = (x, embedding) if context is None else (x, embedding, context)
        return rematerialized(lambda *tensors: stage(*tensors, training=True))(*given)

    @abstractmethod
    def call(self, inputs: Conditions, training: bool = False) -> Tensor:
        """What a subclass makes of the features."""

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "in_channels": self.in_channels,
            "num_res_blocks": self.num_res_blocks,
            "attention_levels": self.attention_levels,
            "context_dim": self.context_dim,
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "transformer_depth": self.transformer_depth,
            "scale_shift": self.scale_shift,
            "residual_resampling": self.residual_resampling,
            "dropout": self.dropout_rate,
            "groups": self.groups,
            "seed": self.seed,
            "rematerialize": self.rematerialize,
        }


def image_shape(channels: int) -> Shape:
    """Of images or latents of any size."""
    return (None, None, None, channels)
