"""The denoising U-Net with cross-attention.

Each level of the encoder has residual blocks, each followed by a spatial transformer at the levels
that attend, and, but for the last, a halving; the decoder mirrors it with one residual block more a
level and takes in what the encoder had at each place. The timestep enters every residual block, the
context every spatial transformer.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.3; `UNetModel`
(openaimodel.py) of the original code; Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597.
"""

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.layers import (
    ConditionalSequential,
    Downsample,
    GroupNorm,
    ResidualBlock,
    SinusoidalEmbedding,
    SpatialSelfAttention,
    SpatialTransformer,
    Upsample,
)
from keras_ldm.types import Conditions, Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class UNet(keras.Model):
    """A U-Net that predicts noise, clean latents or v from noisy latents, a timestep and conditions.

    Args:
        channels: width of each level, from the highest resolution; one halving after each level but
            the last.
        in_channels: channels of the input: the latents', plus those of a `concat` condition.
        out_channels: channels of the output.
        num_res_blocks: residual blocks a level in the encoder; the decoder has one more.
        attention_levels: levels with attention after each residual block; the middle always has it.
        context_dim: width of the context's tokens; None for a U-Net without context, whose
            attention is plain self-attention.
        num_heads: heads of each attention, their width following the level's; or None.
        head_dim: width of each head, their number following the level's, where `num_heads` is None.
        transformer_depth: transformer blocks in each spatial transformer.
        vector_dim: width of a `vector` condition added to the timestep embedding, or None.
        num_classes: of a `class_label` condition, whose embedding is added to the timestep's, or None.
        scale_shift: whether the embedding scales and shifts the residual blocks' second
            normalization (it is added before it otherwise).
        residual_resampling: whether residual blocks do the halving and doubling (convolutions
            otherwise).
        dropout: rate in the residual blocks.
        groups: of the group normalizations.
        seed: of the dropout.
        **kwargs: see `keras.Model`.

    Call arguments:
        inputs: a dictionary of
            `latents`: `(batch, height, width, channels)`, sides that divide by 2^(levels - 1);
            `timesteps`: `(batch,)`, integers or floats;
            `context`: `(batch, tokens, context_dim)`, where the U-Net takes one;
            `concat`: `(batch, height, width, c)`, appended to the latents, where it takes one;
            `vector`: `(batch, vector_dim)`, where it takes one;
            `class_label`: `(batch,)`, integers, where it takes one.

    Output shape: `(batch, height, width, out_channels)`, float32.

    Raises:
        ValueError: for levels or heads that do not fit together; on a call, for a condition that is
            missing or not wanted.

    Example:

    ```python
    unet = keras_ldm.models.UNet(channels=(64, 128), context_dim=128, num_heads=4)
    noise = unet({"latents": x, "timesteps": t, "context": tokens})
    ```
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256),
        in_channels: int = 4,
        out_channels: int = 4,
        *,
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] | None = None,
        context_dim: int | None = None,
        num_heads: int | None = 8,
        head_dim: int | None = None,
        transformer_depth: int = 1,
        vector_dim: int | None = None,
        num_classes: int | None = None,
        scale_shift: bool = False,
        residual_resampling: bool = False,
        dropout: float = 0.0,
        groups: int = 32,
        seed: int | None = None,
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
        self.channels = tuple(channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_res_blocks = num_res_blocks
        self.attention_levels = attention_levels
        self.context_dim = context_dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.transformer_depth = transformer_depth
        self.vector_dim = vector_dim
        self.num_classes = num_classes
        self.scale_shift = scale_shift
        self.residual_resampling = residual_resampling
        self.dropout_rate = dropout
        self.groups = groups
        self.seed = seed
        self._seeds_given = 0
        self._make_layers()
        self.build({"latents": (None, None, None, in_channels)})

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

    def _attention(self, channels: int) -> keras.layers.Layer:
        heads = self.num_heads or channels // (self.head_dim or channels)
        if not heads or channels % heads:
            raise ValueError(
                "Expected channels that divide into heads. Received: "
                f"channels={channels}, num_heads={self.num_heads}, head_dim={self.head_dim}"
            )
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

    def _up(self, channels: int) -> keras.layers.Layer:
        if self.residual_resampling:
            return self._residual(channels, "up", "up")
        return Upsample(channels, dtype=self.dtype_policy, name="up")

    def _stage(self, layers: Sequence[keras.layers.Layer], name: str) -> ConditionalSequential:
        return ConditionalSequential(layers, dtype=self.dtype_policy, name=name)

    def _make_layers(self) -> None:
        policy, first, last = self.dtype_policy, self.channels[0], self.channels[-1]

        # === Embeddings ===
        self.timestep_embedding = SinusoidalEmbedding(first, name="timestep_embedding")
        self.embedding_in = keras.layers.Dense(4 * first, dtype=policy, name="embedding_in")
        self.embedding_out = keras.layers.Dense(4 * first, dtype=policy, name="embedding_out")
        self.vector_projection = (
            None
            if self.vector_dim is None
            else keras.layers.Dense(4 * first, dtype=policy, name="vector_projection")
        )
        self.class_embedding = (
            None
            if self.num_classes is None
            else keras.layers.Embedding(
                self.num_classes, 4 * first, dtype=policy, name="class_embedding"
            )
        )

        # === Encoder ===
        conv = {"padding": "same", "data_format": "channels_last", "dtype": policy}
        self.conv_in = keras.layers.Conv2D(first, 3, name="conv_in", **conv)
        self.encoder: list[ConditionalSequential] = []
        skips = [first]
        for level, width in enumerate(self.channels):
            for i in range(self.num_res_blocks):
                layers: list[keras.layers.Layer] = [self._residual(width)]
                if level in self.attention_levels:
                    layers.append(self._attention(width))
                self.encoder.append(self._stage(layers, f"encoder_level{level}_{i}"))
                skips.append(width)
            if level < len(self.channels) - 1:
                self.encoder.append(self._stage([self._down(width)], f"encoder_down{level}"))
                skips.append(width)

        # === Middle ===
        # No two weights may share a path: PyTorch would clear the gradient of only one of them.
        first_block, second_block = self._residual(last, "residual0"), self._residual(last, "residual1")
        self.middle = self._stage([first_block, self._attention(last), second_block], "middle")

        # === Decoder ===
        self.decoder: list[ConditionalSequential] = []
        self._decoder_inputs: list[int] = []
        width = last
        for level in reversed(range(len(self.channels))):
            for i in range(self.num_res_blocks + 1):
                self._decoder_inputs.append(width + skips.pop())
                width = self.channels[level]
                layers = [self._residual(width)]
                if level in self.attention_levels:
                    layers.append(self._attention(width))
                if level and i == self.num_res_blocks:
                    layers.append(self._up(width))
                self.decoder.append(self._stage(layers, f"decoder_level{level}_{i}"))
        self.norm_out = GroupNorm(self.groups, 1e-5, "silu", dtype=policy, name="norm_out")
        self.conv_out = keras.layers.Conv2D(
            self.out_channels, 3, kernel_initializer="zeros", name="conv_out", **conv
        )

    def build(self, input_shape: Any) -> None:
        """Builds every layer; the constructor has done it."""
        if self.built:
            return

        def image(channels: int) -> Shape:
            return (None, None, None, channels)

        first = self.channels[0]
        context = None if self.context_dim is None else (None, None, self.context_dim)
        self.timestep_embedding.build((None,))
        self.embedding_in.build((None, first))
        self.embedding_out.build((None, 4 * first))
        if self.vector_projection is not None:
            self.vector_projection.build((None, self.vector_dim))
        if self.class_embedding is not None:
            self.class_embedding.build((None,))
        self.conv_in.build(image(self.in_channels))
        width = first
        for stage in self.encoder:
            stage.build(image(width), context)
            width = stage.layers[0].channels
        self.middle.build(image(width), context)
        for stage, inputs in zip(self.decoder, self._decoder_inputs, strict=True):
            stage.build(image(inputs), context)
        self.norm_out.build(image(first))
        self.conv_out.build(image(first))
        self.built = True

    def _check(self, inputs: Conditions) -> None:
        settings = {"context": "context_dim", "vector": "vector_dim", "class_label": "num_classes"}
        for name, setting in settings.items():
            wanted = getattr(self, setting) is not None
            if wanted != (inputs.get(name) is not None):
                raise ValueError(
                    f"Expected {'a' if wanted else 'no'} `{name}` "
                    f"({setting}={getattr(self, setting)}). "
                    f"Received: inputs {sorted(k for k, v in inputs.items() if v is not None)}"
                )
        shape = inputs["latents"].shape
        factor = 2 ** (len(self.channels) - 1)
        if any(side is not None and side % factor for side in shape[1:3]):
            raise ValueError(
                f"Expected latents with sides that divide by {factor}. Received: shape {tuple(shape)}"
            )

    def call(self, inputs: Conditions, training: bool = False) -> Tensor:
        """Predicts."""
        self._check(inputs)
        x, context = inputs["latents"], inputs.get("context")
        if inputs.get("concat") is not None:
            x = ops.concatenate([x, ops.cast(inputs["concat"], x.dtype)], axis=-1)
        embedding = self.embedding_in(self.timestep_embedding(inputs["timesteps"]))
        embedding = self.embedding_out(ops.silu(embedding))
        if self.vector_projection is not None:
            embedding = embedding + self.vector_projection(inputs["vector"])
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(inputs["class_label"])

        x = self.conv_in(ops.cast(x, self.compute_dtype))
        skips = [x]
        for stage in self.encoder:
            x = stage(x, embedding, context, training=training)
            skips.append(x)
        x = self.middle(x, embedding, context, training=training)
        for stage in self.decoder:
            x = ops.concatenate([x, skips.pop()], axis=-1)
            x = stage(x, embedding, context, training=training)
        return ops.cast(self.conv_out(self.norm_out(x)), "float32")

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "num_res_blocks": self.num_res_blocks,
            "attention_levels": self.attention_levels,
            "context_dim": self.context_dim,
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "transformer_depth": self.transformer_depth,
            "vector_dim": self.vector_dim,
            "num_classes": self.num_classes,
            "scale_shift": self.scale_shift,
            "residual_resampling": self.residual_resampling,
            "dropout": self.dropout_rate,
            "groups": self.groups,
            "seed": self.seed,
        }
