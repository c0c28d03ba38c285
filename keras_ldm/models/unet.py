"""The denoising U-Net with cross-attention.

Each level of the encoder has residual blocks, each followed by a spatial transformer at the levels
that attend, and, but for the last, a halving; the decoder mirrors it with one residual block more a
level and takes in what the encoder had at each place. The timestep enters every residual block, the
context every spatial transformer.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.3; `UNetModel`
(openaimodel.py) of the original code; Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ldm.layers import ConditionalSequential, GroupNorm, Upsample
from keras_ldm.models.unet_encoder import UNetEncoder, image_shape
from keras_ldm.types import Conditions, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class UNet(UNetEncoder):
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
        rematerialize: whether training keeps the inputs of each block alone and computes the rest once
            more: less memory, more time.
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
        ValueError: for levels or heads that do not fit together, or dropout with `rematerialize`; on a
            call, for a condition that is missing or not wanted.

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
        rematerialize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            channels,
            in_channels,
            num_res_blocks=num_res_blocks,
            attention_levels=attention_levels,
            context_dim=context_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            transformer_depth=transformer_depth,
            scale_shift=scale_shift,
            residual_resampling=residual_resampling,
            dropout=dropout,
            groups=groups,
            seed=seed,
            rematerialize=rematerialize,
            **kwargs,
        )
        self.out_channels = out_channels
        self.vector_dim = vector_dim
        self.num_classes = num_classes
        self._make_layers()
        self.build({"latents": (None, None, None, in_channels)})

    def _up(self, channels: int) -> keras.layers.Layer:
        if self.residual_resampling:
            return self._residual(channels, "up", "up")
        return Upsample(channels, dtype=self.dtype_policy, name="up")

    def _make_embeddings(self) -> None:
        super()._make_embeddings()
        policy, width = self.dtype_policy, 4 * self.channels[0]
        self.vector_projection = (
            None
            if self.vector_dim is None
            else keras.layers.Dense(width, dtype=policy, name="vector_projection")
        )
        self.class_embedding = (
            None
            if self.num_classes is None
            else keras.layers.Embedding(self.num_classes, width, dtype=policy, name="class_embedding")
        )

    def _make_layers(self) -> None:
        super()._make_layers()
        self.decoder: list[ConditionalSequential] = []
        self._decoder_inputs: list[int] = []
        skips, width = list(self.skip_channels), self.channels[-1]
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
        self.norm_out = GroupNorm(self.groups, 1e-5, "silu", dtype=self.dtype_policy, name="norm_out")
        self.conv_out = self._conv(self.out_channels, "conv_out", zero_init=True)

    def _build_embeddings(self) -> None:
        super()._build_embeddings()
        if self.vector_projection is not None:
            self.vector_projection.build((None, self.vector_dim))
        if self.class_embedding is not None:
            self.class_embedding.build((None,))

    def build(self, input_shape: Any) -> None:
        """Builds every layer; the constructor has done it."""
        if self.built:
            return
        self._build_encoder()
        for stage, inputs in zip(self.decoder, self._decoder_inputs, strict=True):
            stage.build(image_shape(inputs), self._context_shape())
        self.norm_out.build(image_shape(self.channels[0]))
        self.conv_out.build(image_shape(self.channels[0]))
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
        super()._check(inputs)

    def embed(self, inputs: Conditions) -> Tensor:
        """The embedding of the timesteps, and of the vectors and class labels where there are such."""
        embedding = super().embed(inputs)
        if self.vector_projection is not None:
            embedding = embedding + self.vector_projection(inputs["vector"])
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(inputs["class_label"])
        return embedding

    def call(self, inputs: Conditions, training: bool = False) -> Tensor:
        """Predicts."""
        self._check(inputs)
        x, context, embedding = inputs["latents"], inputs.get("context"), self.embed(inputs)
        if inputs.get("concat") is not None:
            x = ops.concatenate([x, ops.cast(inputs["concat"], x.dtype)], axis=-1)
        x, skips = self.encode(x, embedding, context, training=training)
        for stage in self.decoder:
            x = ops.concatenate([x, skips.pop()], axis=-1)
            x = self._apply(stage, x, embedding, context, training)
        return ops.cast(self.conv_out(self.norm_out(x)), "float32")

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "out_channels": self.out_channels,
            "vector_dim": self.vector_dim,
            "num_classes": self.num_classes,
        }
