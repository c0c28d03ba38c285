"""The Inception-v3 of the first Fréchet Inception Distance.

It is the network that TensorFlow published on 5 December 2015, which is not that of
`keras.applications`: it has 1,008 classes, its average pooling leaves out the padding, and the last
block pools by the maximum.

Reference: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567; Heusel et al. 2017,
https://arxiv.org/abs/1706.08500.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import keras
from keras import ops

from keras_ldm.backend import freeze
from keras_ldm.layers import ConvUnit
from keras_ldm.layers.resizing import ResizeMode
from keras_ldm.models.feature_network import FeatureNetwork
from keras_ldm.types import Tensor

_SPATIAL_BLOCK, _SPATIAL_CHANNELS = "Mixed_6d", 7  # "mixed_6/conv" of the original graph, cut by ADM


class _Conv(NamedTuple):
    """A convolution without bias, batch normalization and ReLU."""

    filters: int
    kernel_size: int | tuple[int, int] = 1
    strides: int = 1
    padding: Literal["same", "valid"] = "same"


class _Pool(NamedTuple):
    kind: Literal["average", "max"]
    strides: int = 1


Step = _Conv | _Pool | Mapping[str, _Conv]
"""What a branch does next; of several convolutions beside one another, the outputs are joined."""

_STEM: dict[str, _Conv | _Pool] = {
    "Conv2d_1a_3x3": _Conv(32, 3, 2, "valid"),
    "Conv2d_2a_3x3": _Conv(32, 3, 1, "valid"),
    "Conv2d_2b_3x3": _Conv(64, 3),
    "MaxPool_1": _Pool("max", 2),
    "Conv2d_3b_1x1": _Conv(80),
    "Conv2d_4a_3x3": _Conv(192, 3, 1, "valid"),
    "MaxPool_2": _Pool("max", 2),
}


def _block_a(pooled: int) -> tuple[dict[str, Step], ...]:
    return (
        {"branch1x1": _Conv(64)},
        {"branch5x5_1": _Conv(48), "branch5x5_2": _Conv(64, 5)},
        {"branch3x3dbl_1": _Conv(64), "branch3x3dbl_2": _Conv(96, 3), "branch3x3dbl_3": _Conv(96, 3)},
        {"pool": _Pool("average"), "branch_pool": _Conv(pooled)},
    )


def _block_b() -> tuple[dict[str, Step], ...]:
    return (
        {"branch3x3": _Conv(384, 3, 2, "valid")},
        {
            "branch3x3dbl_1": _Conv(64),
            "branch3x3dbl_2": _Conv(96, 3),
            "branch3x3dbl_3": _Conv(96, 3, 2, "valid"),
        },
        {"pool": _Pool("max", 2)},
    )


def _block_c(width: int) -> tuple[dict[str, Step], ...]:
    flat, tall = (1, 7), (7, 1)
    return (
        {"branch1x1": _Conv(192)},
        {
            "branch7x7_1": _Conv(width),
            "branch7x7_2": _Conv(width, flat),
            "branch7x7_3": _Conv(192, tall),
        },
        {
            "branch7x7dbl_1": _Conv(width),
            "branch7x7dbl_2": _Conv(width, tall),
            "branch7x7dbl_3": _Conv(width, flat),
            "branch7x7dbl_4": _Conv(width, tall),
            "branch7x7dbl_5": _Conv(192, flat),
        },
        {"pool": _Pool("average"), "branch_pool": _Conv(192)},
    )


def _block_d() -> tuple[dict[str, Step], ...]:
    return (
        {"branch3x3_1": _Conv(192), "branch3x3_2": _Conv(320, 3, 2, "valid")},
        {
            "branch7x7x3_1": _Conv(192),
            "branch7x7x3_2": _Conv(192, (1, 7)),
            "branch7x7x3_3": _Conv(192, (7, 1)),
            "branch7x7x3_4": _Conv(192, 3, 2, "valid"),
        },
        {"pool": _Pool("max", 2)},
    )


def _block_e(pool: Literal["average", "max"]) -> tuple[dict[str, Step], ...]:
    def crossed(name: str) -> dict[str, _Conv]:
        return {f"{name}a": _Conv(384, (1, 3)), f"{name}b": _Conv(384, (3, 1))}

    return (
        {"branch1x1": _Conv(320)},
        {"branch3x3_1": _Conv(384), "branch3x3_2": crossed("branch3x3_2")},
        {
            "branch3x3dbl_1": _Conv(448),
            "branch3x3dbl_2": _Conv(384, 3),
            "branch3x3dbl_3": crossed("branch3x3dbl_3"),
        },
        {"pool": _Pool(pool), "branch_pool": _Conv(192)},
    )


_BLOCKS: dict[str, tuple[dict[str, Step], ...]] = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _block_b(),
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _block_d(),
    "Mixed_7b": _block_e("average"),
    "Mixed_7c": _block_e("max"),
}


@keras.saving.register_keras_serializable("keras_ldm")
class InceptionV3(FeatureNetwork):
    """Features of images for the Fréchet distance, the kernel distance and the Inception Score.

    It is made with random weights; `keras_ldm.models.pretrained_inception` reads the published ones. It
    is frozen.

    Args:
        resize_mode: how images are resized to 299x299: see `keras_ldm.layers.resize_images`.
        **kwargs: see `keras.Model`.

    Input shape: `(batch, height, width, 3)`, uint8 or floats in [-1, 1].

    Output: a dictionary of float32 tensors:
        "pooled", `(batch, 2048)`, for FID, KID, precision and recall;
        "spatial", `(batch, 2023)`, seven channels of a layer of 17x17, for sFID;
        "logits", `(batch, 1008)`, without the bias, for the Inception Score.

    Raises:
        ValueError: for another mode; for images that do not have three channels.
    """

    side = 299

    def __init__(self, resize_mode: ResizeMode = "bilinear_legacy", **kwargs: Any) -> None:
        super().__init__(resize_mode, **kwargs)
        self.units: dict[str, ConvUnit] = {}
        channels = self._make_units("", _STEM, 3)
        for name, branches in _BLOCKS.items():
            channels = sum(self._make_units(f"{name}.", branch, channels) for branch in branches)
        self.fc = keras.layers.Dense(1008, use_bias=False, dtype=self.dtype_policy, name="fc")
        self.fc.build((None, channels))
        self.built = True
        freeze(self)

    def _make_units(self, prefix: str, steps: Mapping[str, Step], channels: int) -> int:
        """Makes the units of a branch; says how many channels it ends with."""
        for name, step in steps.items():
            if isinstance(step, Mapping):
                beside = [self._make_units(prefix, {x: y}, channels) for x, y in step.items()]
                channels = sum(beside)
            elif isinstance(step, _Conv):
                place = prefix + name
                unit = ConvUnit(*step, dtype=self.dtype_policy, name=place.replace(".", "_"))
                unit.build((None, None, None, channels))
                self.units[place] = unit
                channels = step.filters
        return channels

    def _run(self, prefix: str, steps: Mapping[str, Step], x: Tensor) -> Tensor:
        """What a branch makes of its input."""
        for name, step in steps.items():
            if isinstance(step, Mapping):
                x = ops.concatenate([self._run(prefix, {y: z}, x) for y, z in step.items()], axis=-1)
            elif isinstance(step, _Conv):
                x = self.units[prefix + name](x)
            else:
                pool = ops.average_pool if step.kind == "average" else ops.max_pool
                padding = "same" if step.strides == 1 else "valid"
                x = pool(x, 3, step.strides, padding, data_format="channels_last")
        return x

    def call(self, inputs: Tensor) -> dict[str, Tensor]:
        """The features, by name."""
        pixels = self.pixels(inputs)
        x = self._run("", _STEM, ops.cast((pixels - 128.0) / 128.0, self.compute_dtype))
        spatial = x
        for name, branches in _BLOCKS.items():
            outputs = [self._run(f"{name}.", branch, x) for branch in branches]
            if name == _SPATIAL_BLOCK:
                spatial = outputs[0][..., :_SPATIAL_CHANNELS]
            x = ops.concatenate(outputs, axis=-1)
        pooled = ops.mean(ops.cast(x, "float32"), axis=(1, 2))
        return {
            "pooled": pooled,
            "spatial": ops.reshape(ops.cast(spatial, "float32"), (ops.shape(x)[0], -1)),
            "logits": ops.cast(self.fc(pooled), "float32"),
        }
