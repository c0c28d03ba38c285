"""No first stage: diffusion in pixels, which the paper calls LDM-1.

Reference: `IdentityFirstStage` (autoencoder.py) of the original code.
"""

from typing import Any

import keras
from keras import ops

from keras_ldm.images import to_floats
from keras_ldm.layers import PointDistribution
from keras_ldm.models.first_stage import FirstStage
from keras_ldm.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class IdentityFirstStage(FirstStage):
    """Images as they are: a task on it is diffusion in pixels, f = 1.

    Give the task `latent_scale=1.0` for the usual scale of pixels, [-1, 1].

    Args:
        image_channels: channels of the images, which are those of the latents.
        **kwargs: see `keras.Model`.

    Input shape: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1].
    Output shape: the same, float32.

    Raises:
        ValueError: for less than one channel.

    Example:

    ```python
    pixels = keras_ldm.models.IdentityFirstStage()
    unet = keras_ldm.models.UNet((64, 128), 3, 3)
    task = keras_ldm.tasks.LatentDiffusion(pixels, unet, latent_scale=1.0)
    ```
    """

    def __init__(self, image_channels: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(image_channels, int) or image_channels < 1:
            raise ValueError(f"Expected `image_channels` >= 1. Received: {image_channels}")
        self.image_channels = self.latent_channels = image_channels
        self.built = True

    @property
    def downsampling_factor(self) -> int:
        """1."""
        return 1

    def moments(self, images: Tensor, training: bool = False) -> Tensor:
        """The images, float32 in [-1, 1]."""
        return to_floats(images)

    def distribution(self, moments: Tensor) -> PointDistribution:
        """All probability on the images."""
        return PointDistribution(moments)

    def decode(self, latents: Tensor, training: bool = False) -> Tensor:
        """The latents, float32."""
        return ops.cast(latents, "float32")

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """The images, float32 in [-1, 1]."""
        return self.decode(self.moments(inputs))

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "image_channels": self.image_channels}
