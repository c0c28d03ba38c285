"""A feature network of a few hundred weights that stands for the real ones."""

import keras
from keras import ops

from keras_ldm.models.feature_network import FeatureNetwork

DIM, CLASSES = 6, 4


class TinyFeatures(FeatureNetwork):
    """Random weights, the same for each seed; notes the shapes of images that it is called with."""

    side = 8

    def __init__(self, seed=0, resize_mode="bilinear", outputs=("pooled", "logits"), **kwargs):
        super().__init__(resize_mode, **kwargs)
        self.outputs_given = tuple(outputs)
        self.shapes = []
        initializer = keras.initializers.RandomNormal(0.0, 0.3, seed=seed)
        self.dense = keras.layers.Dense(DIM, kernel_initializer=initializer)
        self.dense.build((None, 3 * self.side**2))
        self.fc = keras.layers.Dense(CLASSES, kernel_initializer=initializer)
        self.fc.build((None, DIM))
        self.built = True
        self.trainable = False

    def call(self, inputs):
        self.shapes.append(tuple(inputs.shape))
        pixels = self.pixels(inputs) / 127.5 - 1.0
        pooled = ops.tanh(self.dense(ops.reshape(pixels, (ops.shape(pixels)[0], -1))))
        known = {"pooled": pooled, "logits": self.fc(pooled), "spatial": pooled[:, :3]}
        return {name: known[name] for name in self.outputs_given}
