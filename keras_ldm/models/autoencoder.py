"""What the KL and the VQ autoencoder share: encoder, decoder and the two 1x1 convolutions between."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import compile_function, values_of
from keras_ldm.images import check_images, to_floats
from keras_ldm.layers import DiagonalGaussian, PointDistribution, SharedStatistics
from keras_ldm.models.encoder_decoder import AttentionType, Decoder, Encoder, convolution
from keras_ldm.models.tiling import TileFn, Tiling
from keras_ldm.types import Array, Config, Shape, Tensor


class Autoencoder(keras.Model):
    """Images to latents and back; a subclass says what stands between.

    Args:
        channels: width of each level, from the highest resolution; one halving after each level but
            the last, so `(64, 128, 256)` has the downsampling factor f = 4.
        latent_channels: channels of the latents.
        z_channels: channels that the decoder starts from, and the encoder ends with (twice as many in
            a KL autoencoder), before and after 1x1 convolutions; `latent_channels` by default.
        stem_channels: width of the encoder's first convolution; by default the first level's.
        image_channels: channels of the images.
        num_res_blocks: residual blocks a level in the encoder; the decoder has one more.
        attention_levels: levels with self-attention after each residual block.
        middle_attention: whether the middle has self-attention.
        attention_type: "softmax", or "linear" in the number of pixels.
        dropout: rate in the residual blocks.
        groups: of the group normalizations.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: if `channels` is empty, an attention level does not exist, or the type is unknown.
    """

    moments_per_latent = 1

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256),
        latent_channels: int = 4,
        *,
        z_channels: int | None = None,
        stem_channels: int | None = None,
        image_channels: int = 3,
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] = (),
        middle_attention: bool = True,
        attention_type: AttentionType = "softmax",
        dropout: float = 0.0,
        groups: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.latent_channels = latent_channels
        self.z_channels = latent_channels if z_channels is None else z_channels
        self.stem_channels = stem_channels
        self.image_channels = image_channels
        self.channels = tuple(channels)
        self.num_res_blocks = num_res_blocks
        self.attention_levels = tuple(attention_levels)
        self.middle_attention = middle_attention
        self.attention_type = attention_type
        self.dropout_rate = dropout
        self.groups = groups
        self._make_layers()
        self.build((None, None, None, image_channels))

    def _make_layers(self) -> None:
        policy = self.dtype_policy
        half = {**self._half_config(), "dtype": policy}
        self.encoder = Encoder(
            out_channels=self.moments_per_latent * self.z_channels,
            stem_channels=self.stem_channels,
            name="encoder",
            **half,
        )
        self.stem_channels = self.encoder.stem_channels
        self.to_moments = convolution(self.moment_channels, 1, policy, "to_moments")
        self.from_latents = convolution(self.z_channels, 1, policy, "from_latents")
        self.decoder = Decoder(out_channels=self.image_channels, name="decoder", **half)

    def _half_config(self) -> Config:
        return {
            "channels": self.channels,
            "num_res_blocks": self.num_res_blocks,
            "attention_levels": self.attention_levels,
            "middle_attention": self.middle_attention,
            "attention_type": self.attention_type,
            "dropout": self.dropout_rate,
            "groups": self.groups,
        }

    def build(self, input_shape: Shape) -> None:
        """Builds every layer; the constructor has done it."""
        if self.built:
            return

        def image(channels: int) -> Shape:
            return (None, None, None, channels)

        self.encoder.build(image(self.image_channels))
        self.to_moments.build(image(self.encoder.out_channels))
        self.from_latents.build(image(self.latent_channels))
        self.decoder.build(image(self.z_channels))
        self.built = True

    @property
    def moment_channels(self) -> int:
        """Channels of what `moments` gives."""
        return self.moments_per_latent * self.latent_channels

    @property
    def downsampling_factor(self) -> int:
        """How many pixels of the image's side one of the latents' side stands for."""
        return int(2 ** (len(self.channels) - 1))

    def moments(self, images: Tensor, training: bool = False) -> Tensor:
        """What describes the distribution of the latents, and is worth caching.

        Args:
            images: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1].
            training: whether dropout is active.

        Returns:
            float32 `(batch, height/f, width/f, moment_channels)`.
        """
        x = self.encoder(ops.cast(to_floats(images), self.compute_dtype), training=training)
        return ops.cast(self.to_moments(x), "float32")

    @abstractmethod
    def distribution(self, moments: Tensor) -> DiagonalGaussian | PointDistribution:
        """The distribution of the latents whose moments `moments()` gave."""

    def decode(self, latents: Tensor, training: bool = False) -> Tensor:
        """Images from latents.

        Args:
            latents: `(batch, h, w, latent_channels)`, on the scale that `encode` gives.
            training: whether dropout is active.

        Returns:
            float32 `(batch, h·f, w·f, image_channels)`, about in [-1, 1].
        """
        return self.decode_with_features(latents, training=training)[0]

    def decode_with_features(self, latents: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        """Images from latents, and what the decoder's last convolution made them from.

        Args:
            latents: `(batch, h, w, latent_channels)`, as `decode` takes them (codes, of a `VQModel`).
            training: whether dropout is active.

        Returns:
            The images, float32, and features `(batch, h·f, w·f, channels[0])`.
        """
        x = self.from_latents(ops.cast(latents, self.compute_dtype))
        features = self.decoder.last_features(x, training=training)
        return ops.cast(self.decoder.conv_out(features), "float32"), features

    # === Large images ===

    def moments_in_tiles(self, images: Array, tiling: Tiling | None = None) -> Array:
        """What `moments` says of large images, in memory for a tile. Compiled.

        Args:
            images: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1].
            tiling: by default tiles of 512 pixels that share 128.

        Returns:
            float32 `(batch, height/f, width/f, moment_channels)`, a NumPy array.

        Raises:
            ValueError: for what is not such images, or tiles that are not a whole number of latents.
        """
        images = check_images(images, self.image_channels, self.downsampling_factor)
        return (tiling or Tiling()).encode(self._moments_of_tiles, images, self.downsampling_factor)

    def decode_in_tiles(self, latents: Tensor, tiling: Tiling | None = None) -> Array:
        """What `decode` makes of large latents, in memory for a tile. Compiled.

        Args:
            latents: `(batch, h, w, latent_channels)`, as `decode` takes them.
            tiling: by default tiles of 512 pixels that share 128.

        Returns:
            float32 `(batch, h·f, w·f, image_channels)`, a NumPy array.

        Raises:
            ValueError: for what is not such latents, or tiles that are not a whole number of latents.
        """
        array = ops.convert_to_numpy(latents).astype(np.float32)
        if array.ndim != 4 or array.shape[-1] != self.latent_channels or 0 in array.shape:
            raise ValueError(
                f"Expected latents of shape (batch, h, w, {self.latent_channels}). "
                f"Received: shape {array.shape}"
            )
        return (tiling or Tiling()).decode(self._decode_tiles, array, self.downsampling_factor)

    @cached_property
    def _moments_of_tiles(self) -> TileFn:
        return self._of_tiles(self.moments)

    @cached_property
    def _decode_tiles(self) -> TileFn:
        return self._of_tiles(self.decode)

    def _of_tiles(self, function: Callable[[Tensor], Tensor]) -> TileFn:
        """A function of tiles and of what their group normalizations share; compiled."""

        def apply(tiles: Tensor, weights: Tensor, *statistics: Tensor) -> tuple[Tensor, Tensor]:
            with SharedStatistics(weights, *statistics) as shared:
                outputs = function(tiles)
            return outputs, shared.seen()

        compiled = compile_function(apply, self.variables)

        def call(*tensors: Tensor) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = compiled(values_of(self.variables), *tensors)
            return found

        return call

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **self._half_config(),
            "latent_channels": self.latent_channels,
            "z_channels": self.z_channels,
            "stem_channels": self.stem_channels,
            "image_channels": self.image_channels,
        }
