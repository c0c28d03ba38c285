"""EfficientNet-Lite0: features of images without a download, from a package that holds its weights.

Reference: Tan & Le 2019, https://arxiv.org/abs/1905.11946; Liu 2020, "Higher accuracy on vision models
with EfficientNet-Lite": without squeeze-and-excitation, with ReLU6.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ldm.backend import freeze
from keras_ldm.layers import ConvUnit
from keras_ldm.layers.resizing import ResizeMode
from keras_ldm.models.feature_network import FeatureNetwork
from keras_ldm.types import Tensor


class _Stage(NamedTuple):
    repeats: int
    kernel_size: int
    strides: int  # of the first block
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


@keras.saving.register_keras_serializable("keras_ldm")
class EfficientNetLite0(FeatureNetwork):
    """Features of images for distances that are compared among each other.

    They are not those of published results: FID is a distance of Inception-v3's. It is made with random
    weights; `keras_ldm.models.pretrained_efficientnet` makes it with the published ones. It is frozen.

    Args:
        resize_mode: how images are resized to 224x224: see `keras_ldm.layers.resize_images`.
        **kwargs: see `keras.Model`.

    Input shape: `(batch, height, width, 3)`, uint8 or floats in [-1, 1].

    Output: a dictionary of float32 tensors:
        "pooled", `(batch, 1280)`, for distances, precision and recall;
        "logits", `(batch, 1000)`, of the classes of ImageNet.

    Raises:
        ValueError: for another mode; for images that do not have three channels.
    """

    side = 224

    def __init__(self, resize_mode: ResizeMode = "bicubic_antialias", **kwargs: Any) -> None:
        super().__init__(resize_mode, **kwargs)
        self.stem = self._unit("stem", 3, 32, 3, 2)
        self.blocks: list[list[ConvUnit]] = []
        channels = 32
        for stage in _STAGES:
            for repeat in range(stage.repeats):
                strides = stage.strides if repeat == 0 else 1
                self.blocks.append(self._block(channels, stage, strides))
                channels = stage.filters
        self.head = self._unit("head", channels, 1280)
        self.fc = keras.layers.Dense(1000, dtype=self.dtype_policy, name="fc")
        self.fc.build((None, 1280))
        self.built = True
        freeze(self)

    def _unit(
        self,
        name: str,
        channels: int,
        filters: int | None,
        size: int = 1,
        strides: int = 1,
        **kwargs: Any,
    ) -> ConvUnit:
        kwargs = {"activation": "relu6", "dtype": self.dtype_policy, "name": name, **kwargs}
        unit = ConvUnit(filters, size, strides, **kwargs)
        unit.build((None, None, None, channels))
        return unit

    def _block(self, channels: int, stage: _Stage, strides: int) -> list[ConvUnit]:
        """Widens, where it does, filters each channel, and narrows."""
        name, wide = f"block{len(self.blocks)}", channels * stage.expansion
        units = [self._unit(f"{name}_expand", channels, wide)] if stage.expansion > 1 else []
        units.append(self._unit(f"{name}_depthwise", wide, None, stage.kernel_size, strides))
        return [*units, self._unit(f"{name}_project", wide, stage.filters, activation=None)]

    def call(self, inputs: Tensor) -> dict[str, Tensor]:
        """The features, by name."""
        pixels = self.pixels(inputs)
        x = self.stem(ops.cast((pixels - 127.0) / 128.0, self.compute_dtype))
        for units in self.blocks:
            y = x
            for unit in units:
                y = unit(y)
            x = x + y if y.shape == x.shape else y
        pooled = ops.mean(ops.cast(self.head(x), "float32"), axis=(1, 2))
        return {"pooled": pooled, "logits": ops.cast(self.fc(pooled), "float32")}
