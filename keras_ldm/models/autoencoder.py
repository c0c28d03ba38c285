"""What the KL and the VQ autoencoder share: encoder, decoder and the two 1x1 convolutions between."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_ldm.images import to_floats
from keras_ldm.models.encoder_decoder import AttentionType, Decoder, Encoder, convolution
from keras_ldm.models.first_stage import FirstStage
from keras_ldm.types import Config, Shape, Tensor


class Autoencoder(FirstStage):
    """Convolutions from images to latents and back; a subclass says what stands between.

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
        rematerialize: whether training keeps the inputs of each block alone and computes the rest once
            more: less memory, more time.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: if `channels` is empty, an attention level does not exist, or the type is unknown; or
            for dropout with `rematerialize`.
    """

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
        rematerialize: bool = False,
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
        self.rematerialize = rematerialize
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
            "rematerialize": self.rematerialize,
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
    def downsampling_factor(self) -> int:
        """How many pixels of the image's side one of the latents' side stands for."""
        return int(2 ** (len(self.channels) - 1))

    def moments(self, images: Tensor, training: bool = False) -> Tensor:
        """What describes the distribution of the latents."""
        x = self.encoder(ops.cast(to_floats(images), self.compute_dtype), training=training)
        return ops.cast(self.to_moments(x), "float32")

    def decode(self, latents: Tensor, training: bool = False) -> Tensor:
        """Images from latents."""
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
