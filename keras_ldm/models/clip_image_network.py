"""The images' side of CLIP: features that captions compare with."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ldm.backend import freeze
from keras_ldm.layers.resizing import ResizeMode
from keras_ldm.models.clip_encoders import Activation, image_encoder
from keras_ldm.models.feature_network import FeatureNetwork
from keras_ldm.types import Config, Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of red, green and blue, from 0 to 1, that OpenAI's CLIP subtracts, and most others."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""What they divide by."""


@keras.saving.register_keras_serializable("keras_ldm")
class CLIPImageNetwork(FeatureNetwork):
    """Features of images that are near those of their captions.

    It is made with random weights; `keras_ldm.models.pretrained_clip` makes it with those in a folder.
    The defaults are the sizes of ViT-B/32. It is frozen.

    Square images are resized as CLIP does it, up to the rounding to whole grey levels, which it does and
    this does not. Of others the middle square is taken, at whole pixels, and resized; CLIP resizes first
    and cuts then.

    Args:
        patch_size: pixels a side of a patch.
        hidden_dim: width of the transformer.
        num_layers: its layers.
        num_heads: heads of its attention.
        intermediate_dim: width of its feed-forward layers.
        projection_dim: width of what images and captions share.
        image_size: pixels a side of what it takes.
        activation: "quick_gelu", OpenAI's, or "gelu".
        epsilon: of the normalizations.
        mean: of red, green and blue, from 0 to 1, to subtract.
        std: of them, to divide by.
        resize_mode: how images are resized: see `keras_ldm.layers.resize_images`.
        **kwargs: see `keras.Model`.

    Input shape: `(batch, height, width, 3)`, uint8 or floats in [-1, 1].

    Output: a dictionary of float32 tensors:
        "pooled", `(batch, projection_dim)`, the embedding, not normalized, for distances and CLIP score;
        "hidden", `(batch, hidden_dim)`, before the projection.

    Raises:
        ValueError: for another mode or activation, or a width that does not divide by the heads; for
            images that do not have three channels.

    Reference: Radford et al. 2021, https://arxiv.org/abs/2103.00020.
    """

    def __init__(
        self,
        patch_size: int = 32,
        hidden_dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate_dim: int = 3072,
        projection_dim: int = 512,
        image_size: int = 224,
        activation: Activation = "quick_gelu",
        epsilon: float = 1e-5,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        resize_mode: ResizeMode = "bicubic_antialias",
        **kwargs: Any,
    ) -> None:
        super().__init__(resize_mode, **kwargs)
        self.side = image_size
        self.sizes: dict[str, Any] = {
            "patch_size": patch_size,
            "hidden_dim": hidden_dim,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "intermediate_dim": intermediate_dim,
            "image_size": image_size,
            "activation": activation,
            "epsilon": epsilon,
        }
        self.projection_dim = projection_dim
        self.mean, self.std = tuple(mean), tuple(std)
        self.encoder = image_encoder(**self.sizes, dtype=self.dtype_policy, name="encoder")
        self.projection = keras.layers.Dense(
            projection_dim, use_bias=False, dtype=self.dtype_policy, name="projection"
        )
        self.projection.build((None, hidden_dim))
        self.built = True
        freeze(self)

    def pixels(self, images: Tensor) -> Tensor:
        """The middle squares of images in the network's size, float32 from 0 to 255."""
        if len(images.shape) == 4 and all(images.shape[1:3]):
            height, width = images.shape[1:3]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            images = images[:, top : top + side, left : left + side]
        return super().pixels(images)

    def call(self, inputs: Tensor) -> dict[str, Tensor]:
        """The features, by name."""
        mean, std = (ops.convert_to_tensor(x, dtype="float32") for x in (self.mean, self.std))
        x = (self.pixels(inputs) / 255.0 - mean) / std
        tokens = self.encoder({"images": ops.cast(x, self.compute_dtype)})
        hidden = tokens[:, 0]
        return {
            "pooled": ops.cast(self.projection(hidden), "float32"),
            "hidden": ops.cast(hidden, "float32"),
        }

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **self.sizes,
            "projection_dim": self.projection_dim,
            "mean": list(self.mean),
            "std": list(self.std),
        }
