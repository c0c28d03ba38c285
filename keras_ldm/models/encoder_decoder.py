"""The two halves of every autoencoder: images to features at the latents' size, and back.

Each level of the encoder has residual blocks and, but for the last, a halving; the decoder mirrors it
with one residual block more a level. A middle of two residual blocks stands between, with
self-attention by default. The downsampling factor is 2^(levels - 1).

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1 and appendix G;
`Encoder` and `Decoder` (model.py) of the original code.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import keras

from keras_ldm.backend import rematerialized
from keras_ldm.layers import (
    Downsample,
    GroupNorm,
    LinearSpatialAttention,
    ResidualBlock,
    SpatialSelfAttention,
    Upsample,
)
from keras_ldm.types import Config, Shape, Tensor

AttentionType = Literal["softmax", "linear"]


def convolution(channels: int, size: int, policy: Any, name: str) -> keras.layers.Conv2D:
    """A convolution that keeps the sides."""
    return keras.layers.Conv2D(
        channels, size, padding="same", data_format="channels_last", dtype=policy, name=name
    )


def check_rematerialize(rematerialize: bool, dropout: float) -> None:
    """Raises a ValueError where blocks that are computed twice would draw twice."""
    if rematerialize and dropout:
        raise ValueError(
            "Expected no dropout with `rematerialize`, which computes blocks twice. "
            f"Received: dropout={dropout}"
        )


class AutoencoderHalf(keras.layers.Layer):
    """What `Encoder` and `Decoder` share: arguments, blocks, and running a row of layers.

    Args:
        channels: width of each level, from the highest resolution.
        out_channels: channels of the output.
        num_res_blocks: residual blocks a level in the encoder; the decoder has one more.
        attention_levels: levels with self-attention after each residual block.
        middle_attention: whether the middle has self-attention.
        attention_type: "softmax", or "linear" in the number of pixels.
        dropout: rate in the residual blocks.
        groups: of the group normalizations.
        rematerialize: whether training keeps the inputs of each block alone.
        **kwargs: see `keras.layers.Layer`.

    Raises:
        ValueError: if `channels` is empty, an attention level does not exist, or the type is unknown; or
            for dropout with `rematerialize`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int,
        *,
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] = (),
        middle_attention: bool = True,
        attention_type: AttentionType = "softmax",
        dropout: float = 0.0,
        groups: int = 32,
        rematerialize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_rematerialize(rematerialize, dropout)
        if not channels or any(not 0 <= i < len(channels) for i in attention_levels):
            raise ValueError(
                "Expected at least one level, and attention levels among them. Received: "
                f"channels={tuple(channels)}, attention_levels={tuple(attention_levels)}"
            )
        if attention_type not in get_args(AttentionType):
            raise ValueError(
                f"Expected `attention_type` {' or '.join(map(repr, get_args(AttentionType)))}. "
                f"Received: {attention_type!r}"
            )
        self.channels = tuple(channels)
        self.out_channels = out_channels
        self.num_res_blocks = num_res_blocks
        self.attention_levels = tuple(attention_levels)
        self.middle_attention = middle_attention
        self.attention_type = attention_type
        self.dropout_rate = dropout
        self.groups = groups
        self.rematerialize = rematerialize
        self.layers = self._make_layers()
        self.norm_out = GroupNorm(groups, 1e-6, "silu", dtype=self.dtype_policy, name="norm_out")
        self.conv_out = convolution(out_channels, 3, self.dtype_policy, "conv_out")

    @abstractmethod
    def _make_layers(self) -> list[keras.layers.Layer]:
        """All layers but the last normalization and convolution, in order."""

    def _residual(self, channels: int, name: str) -> ResidualBlock:
        return ResidualBlock(
            channels,
            dropout=self.dropout_rate,
            groups=self.groups,
            dtype=self.dtype_policy,
            name=name,
        )

    def _attention(self, name: str) -> keras.layers.Layer:
        if self.attention_type == "linear":
            return LinearSpatialAttention(dtype=self.dtype_policy, name=name)
        return SpatialSelfAttention(groups=self.groups, dtype=self.dtype_policy, name=name)

    def _level(self, index: int, num_blocks: int) -> list[keras.layers.Layer]:
        layers: list[keras.layers.Layer] = []
        for i in range(num_blocks):
            layers.append(self._residual(self.channels[index], f"level{index}_block{i}"))
            if index in self.attention_levels:
                layers.append(self._attention(f"level{index}_attention{i}"))
        return layers

    def _middle(self) -> list[keras.layers.Layer]:
        last = self.channels[-1]
        attention = [self._attention("middle_attention")] if self.middle_attention else []
        return [
            self._residual(last, "middle_block0"),
            *attention,
            self._residual(last, "middle_block1"),
        ]

    def build(self, input_shape: Shape) -> None:
        """Builds the layers, each on the output of the one before."""
        shape = (None, None, None, input_shape[-1])
        for layer in [*self.layers, self.norm_out, self.conv_out]:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Applies the layers in order."""
        return self.conv_out(self.last_features(inputs, training=training))

    def last_features(self, inputs: Tensor, training: bool = False) -> Tensor:
        """What the last convolution, `conv_out`, takes."""
        x = inputs
        for layer in self.layers:
            takes_training = isinstance(layer, ResidualBlock)
            apply = partial(layer, training=training) if takes_training else layer
            x = rematerialized(apply)(x) if self.rematerialize and training else apply(x)
        return self.norm_out(x)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "out_channels": self.out_channels,
            "num_res_blocks": self.num_res_blocks,
            "attention_levels": self.attention_levels,
            "middle_attention": self.middle_attention,
            "attention_type": self.attention_type,
            "dropout": self.dropout_rate,
            "groups": self.groups,
            "rematerialize": self.rematerialize,
        }


@keras.saving.register_keras_serializable("keras_ldm")
class Encoder(AutoencoderHalf):
    """Images to features at the latents' size.

    Args:
        channels: see `AutoencoderHalf` for this and the other arguments.
        out_channels: channels of the output.
        stem_channels: width of the first convolution; by default the first level's.
        **kwargs: see `AutoencoderHalf`.

    Input shape: `(batch, height, width, c)`, sides that divide by f = 2^(levels - 1).
    Output shape: `(batch, height/f, width/f, out_channels)`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int,
        *,
        stem_channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.stem_channels = stem_channels or next(iter(channels), 0)
        super().__init__(channels, out_channels, **kwargs)

    def _make_layers(self) -> list[keras.layers.Layer]:
        policy = self.dtype_policy
        layers: list[keras.layers.Layer] = [convolution(self.stem_channels, 3, policy, "conv_in")]
        for index, width in enumerate(self.channels):
            layers += self._level(index, self.num_res_blocks)
            if index < len(self.channels) - 1:
                layers.append(Downsample(width, "asymmetric", dtype=policy, name=f"down{index}"))
        return layers + self._middle()

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "stem_channels": self.stem_channels}


@keras.saving.register_keras_serializable("keras_ldm")
class Decoder(AutoencoderHalf):
    """Features at the latents' size to images; the arguments are those of `AutoencoderHalf`.

    Input shape: `(batch, h, w, c)`. Output shape: `(batch, h·f, w·f, out_channels)`.
    """

    def _make_layers(self) -> list[keras.layers.Layer]:
        policy = self.dtype_policy
        layers = [convolution(self.channels[-1], 3, policy, "conv_in"), *self._middle()]
        for index in reversed(range(len(self.channels))):
            layers += self._level(index, self.num_res_blocks + 1)
            if index:
                layers.append(Upsample(self.channels[index], dtype=policy, name=f"up{index}"))
        return layers
