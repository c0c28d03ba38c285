"""Networks of a few weights that stand for Inception-v3, and images for them."""

import functools

import keras
import numpy as np

from keras_ldm.images import to_floats


@functools.cache
def classifier(seed: int = 0) -> keras.Model:
    """That of `new_classifier`, made once; its weights stay as they are."""
    return new_classifier(seed)


def new_classifier(seed: int = 0) -> keras.Model:
    """Six features and seven logits of images of any size."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, None, 3))
    x = inputs
    for width in (5, 6):
        conv = keras.layers.Conv2D(width, 3, strides=2, activation="relu", data_format="channels_last")
        x = conv(x)
    pooled = keras.layers.GlobalAveragePooling2D(data_format="channels_last")(x)
    logits = keras.layers.Dense(7)(pooled)
    network = keras.Model(inputs, {"pooled": pooled, "logits": logits})
    rng = np.random.default_rng(seed)
    weights = [rng.normal(0.3, 1.0, weight.shape) for weight in network.weights]
    network.set_weights([*weights[:-2], *(0.1 * weight for weight in weights[-2:])])
    return network


@keras.saving.register_keras_serializable("tests")
class FarFeatures(keras.Model):
    """Four pixels' values, moved far from 0 without rounding: images are multiples of 1/64."""

    def __init__(self, offset: float = 0.0, resize_mode: str = "bilinear", **kwargs):
        super().__init__(**kwargs)
        self.offset = offset
        self.resize_mode = resize_mode
        self.built = True

    def call(self, inputs):
        return inputs[:, 0, :4, 0] + self.offset

    def get_config(self):
        return {**super().get_config(), "offset": self.offset, "resize_mode": self.resize_mode}


def images(count: int, seed: int = 0, side: int = 12) -> np.ndarray:
    """uint8, unlike those of another seed in brightness."""
    rng = np.random.default_rng(seed)
    bright = rng.integers(30, 160, (count, 1, 1, 3)) + 60 * (seed % 2)
    return np.clip(bright + rng.integers(-40, 40, (count, side, side, 3)), 0, 255).astype("uint8")


def sixty_fourths(count: int, seed: int = 0) -> np.ndarray:
    """Floats in [-1, 1] that float32 adds to numbers up to 10,000 exactly."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 12 + seed, (count, 4)) @ (np.eye(4) + 0.5 * (seed + 1)) + seed
    values = np.clip(np.round(mixed), -64, 64) / 64
    return np.broadcast_to(values[:, None, :, None], (count, 2, 4, 3)).astype("float32")


def features(network: keras.Model, pictures: np.ndarray, name: str = "pooled") -> np.ndarray:
    """What the network makes of images, by Keras's own loop."""
    floats = keras.ops.convert_to_numpy(to_floats(keras.ops.convert_to_tensor(pictures)))
    outputs = network.predict(floats, batch_size=8, verbose=0)
    return outputs[name] if isinstance(outputs, dict) else outputs
