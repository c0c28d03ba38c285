"""The transformers of CLIP: keras_nlp's, made to compute what those who train them do.

As they come, its encoder of texts ends with another epsilon (1e-6) than CLIP has, both have 1e-5
elsewhere whatever a checkpoint's configuration says, and the encoder of images takes the first position
for every patch until its numbers of the positions are set. keras_nlp is imported when one is made.

Reference: Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 2.4.
"""

from typing import Any, Literal, get_args

import keras
import numpy as np

Activation = Literal["quick_gelu", "gelu"]
"""OpenAI's x·sigmoid(1.702 x), or the exact GELU that most others have trained with."""


def image_encoder(
    patch_size: int, image_size: int, activation: Activation, epsilon: float, **sizes: Any
) -> keras.Model:
    """From images to tokens, the first of which stands for the image.

    Args:
        patch_size: pixels a side of a patch.
        image_size: pixels a side of the images.
        activation: of the feed-forward layers.
        epsilon: of the normalizations.
        **sizes: and what else `keras_nlp.models.CLIPVisionEncoder` takes.

    Returns:
        A model from `{"images": (batch, image_size, image_size, 3)}` to `(batch, tokens, hidden_dim)`.

    Raises:
        ValueError: for another activation, or a width that does not divide by the heads.
    """
    check_activation(activation)
    import keras_nlp

    encoder = keras_nlp.models.CLIPVisionEncoder(
        patch_size,
        intermediate_activation=activation,
        image_shape=(image_size, image_size, 3),
        data_format="channels_last",
        **sizes,
    )
    positions = encoder.embedding.position_ids
    positions.assign(np.arange(positions.shape[1])[None])
    _set_epsilon(encoder, epsilon)
    encoder.pre_layer_norm.epsilon = epsilon
    return encoder


def text_encoder(activation: Activation, epsilon: float, **sizes: Any) -> keras.Model:
    """From token ids to tokens, each of which has seen those before it.

    Args:
        activation: of the feed-forward layers.
        epsilon: of the normalizations.
        **sizes: and what else `keras_nlp.models.CLIPTextEncoder` takes.

    Returns:
        A model from `{"token_ids": (batch, tokens)}` to `(batch, tokens, hidden_dim)`.

    Raises:
        ValueError: for another activation, or a width that does not divide by the heads.
    """
    check_activation(activation)
    import keras_nlp

    encoder = keras_nlp.models.CLIPTextEncoder(intermediate_activation=activation, **sizes)
    _set_epsilon(encoder, epsilon)
    return encoder


def check_activation(activation: str) -> None:
    """Raises a ValueError for an activation that no CLIP has."""
    if activation not in get_args(Activation):
        raise ValueError(
            f"Expected an activation among {', '.join(map(repr, get_args(Activation)))}. "
            f"Received: {activation!r}"
        )


def _set_epsilon(encoder: keras.Model, epsilon: float) -> None:
    norms = [encoder.layer_norm]
    for layer in encoder.encoder_layers:
        norms += [layer.layer_norm_1, layer.layer_norm_2]
    for norm in norms:
        norm.epsilon = epsilon
