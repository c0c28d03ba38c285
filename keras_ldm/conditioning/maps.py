"""Conditions that lie over the image: they are appended to the latents as further channels.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, sections 4.3.2 to 4.5;
`SpatialRescaler` (encoders/modules.py) and `inpaint.py` of the original code.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import freeze
from keras_ldm.conditioning.embedder import Embedder, check_integers
from keras_ldm.images import check_images, to_floats
from keras_ldm.layers import average_pixels
from keras_ldm.models import FirstStage
from keras_ldm.types import Array, Config, Tensor


class MapEmbedder(Embedder):
    """An embedder whose output is `concat`. There is no map that stands for none.

    Attributes:
        factor: how many pixels of the condition's side one of the latents' side stands for.
    """

    factor = 1

    def latent_sides(self, inputs: Array) -> tuple[int, int]:
        """Height and width of the latents that preprocessed maps lie over."""
        return inputs.shape[1] // self.factor, inputs.shape[2] // self.factor

    def null(self, batch_size: int) -> Array:
        """Refuses.

        Raises:
            ValueError: always: the model is not trained to do without.
        """
        raise ValueError(
            "Expected `negative_conditions` for guidance, since no map stands for none. Received: None"
        )


@keras.saving.register_keras_serializable("keras_ldm")
class SegmentationEmbedder(MapEmbedder):
    """Segmentation maps: one-hot, averaged down to the latents' size, and mixed by a 1x1 convolution.

    Args:
        num_classes: number of classes in the maps.
        channels: of the output; None leaves out the convolution.
        num_halvings: how often the sides are halved.
        use_bias: of the convolution.
        **kwargs: see `Embedder`.

    Call arguments:
        inputs: integers, `(batch, height, width)`.

    Output: `{"concat": (batch, height / 2^halvings, width / 2^halvings, channels)}`.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int | None = 3,
        num_halvings: int = 2,
        *,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.channels = channels
        self.num_halvings = num_halvings
        self.factor = 2**num_halvings
        self.use_bias = use_bias
        self.mix = None
        if channels is not None:
            self.mix = keras.layers.Conv2D(
                channels,
                1,
                use_bias=use_bias,
                data_format="channels_last",
                dtype=self.dtype_policy,
                name="mix",
            )
            self.mix.build((None, None, None, num_classes))
        self.built = True

    def preprocess(self, raw: Any) -> Array:
        """Maps, integers `(batch, height, width)`, to int32.

        Raises:
            ValueError: if they are not integers, beyond the classes, or of sides that cannot be halved.
        """
        maps = check_integers(raw, 3, self.num_classes, "segmentation maps")
        if maps.shape[1] % self.factor or maps.shape[2] % self.factor:
            raise ValueError(
                f"Expected segmentation maps with sides that divide by {self.factor}. "
                f"Received: shape {maps.shape}"
            )
        return maps

    def embed(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """One-hot, smaller, mixed."""
        x = ops.one_hot(inputs, self.num_classes, dtype=self.compute_dtype)
        for _ in range(self.num_halvings):
            x = average_pixels(x)
        return {"concat": x if self.mix is None else self.mix(x)}

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "channels": self.channels,
            "num_halvings": self.num_halvings,
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable("keras_ldm")
class ImageEmbedder(MapEmbedder):
    """Images of the latents' size, such as the low resolution in super-resolution, as they are.

    Args:
        channels: of the images.
        **kwargs: see `Embedder`.

    Call arguments:
        inputs: `(batch, h, w, channels)`, uint8 or floats in [-1, 1].

    Output: `{"concat": (batch, h, w, channels)}`, floats in [-1, 1].
    """

    def __init__(self, channels: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.built = True

    def preprocess(self, raw: Any) -> Array:
        """Checks the images.

        Raises:
            ValueError: if they are not images; see `keras_ldm.images.check_images`.
        """
        return check_images(raw, self.channels, 1, self.name)

    def embed(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """To floats."""
        return {"concat": to_floats(inputs)}

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_ldm")
class LatentEmbedder(MapEmbedder):
    """Images encoded by a frozen autoencoder (its mode, unscaled), such as the masked image.

    Args:
        autoencoder: usually the task's own.
        **kwargs: see `Embedder`.

    Call arguments:
        inputs: `(batch, height, width, channels)`, uint8 or floats in [-1, 1].

    Output: `{"concat": (batch, h, w, latent_channels)}`.
    """

    def __init__(self, autoencoder: FirstStage, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        freeze(autoencoder)
        self.autoencoder = autoencoder
        self.factor = autoencoder.downsampling_factor
        self.built = True

    def preprocess(self, raw: Any) -> Array:
        """Checks the images.

        Raises:
            ValueError: if the autoencoder does not take them.
        """
        model = self.autoencoder
        return check_images(raw, model.image_channels, model.downsampling_factor, self.name)

    def embed(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """Encodes."""
        moments = self.autoencoder.moments(to_floats(inputs))
        return {"concat": ops.stop_gradient(self.autoencoder.distribution(moments).mode())}

    def get_config(self) -> Config:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {**super().get_config(), "autoencoder": serialize(self.autoencoder)}

    @classmethod
    def from_config(cls, config: Config) -> "LatentEmbedder":
        """An embedder from `get_config()`'s value."""
        autoencoder = keras.saving.deserialize_keras_object(config["autoencoder"])
        return cls(**{**config, "autoencoder": autoencoder})


@keras.saving.register_keras_serializable("keras_ldm")
class MaskEmbedder(MapEmbedder):
    """Masks, brought to -1 and 1 and to the latents' size by taking every `factor`-th pixel.

    What they mask should be black in the image beside them, as it was in the original's training.

    Args:
        factor: the first stage's downsampling factor.
        **kwargs: see `Embedder`.

    Call arguments:
        inputs: `(batch, height, width, 1)`, 1 where the image is to be filled, 0 elsewhere.

    Output: `{"concat": (batch, height / factor, width / factor, 1)}`, -1 or 1.
    """

    def __init__(self, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor
        self.built = True

    def preprocess(self, raw: Any) -> Array:
        """Masks, `(batch, height, width)` or with a last axis of 1, to float32.

        Raises:
            ValueError: if they are of another shape, or hold anything but 0 and 1 (or booleans).
        """
        masks = np.asarray(raw)
        masks = masks[..., None] if masks.ndim == 3 else masks
        sides = masks.shape[1:3]
        if masks.ndim != 4 or masks.shape[-1] != 1 or any(side % self.factor for side in sides):
            raise ValueError(
                f"Expected masks of shape (batch, height, width), sides that divide by {self.factor}. "
                f"Received: shape {masks.shape}"
            )
        if masks.dtype.kind not in "biuf" or not np.isin(masks, (0, 1)).all():
            raise ValueError(
                f"Expected masks of 0 and 1, where 1 is to be filled. Received: dtype {masks.dtype}"
                + (f", {masks.min()} to {masks.max()}" if masks.dtype.kind in "biuf" else "")
            )
        return masks.astype(np.float32)

    def embed(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """Takes every `factor`-th pixel."""
        return {"concat": 2.0 * inputs[:, :: self.factor, :: self.factor] - 1.0}

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "factor": self.factor}
