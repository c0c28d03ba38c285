"""The KL-regularised autoencoder: images to a smaller, smooth latent space and back.

Each level of the encoder has residual blocks and, but for the last, a halving; the decoder mirrors it
with one residual block more a level. A middle of two residual blocks stands between, with
self-attention by default. The downsampling factor is 2^(levels - 1).

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1 and appendix G;
`Encoder`, `Decoder` (model.py) and `AutoencoderKL` (autoencoder.py) of the original code.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ldm.layers import (
    DiagonalGaussian,
    Downsample,
    GroupNorm,
    ResidualBlock,
    SpatialSelfAttention,
    Upsample,
)
from keras_ldm.types import Config, Shape, Tensor


def _convolution(channels: int, size: int, policy: Any, name: str) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        channels, size, padding="same", data_format="channels_last", dtype=policy, name=name
    )


def _run(layers: Sequence[keras.layers.Layer], x: Tensor, training: bool) -> Tensor:
    for layer in layers:
        x = layer(x, training=training) if isinstance(layer, ResidualBlock) else layer(x)
    return x


def _middle(side: str, channels: int, attention: bool, **block: Any) -> list[keras.layers.Layer]:
    name = f"{side}_middle"
    layers: list[keras.layers.Layer] = [ResidualBlock(channels, name=f"{name}_block0", **block)]
    if attention:
        layers.append(
            SpatialSelfAttention(groups=block["groups"], dtype=block["dtype"], name=f"{name}_attention")
        )
    return [*layers, ResidualBlock(channels, name=f"{name}_block1", **block)]


@keras.saving.register_keras_serializable("keras_ldm")
class AutoencoderKL(keras.Model):
    """An autoencoder whose latents follow a normal distribution of their own for each image.

    Args:
        channels: width of each level, from the highest resolution; one halving after each level but
            the last, so `(64, 128, 256)` has the downsampling factor f = 4.
        latent_channels: channels of the latents.
        image_channels: channels of the images.
        num_res_blocks: residual blocks a level in the encoder; the decoder has one more.
        attention_levels: levels with self-attention after each residual block.
        middle_attention: whether the middle has self-attention.
        dropout: rate in the residual blocks.
        groups: of the group normalizations.
        **kwargs: see `keras.Model`.

    Input shape: `(batch, height, width, image_channels)`, floats in [-1, 1], sides that divide by
        the downsampling factor. Output shape: the same (decoded from the mode).

    Raises:
        ValueError: if `channels` is empty or an attention level does not exist.

    Example:

    ```python
    autoencoder = keras_ldm.models.AutoencoderKL(channels=(32, 64, 64), latent_channels=4)
    posterior = autoencoder.encode(images)       # posterior.mean: (batch, height/4, width/4, 4)
    images = autoencoder.decode(posterior.mode())
    ```
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256),
        latent_channels: int = 4,
        *,
        image_channels: int = 3,
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] = (),
        middle_attention: bool = True,
        dropout: float = 0.0,
        groups: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        if not channels or any(not 0 <= i < len(channels) for i in attention_levels):
            raise ValueError(
                "Expected at least one level, and attention levels among them. Received: "
                f"channels={tuple(channels)}, attention_levels={tuple(attention_levels)}"
            )
        self.channels = tuple(channels)
        self.latent_channels = latent_channels
        self.image_channels = image_channels
        self.num_res_blocks = num_res_blocks
        self.attention_levels = tuple(attention_levels)
        self.middle_attention = middle_attention
        self.dropout_rate = dropout
        self.groups = groups
        self._make_layers()
        self.build((None, None, None, image_channels))

    def _make_layers(self) -> None:
        policy, last = self.dtype_policy, self.channels[-1]
        block: dict[str, Any] = {
            "dropout": self.dropout_rate,
            "groups": self.groups,
            "dtype": policy,
        }

        def level(side: str, index: int, num_blocks: int) -> list[keras.layers.Layer]:
            layers: list[keras.layers.Layer] = []
            for i in range(num_blocks):
                name = f"{side}_level{index}"
                layers.append(ResidualBlock(self.channels[index], name=f"{name}_block{i}", **block))
                if index in self.attention_levels:
                    layers.append(
                        SpatialSelfAttention(
                            groups=self.groups, dtype=policy, name=f"{name}_attention{i}"
                        )
                    )
            return layers

        # === Encoder ===
        encoder: list[keras.layers.Layer] = [_convolution(self.channels[0], 3, policy, "encoder_in")]
        for index, width in enumerate(self.channels):
            encoder += level("encoder", index, self.num_res_blocks)
            if index < len(self.channels) - 1:
                encoder.append(
                    Downsample(width, "asymmetric", dtype=policy, name=f"encoder_down{index}")
                )
        self.encoder_layers = encoder + _middle("encoder", last, self.middle_attention, **block)
        self.encoder_norm = GroupNorm(self.groups, 1e-6, dtype=policy, name="encoder_norm")
        self.encoder_out = _convolution(2 * self.latent_channels, 3, policy, "encoder_out")
        self.to_moments = _convolution(2 * self.latent_channels, 1, policy, "to_moments")

        # === Decoder ===
        self.from_latents = _convolution(self.latent_channels, 1, policy, "from_latents")
        decoder: list[keras.layers.Layer] = [_convolution(last, 3, policy, "decoder_in")]
        decoder += _middle("decoder", last, self.middle_attention, **block)
        for index in reversed(range(len(self.channels))):
            decoder += level("decoder", index, self.num_res_blocks + 1)
            if index:
                decoder.append(Upsample(self.channels[index], dtype=policy, name=f"decoder_up{index}"))
        self.decoder_layers = decoder
        self.decoder_norm = GroupNorm(self.groups, 1e-6, dtype=policy, name="decoder_norm")
        self.decoder_out = _convolution(self.image_channels, 3, policy, "decoder_out")

    def build(self, input_shape: Shape) -> None:
        """Builds every layer; the constructor has done it."""
        if self.built:
            return

        def build_all(layers: Sequence[keras.layers.Layer], width: int) -> None:
            for layer in layers:
                layer.build((None, None, None, width))
                width = getattr(layer, "channels", getattr(layer, "filters", width))

        first, last, latent = self.channels[0], self.channels[-1], self.latent_channels
        build_all(self.encoder_layers, self.image_channels)
        build_all([self.encoder_norm, self.encoder_out, self.to_moments], last)
        build_all([self.from_latents, *self.decoder_layers], latent)
        build_all([self.decoder_norm, self.decoder_out], first)
        self.built = True

    @property
    def downsampling_factor(self) -> int:
        """How many pixels of the image's side one of the latents' side stands for."""
        return int(2 ** (len(self.channels) - 1))

    def moments(self, images: Tensor, training: bool = False) -> Tensor:
        """Mean and log-variance of the latents.

        Args:
            images: `(batch, height, width, image_channels)`, floats in [-1, 1].
            training: whether dropout is active.

        Returns:
            float32 `(batch, height/f, width/f, 2 * latent_channels)`.
        """
        x = _run(self.encoder_layers, ops.cast(images, self.compute_dtype), training)
        x = self.encoder_out(ops.silu(self.encoder_norm(x)))
        return ops.cast(self.to_moments(x), "float32")

    def encode(self, images: Tensor, training: bool = False) -> DiagonalGaussian:
        """The distribution of the latents.

        Args:
            images: `(batch, height, width, image_channels)`, floats in [-1, 1].
            training: whether dropout is active.
        """
        return self.distribution(self.moments(images, training=training))

    def distribution(self, moments: Tensor) -> DiagonalGaussian:
        """The distribution of the latents whose moments `moments()` gave."""
        return DiagonalGaussian(moments)

    def decode(self, latents: Tensor, training: bool = False) -> Tensor:
        """Images from latents.

        Args:
            latents: `(batch, h, w, latent_channels)`, on the scale that `encode` gives.
            training: whether dropout is active.

        Returns:
            float32 `(batch, h·f, w·f, image_channels)`, about in [-1, 1].
        """
        x = self.from_latents(ops.cast(latents, self.compute_dtype))
        x = _run(self.decoder_layers, x, training)
        return ops.cast(self.decoder_out(ops.silu(self.decoder_norm(x))), "float32")

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Encodes and decodes the mode."""
        return self.decode(self.encode(inputs, training=training).mode(), training=training)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "latent_channels": self.latent_channels,
            "image_channels": self.image_channels,
            "num_res_blocks": self.num_res_blocks,
            "attention_levels": self.attention_levels,
            "middle_attention": self.middle_attention,
            "dropout": self.dropout_rate,
            "groups": self.groups,
        }
