"""How different two images look: distances between the features of a classifier.

    d(x, y) = Σ_l mean_hw Σ_c w_lc (f_lc(x) - f_lc(y))²,   features f of unit length at each pixel

Reference: Zhang et al. 2018, https://arxiv.org/abs/1801.03924, equation 1; version 0.1 of its authors'
package `lpips`, with VGG16 (Simonyan & Zisserman 2015) or AlexNet (Krizhevsky 2014) as torchvision has
them, up to each stage's last ReLU.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import freeze
from keras_ldm.images import to_floats
from keras_ldm.types import Config, Shape, Tensor

Backbone = Literal["vgg16", "alexnet"]

_SHIFT = np.array([-0.030, -0.088, -0.188], "float32")
_SCALE = np.array([0.458, 0.448, 0.450], "float32")


class _Stage(NamedTuple):
    """Convolutions, each with a ReLU, behind a pooling (size, stride) where there is one."""

    filters: Sequence[int]
    kernel_size: int = 3
    stride: int = 1
    padding: int = 1
    pooling: tuple[int, int] | None = None


_STAGES: dict[str, tuple[_Stage, ...]] = {
    "vgg16": (
        _Stage((64, 64)),
        _Stage((128, 128), pooling=(2, 2)),
        _Stage((256, 256, 256), pooling=(2, 2)),
        _Stage((512, 512, 512), pooling=(2, 2)),
        _Stage((512, 512, 512), pooling=(2, 2)),
    ),
    "alexnet": (
        _Stage((64,), kernel_size=11, stride=4, padding=2),
        _Stage((192,), kernel_size=5, padding=2, pooling=(3, 2)),
        _Stage((384,), pooling=(3, 2)),
        _Stage((256,)),
        _Stage((256,)),
    ),
}


@keras.saving.register_keras_serializable("keras_ldm")
class LPIPSNetwork(keras.Model):
    """Perceptual distance of two images each, learned from people's judgements.

    It is made with random weights, which mean nothing: `keras_ldm.losses.LPIPS` and
    `keras_ldm.metrics.LPIPS` make it with the published ones. It is frozen.

    Args:
        backbone: "vgg16", the paper's choice for training, or "alexnet", its choice for measuring.
        **kwargs: see `keras.Model`.

    Input: two tensors `(batch, height, width, 3)`, uint8 or floats in [-1, 1], of at least
        `min_size` pixels a side.
    Output shape: `(batch,)`, float32, at least 0.

    Raises:
        ValueError: for another backbone.
    """

    def __init__(self, backbone: Backbone = "vgg16", **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        if backbone not in get_args(Backbone):
            raise ValueError(
                f"Expected `backbone` {' or '.join(map(repr, get_args(Backbone)))}. "
                f"Received: {backbone!r}"
            )
        self.backbone = backbone
        self.stages = [
            self._make_stage(stage, f"stage{index}") for index, stage in enumerate(_STAGES[backbone])
        ]
        self.build()
        freeze(self)

    def _make_stage(self, stage: _Stage, name: str) -> list[keras.layers.Layer]:
        options = {"data_format": "channels_last", "dtype": self.dtype_policy}
        layers: list[keras.layers.Layer] = []
        if stage.pooling:
            size, stride = stage.pooling
            layers.append(keras.layers.MaxPooling2D(size, stride, name=f"{name}_pool", **options))
        same = stage.stride == 1  # of odd kernels: as much on each side
        if not same:
            layers.append(keras.layers.ZeroPadding2D(stage.padding, name=f"{name}_pad", **options))
        for index, filters in enumerate(stage.filters):
            layers.append(
                keras.layers.Conv2D(
                    filters,
                    stage.kernel_size,
                    stage.stride,
                    padding="same" if same else "valid",
                    activation="relu",
                    name=f"{name}_conv{index}",
                    **options,
                )
            )
        return layers

    def build(self, input_shape: Shape | None = None) -> None:
        """Builds every layer; the constructor has done it."""
        if self.built:
            return
        shape: Shape = (None, None, None, 3)
        for layer in (layer for stage in self.stages for layer in stage):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.importances = [
            self.add_weight(
                shape=(convolutions[-1].filters,), initializer="zeros", name=f"importance{i}"
            )
            for i, convolutions in enumerate(self.convolutions)
        ]
        self.built = True

    @property
    def convolutions(self) -> list[list[keras.layers.Conv2D]]:
        """The convolutions of each stage."""
        return [[x for x in stage if isinstance(x, keras.layers.Conv2D)] for stage in self.stages]

    @property
    def min_size(self) -> int:
        """The least side of an image, in pixels, that leaves each stage something."""
        return 16 if self.backbone == "vgg16" else 31

    def features(self, images: Tensor) -> list[Tensor]:
        """Features of each stage, of unit length at each pixel.

        Args:
            images: `(batch, height, width, 3)`, uint8 or floats in [-1, 1].

        Returns:
            float32 tensors `(batch, h, w, channels)`.

        Raises:
            ValueError: if the images are smaller than `min_size`, or do not have three channels.
        """
        sides = images.shape[1:3]
        if images.shape[-1] != 3 or any(side is not None and side < self.min_size for side in sides):
            raise ValueError(
                f"Expected images (batch, height, width, 3) of at least {self.min_size} pixels a side "
                f"for LPIPS with {self.backbone!r}. Received: shape {tuple(images.shape)}"
            )
        shift, scale = (ops.convert_to_tensor(constant) for constant in (_SHIFT, _SCALE))
        x = ops.cast((to_floats(images) - shift) / scale, self.compute_dtype)
        features = []
        for stage in self.stages:
            for layer in stage:
                x = layer(x)
            wide = ops.cast(x, "float32")
            # At 0 the root has no gradient.
            squared = ops.maximum(ops.sum(ops.square(wide), axis=-1, keepdims=True), 1e-20)
            features.append(wide / (ops.sqrt(squared) + 1e-10))
        return features

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """The distance of two images' `features`, `(batch,)`."""
        total = 0.0
        for x, y, importance in zip(first, second, self.importances, strict=True):
            weighted = ops.square(x - y) * ops.cast(importance, "float32")
            total += ops.mean(ops.sum(weighted, axis=-1), axis=(1, 2))
        return total

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        """The distance of each image of the first from that of the second."""
        first, second = inputs
        return self.distance(self.features(first), self.features(second))

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "backbone": self.backbone}
