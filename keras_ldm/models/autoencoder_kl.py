"""The KL-regularised autoencoder: images to a smaller, smooth latent space and back.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1 and appendix G;
`AutoencoderKL` (autoencoder.py) of the original code.
"""

import keras

from keras_ldm.layers import DiagonalGaussian
from keras_ldm.models.autoencoder import Autoencoder
from keras_ldm.types import Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class AutoencoderKL(Autoencoder):
    """An autoencoder whose latents follow a normal distribution of their own for each image.

    The arguments are those of `Autoencoder`.

    Input shape: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1], sides that
        divide by the downsampling factor. Output shape: the same (decoded from the mode).

    Example:

    ```python
    autoencoder = keras_ldm.models.AutoencoderKL(channels=(32, 64, 64), latent_channels=4)
    posterior = autoencoder.encode(images)       # posterior.mean: (batch, height/4, width/4, 4)
    images = autoencoder.decode(posterior.mode())
    ```
    """

    moments_per_latent = 2

    def distribution(self, moments: Tensor) -> DiagonalGaussian:
        """The distribution of the latents whose moments `moments()` gave."""
        return DiagonalGaussian(moments)

    def encode(self, images: Tensor, training: bool = False) -> DiagonalGaussian:
        """The distribution of the latents.

        Args:
            images: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1].
            training: whether dropout is active.
        """
        return self.distribution(self.moments(images, training=training))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Encodes and decodes the mode."""
        return self.decode(self.encode(inputs, training=training).mode(), training=training)
