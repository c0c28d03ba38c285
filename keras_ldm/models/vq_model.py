"""The vector-quantized autoencoder: each pixel of its latents is one entry of a codebook.

The latents that diffusion works on are those before quantization, which is part of decoding.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1 and appendix G;
`VQModel` and `VQModelInterface` (autoencoder.py) of the original code.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ldm.layers import PointDistribution, Quantized, VectorQuantizer
from keras_ldm.layers.quantization import Distance
from keras_ldm.models.autoencoder import Autoencoder
from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class VQModel(Autoencoder):
    """An autoencoder with a codebook.

    Args:
        channels: see `Autoencoder` for this, `latent_channels` and the other arguments.
        latent_channels: width of the codes.
        num_codes: entries of the codebook.
        beta: see `VectorQuantizer`.
        legacy_beta: see `VectorQuantizer`, `legacy`.
        distance: see `VectorQuantizer`.
        codebook_ema_decay: see `VectorQuantizer`, `ema_decay`.
        restart_below: see `VectorQuantizer`.
        **kwargs: see `Autoencoder`.

    Input shape: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1], sides that
        divide by the downsampling factor. Output shape: the same (decoded from the codes).

    Example:

    ```python
    autoencoder = keras_ldm.models.VQModel(channels=(32, 64, 64), latent_channels=4, num_codes=512)
    latents = autoencoder.encode(images)                   # (batch, height/4, width/4, 4)
    codes, indices, codebook_loss = autoencoder.quantize(latents)
    images = autoencoder.decode(latents)                   # quantizes first
    ```
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256),
        latent_channels: int = 4,
        num_codes: int = 1024,
        *,
        beta: float = 0.25,
        legacy_beta: bool = True,
        distance: Distance = "euclidean",
        codebook_ema_decay: float | None = None,
        restart_below: float | None = None,
        **kwargs: Any,
    ) -> None:
        self._quantizer_config: Config = {
            "num_codes": num_codes,
            "beta": beta,
            "legacy": legacy_beta,
            "distance": distance,
            "ema_decay": codebook_ema_decay,
            "restart_below": restart_below,
        }
        super().__init__(channels, latent_channels, **kwargs)
        self.__dict__.pop("quantize", None)  # Keras puts its own, to int8, on every layer

    def _make_layers(self) -> None:
        super()._make_layers()
        self.quantizer = VectorQuantizer(
            **self._quantizer_config, dtype=self.dtype_policy, name="quantizer"
        )

    def build(self, input_shape: Shape) -> None:
        """Builds every layer; the constructor has done it."""
        if not self.built:
            self.quantizer.build((None, None, None, self.latent_channels))
        super().build(input_shape)

    def distribution(self, moments: Tensor) -> PointDistribution:
        """All probability on the latents themselves."""
        return PointDistribution(moments)

    def encode(self, images: Tensor, training: bool = False) -> Tensor:
        """Latents before quantization.

        Args:
            images: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1].
            training: whether dropout is active.

        Returns:
            float32 `(batch, height/f, width/f, latent_channels)`.
        """
        return self.moments(images, training=training)

    def quantize(self, latents: Tensor, training: bool = False) -> Quantized:
        """The nearest codes, their indices and the codebook loss.

        Args:
            latents: `(batch, h, w, latent_channels)`.
            training: whether codes that follow averages move.
        """
        return self.quantizer(latents, training=training)

    def decode(self, latents: Tensor, training: bool = False, *, quantize: bool = True) -> Tensor:
        """Images from latents.

        Args:
            latents: `(batch, h, w, latent_channels)`, before quantization or codes.
            training: whether dropout is active.
            quantize: whether to take the nearest codes first.

        Returns:
            float32 `(batch, h·f, w·f, image_channels)`, about in [-1, 1].
        """
        if quantize:
            latents = self.quantize(latents).latents
        return super().decode(latents, training=training)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Encodes, quantizes and decodes."""
        return self.decode(self.encode(inputs, training=training), training=training)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        quantizer = self._quantizer_config
        return {
            **super().get_config(),
            "num_codes": quantizer["num_codes"],
            "beta": quantizer["beta"],
            "legacy_beta": quantizer["legacy"],
            "distance": quantizer["distance"],
            "codebook_ema_decay": quantizer["ema_decay"],
            "restart_below": quantizer["restart_below"],
        }
