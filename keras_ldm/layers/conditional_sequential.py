"""A row of layers of which some take the timestep embedding and some the context.

Reference: `TimestepEmbedSequential` of the original code.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ldm.layers.residual import ResidualBlock
from keras_ldm.layers.transformer import SpatialTransformer
from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class ConditionalSequential(keras.layers.Layer):
    """Applies layers in order, giving each what it takes.

    Args:
        layers: residual blocks get the embedding, spatial transformers the context, others only
            the image.
        **kwargs: see `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        embedding: `(batch, embedding_dim)`.
        context: `(batch, context_tokens, context_dim)`, or None.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layers = list(layers)

    def build(self, inputs_shape: Shape, context_shape: Shape | None = None) -> None:
        """Builds the layers, each on the output shape of the one before."""
        shape = inputs_shape
        for layer in self.layers:
            if layer.built:  # as from a configuration
                pass
            elif isinstance(layer, SpatialTransformer):
                layer.build(shape, context_shape)
            else:
                layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(
        self,
        inputs: Tensor,
        embedding: Tensor | None = None,
        context: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Applies the layers."""
        x = inputs
        for layer in self.layers:
            if isinstance(layer, ResidualBlock):
                x = layer(x, embedding, training=training)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context, training=training)
            else:
                x = layer(x)
        return x

    def compute_output_shape(self, input_shape: Shape, *args: Any, **kwargs: Any) -> Shape:
        """What the layers make of the input's shape, one after the other."""
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self) -> Config:
        """The layers' configurations."""
        return {
            **super().get_config(),
            "layers": [keras.saving.serialize_keras_object(layer) for layer in self.layers],
        }

    @classmethod
    def from_config(cls, config: Config) -> "ConditionalSequential":
        """A row of layers from `get_config()`'s value."""
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]]
        return cls(**{**config, "layers": layers})
