"""What the networks share whose features of images are measured: images come in any size."""

from typing import Any

import keras
from keras import ops

from keras_ldm.images import to_floats
from keras_ldm.layers.resizing import ResizeMode, check_resize_mode, resize_images
from keras_ldm.types import Config, Tensor


class FeatureNetwork(keras.Model):
    """A network that others have trained on images of one size.

    Args:
        resize_mode: how images are resized to it: see `keras_ldm.layers.resize_images`.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: for another mode.
    """

    side = 0
    """Pixels a side of what the network takes."""

    def __init__(self, resize_mode: ResizeMode, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        check_resize_mode(resize_mode)
        self.resize_mode = resize_mode

    def pixels(self, images: Tensor) -> Tensor:
        """Images in the network's size, float32 from 0 to 255.

        Raises:
            ValueError: for images that do not have three channels.
        """
        if len(images.shape) != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"Expected images (batch, height, width, 3). Received: shape {tuple(images.shape)}"
            )
        pixels = (to_floats(images) + 1.0) * 127.5
        return ops.clip(resize_images(pixels, self.side, self.resize_mode), 0.0, 255.0)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "resize_mode": self.resize_mode}
