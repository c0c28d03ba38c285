"""Keras's dense layer, quicker to trace on TensorFlow where it is applied to tokens.

Keras makes a tensor contraction of it there: with its gradient, some forty operations on shapes beside
the three products, and the bias cannot be added within the product.
"""

import keras
from keras import ops

from keras_ldm.layers.reshaping import reshape_like
from keras_ldm.types import Tensor


class Dense(keras.layers.Dense):  # named as Keras's: files name layers in lists by their class
    """`keras.layers.Dense`, as one product of matrices whatever comes before the last axis.

    Input shape: `(batch, ..., features)`. Output shape: `(batch, ..., units)`.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Multiplies by the kernel, adds the bias, activates."""
        if len(inputs.shape) <= 2 or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training)
        rows = super().call(ops.reshape(inputs, (-1, inputs.shape[-1])), training=training)
        return reshape_like(rows, inputs, self.units)
