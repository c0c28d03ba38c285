"""Freezing layers, which TensorFlow does its own way."""

import keras


def freeze(layer: keras.layers.Layer) -> None:
    """Makes a layer and all its parts untrainable.

    On TensorFlow an assignment of the value that an attribute has is skipped, so that a layer that was
    made with `trainable=False`, as from a file, would keep its parts trainable.
    """
    layer.trainable = True
    layer.trainable = False
