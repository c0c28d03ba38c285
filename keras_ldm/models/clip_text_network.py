"""The captions' side of CLIP."""

from typing import Any

import keras
from keras import ops

from keras_ldm.backend import freeze
from keras_ldm.models.clip_encoders import Activation, text_encoder
from keras_ldm.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class CLIPTextNetwork(keras.Model):
    """Features of captions that are near those of their images.

    It is made with random weights; `keras_ldm.models.pretrained_clip` makes it with those in a folder.
    The defaults are the sizes beside ViT-B/32. It is frozen.

    Args:
        vocabulary_size: number of token ids.
        hidden_dim: width of the transformer.
        num_layers: its layers.
        num_heads: heads of its attention.
        intermediate_dim: width of its feed-forward layers.
        projection_dim: width of what images and captions share.
        max_length: tokens a caption may have, with those of start and end.
        end_token_id: of the token that ends a caption, and stands for it.
        activation: "quick_gelu", OpenAI's, or "gelu".
        epsilon: of the normalizations.
        **kwargs: see `keras.Model`.

    Input shape: `(batch, tokens)`, token ids, of which what follows the first end token does not matter.
    Output shape: `(batch, projection_dim)`, float32, not normalized.

    Raises:
        ValueError: for another activation, or a width that does not divide by the heads.

    Reference: Radford et al. 2021, https://arxiv.org/abs/2103.00020.
    """

    def __init__(
        self,
        vocabulary_size: int = 49408,
        hidden_dim: int = 512,
        num_layers: int = 12,
        num_heads: int = 8,
        intermediate_dim: int = 2048,
        projection_dim: int = 512,
        max_length: int = 77,
        end_token_id: int = 49407,
        activation: Activation = "quick_gelu",
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.sizes: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "hidden_dim": hidden_dim,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "intermediate_dim": intermediate_dim,
            "activation": activation,
            "epsilon": epsilon,
        }
        self.max_length = max_length
        self.end_token_id = end_token_id
        self.projection_dim = projection_dim
        self.encoder = text_encoder(
            **self.sizes,
            embedding_dim=hidden_dim,
            max_sequence_length=max_length,
            dtype=self.dtype_policy,
            name="encoder",
        )
        self.projection = keras.layers.Dense(
            projection_dim, use_bias=False, dtype=self.dtype_policy, name="projection"
        )
        self.projection.build((None, hidden_dim))
        self.built = True
        freeze(self)

    def call(self, inputs: Tensor) -> Tensor:
        """The captions' embeddings."""
        ids = ops.cast(inputs, "int32")
        end = ops.argmax(ops.cast(ids == self.end_token_id, "int32"), axis=-1)  # the first
        hidden = ops.take_along_axis(self.encoder({"token_ids": ids}), end[:, None, None], axis=1)
        return ops.cast(self.projection(hidden[:, 0]), "float32")

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **self.sizes,
            "projection_dim": self.projection_dim,
            "max_length": self.max_length,
            "end_token_id": self.end_token_id,
        }
